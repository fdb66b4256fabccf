#!/usr/bin/env python3
"""Scaling policies in the simulator: the tables of docs/scaling.md.

    cargo build --release
    benches/scaling/run.py --traces DIR --write docs/scaling.md        # everything, about half an hour
    benches/scaling/run.py --only fluid                                # shapes only, without --traces
    benches/scaling/run.py --only seasonal --seasonal-seeds 1          # one of the tables, quickly

DIR has wc98_week.csv, nab_elb_request_count_5min.csv and azure_llm_2023_conv_arrivals_ms.csv; docs/scaling.md says
where they are from. Needs Python 3.9. Uses no network.
"""

import argparse
import concurrent.futures
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LEADS = [5, 30, 90]
COMPARED = ["hpa", "keda-http", "kpa", "slo"]
NAMES = {"hpa": "HPA, CPU 70 %", "keda-http": "KEDA-http", "kpa": "Knative KPA", "slo": "`slo`", "aws": "AWS target tracking",
         "linear": "linear", "exponential": "exponential", "static": "static", "oracle": "oracle"}
SHAPES = {name: ["--shape", name] for name in ("ramp", "step", "spike")}
PEAKS = {"ramp": 1500, "step": 1000, "spike": 1500}
# A service whose own scaler takes part, with its whole pipeline; goal, slots and service time as in the model.
SERVICE = """
[[listener]]
name = "http"
address = "127.0.0.1:0"
[[route]]
service = "app"
[service.app.orchestrator]
kind = "process"
command = ["true"]
[service.app.scaling]
min = 2
max = 60
[service.app.scaling.slo]
latency = "450ms"
"""
GIVEN = 'slots = {slots}\nservice_time = "100ms"\n'
MODEL = ["--service-time", "100ms", "--slo", "250ms"]
TABLES = ["fluid", "all", "noisy", "requests", "learned", "seasonal", "headroom"]


def traces(folder):
    """The loads made from files, as (in both fidelities) arguments."""
    wc98, nab, azure = (os.path.join(folder, name) for name in (
        "wc98_week.csv", "nab_elb_request_count_5min.csv", "azure_llm_2023_conv_arrivals_ms.csv"))
    day = ["--trace", wc98, "--peak", "1200", "--from"]
    return {
        "fluid": {"WC98 30 Jun": [*day, "1998-06-30", "--for", "24h"]},
        "noisy": {"NAB, 2 days": ["--trace", nab, "--peak", "1200", "--for", "48h"],
                  "Azure, 1 h": ["--trace", azure, "--peak", "1200"]},
        "requests": {"WC98 30 Jun, 18–21 h": [*day, "1998-06-30T18:00", "--for", "3h"],
                     "Azure, 1 h": ["--trace", azure, "--peak", "1200"]},
    }


def simulate(tidegate, load, lead, policies, seeds, more=()):
    compare = ["--compare", ",".join(policies)] if policies else []
    command = [tidegate, "simulate", *load, "--lead", f"{lead}s", *compare, "--seeds", str(seeds), "--json", *more]
    print(" ".join(command), file=sys.stderr, flush=True)
    # What a simulation of a service leaves out is told on stderr, each time.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def cell(policy):
    late, cost = policy["violations_percent"], policy["cost"]
    return (f"{late['mean']:.3f} ± {late['sd']:.3f} @ {cost['mean']:.3f} ± {cost['sd']:.3f} "
            f"({policy['flips']['mean']:.0f})")


def verdict(found):
    """Whether `slo` has no more violations than the KPA, at no more cost."""
    slo, kpa = found["slo"], found["kpa"]
    late, bound = slo["violations_percent"], kpa["violations_percent"]
    allowed = max(0.0005, 2 * max(late["sd"], bound["sd"]))
    fewer, cheaper = late["mean"] <= bound["mean"] + allowed, slo["cost"]["mean"] <= kpa["cost"]["mean"]
    return {(True, True): "met", (False, True): "**more violations**", (True, False): "**dearer**",
            (False, False): "**more violations, dearer**"}[fewer, cheaper]


def table(tidegate, loads, seeds, more=()):
    """A table for each lead time: a row a policy, a column a load."""
    out = []
    for lead in LEADS:
        columns = {}
        for name, load in loads.items():
            found = simulate(tidegate, load, lead, COMPARED, seeds, more)
            columns[name] = {policy["policy"]: policy for policy in found["policies"]}
        out += [f"Lead time {lead} s:", "", "| policy | " + " | ".join(columns) + " |",
                "|---|" + "---|" * len(columns)]
        for policy in COMPARED:
            cells = " | ".join(cell(found[policy]) for found in columns.values())
            out.append(f"| {NAMES[policy]} | {cells} |")
        verdicts = " | ".join(verdict(found) for found in columns.values())
        out += [f"| `slo` against the KPA | {verdicts} |", ""]
    return "\n".join(out)


def all_policies(tidegate, loads, seeds):
    """Every reference policy at 30 s, with what else is measured."""
    out = []
    for name, load in loads.items():
        found = simulate(tidegate, load, 30, NAMES, seeds)
        out += [f"{name}:", "", "| policy | late % | dropped % | wait p99 s | cost × | backend-hours | flips | θU | θO | τU | τO |",
                "|---|---|---|---|---|---|---|---|---|---|---|"]
        for p in found["policies"]:
            mean = {key: p[key]["mean"] for key in ("violations_percent", "dropped_percent", "cost", "backend_hours", "flips")}
            out.append(f"| {NAMES[p['policy']]} | {mean['violations_percent']:.3f} | {mean['dropped_percent']:.3f} "
                       f"| {p['wait_p99']:.3f} | {mean['cost']:.3f} | {mean['backend_hours']:.2f} | {mean['flips']:.0f} "
                       f"| {p['theta_u']:.1f} | {p['theta_o']:.1f} | {p['tau_u']:.1f} | {p['tau_o']:.1f} |")
        out.append("")
    return "\n".join(out)


class Services:
    """Configurations of a service that is simulated as it would run, and loads made here, in a folder."""

    def __init__(self, tidegate, folder):
        self.tidegate, self.folder, self.made = tidegate, folder, 0

    def write(self, ending, text):
        self.made += 1
        path = os.path.join(self.folder, f"{self.made}{ending}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def configure(self, keys):
        return ["-c", self.write(".toml", SERVICE + keys), "--service", "app", *MODEL]

    def trace(self, minutes):
        rows = (f"{60 * minute},{60 * rate:.3f}" for minute, rate in enumerate(minutes))
        return ["--trace", self.write(".csv", "\n".join([*rows, f"{60 * len(minutes)},0"]))]

    def play(self, load, lead, service, seeds, more=("--compare", "oracle")):
        found = simulate(self.tidegate, load, lead, [], seeds, [*service, *more])
        return {policy["policy"]: policy for policy in found["policies"]}


def short(policy):
    return f"{policy['violations_percent']['mean']:.3f} @ {policy['cost']['mean']:.3f}"


def learned(services, seeds):
    """The service with slots and service time given, with nothing given, and the KPA."""
    out = ["| slots | lead time | load | `slo`, slots given | `slo`, learned | Knative KPA |", "|---|---|---|---|---|---|"]
    for slots in (1, 4, 16, 50):
        given, nothing = services.configure(GIVEN.format(slots=slots)), services.configure("")
        for lead in LEADS:
            for shape, peak in PEAKS.items():
                load = ["--shape", shape, "--peak", str(peak * slots / 4), "--slots", str(slots)]
                found = services.play(load, lead, given, seeds, ["--compare", "kpa"])
                other = services.play(load, lead, nothing, seeds)
                out.append(f"| {slots} | {lead} s | {shape} | {short(found['app'])} | {short(other['app'])} "
                           f"| {short(found['kpa'])} |")
    return "\n".join(out) + "\n"


def days(folder):
    """Loads that repeat themselves, and one that does not: name, noise a minute, and the rate of each minute for a seed."""
    def every(count, rate):
        return lambda seed: [rate(minute) for minute in range(count * 1440)]

    def late(seed):
        """Each rise and fall up to four minutes early or late."""
        chance = random.Random(seed)
        off = [chance.randint(-4, 4) for _ in range(73)]
        return [1000 if (minute - off[minute // 60]) // 60 % 2 == 1 else 100 for minute in range(3 * 1440)]

    def jumps(seed):
        chance = random.Random(seed)
        levels = [chance.uniform(100, 1000) for _ in range(3 * 72)]
        return [levels[minute // 20] for minute in range(3 * 1440)]

    def wave(length):
        return lambda minute: 600 - 500 * math.cos(2 * math.pi * minute / length)

    def football(seed):
        with open(os.path.join(folder, "wc98_week.csv"), encoding="utf-8") as file:
            rows = (line.split(",") for line in file if line.startswith("1998-06-30"))
            counts = [float(count) for _, count in rows]
        return [count * 1200 / max(counts) for count in counts] * 3

    hours = every(3, lambda minute: 1000 if minute // 60 % 2 == 1 else 100)
    working = every(7, lambda minute: 1000 if minute % 1440 // 60 in (8, 9, 14, 15) else 100)
    loads = [("100 and 1000/s by the hour, 3 days", 0.03, hours),
             ("the same, 10 % noise a minute", 0.10, hours),
             ("the same, each up to 4 minutes early or late", 0.03, late),
             ("100/s, and 1000/s from 8 to 10 and 14 to 16 h, 7 days", 0.03, working),
             ("sine of a day, 100 to 1100/s, 3 days", 0.03, every(3, wave(1440))),
             ("sine of 30 min, 100 to 1100/s, 3 days", 0.03, every(3, wave(30))),
             ("another rate of 100 to 1000/s every 20 min, 3 days", 0.03, jumps)]
    if folder:
        loads.append(("WC98 30 Jun three times (peak 1200/s, 5 % noise a minute)", 0.05, football))
    return loads


def seasonal(services, folder, seeds):
    """The service with and without `seasonal`, on loads that were made with seeds nobody tuned it on: from 100 on."""
    switches = [services.configure(GIVEN.format(slots=4) + f"seasonal = {switch}\n") for switch in ("false", "true")]
    out = [f"{seeds} seeds; of so many there were more violations with it than without.", "",
           "| load | lead time | without | with | more |", "|---|---|---|---|---|"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for name, noise, load in days(folder):
            traces = {}
            for seed in range(100, 100 + seeds):
                chance = random.Random(seed)
                minutes = [max(0.0, rate * chance.gauss(1, noise)) for rate in load(seed)]
                traces[seed] = [*services.trace(minutes), "--seed", str(seed)]
            for lead in LEADS:
                jobs = [[threads.submit(services.play, traces[seed], lead, switch, 1) for seed in traces]
                        for switch in switches]
                cells, each = [], []
                for runs in jobs:
                    found = [run.result()["app"] for run in runs]
                    late = [policy["violations_percent"]["mean"] for policy in found]
                    each.append(late)
                    cost, flips = (statistics.mean(policy[key]["mean"] for policy in found) for key in ("cost", "flips"))
                    spread = statistics.stdev(late) if len(late) > 1 else 0.0
                    cells.append(f"{statistics.mean(late):.3f} ± {spread:.3f} @ {cost:.3f} ({flips:.0f})")
                more = sum(b > a for a, b in zip(*each))
                out.append(f"| {name} | {lead} s | {cells[0]} | {cells[1]} | {more} |")
            for trace in traces.values():
                os.remove(trace[1])
    return "\n".join(out) + "\n"


def headroom(services, day, seeds):
    """What a smaller head-room brings and costs."""
    cells = [*((f"WC98, {lead} s", day, lead) for lead in LEADS if day),
             ("ramp, 5 s", SHAPES["ramp"], 5), ("step, 30 s", SHAPES["step"], 30), ("spike, 30 s", SHAPES["spike"], 30)]
    out = ["| `headroom` | " + " | ".join(name for name, _, _ in cells) + " |", "|---|" + "---|" * len(cells)]
    for room in (1.25, 1.2, 1.15, 1.1):
        service = services.configure(GIVEN.format(slots=4) + f"headroom = {room}\n")
        found = (services.play(load, lead, service, seeds)["app"] for _, load, lead in cells)
        out.append(f"| {room} | " + " | ".join(map(short, found)) + " |")
    kpa = (simulate(services.tidegate, load, lead, ["kpa"], seeds)["policies"][0] for _, load, lead in cells)
    out.append("| Knative KPA | " + " | ".join(map(short, kpa)) + " |")
    return "\n".join(out) + "\n"


def put(file, tables):
    """Replaces what stands between the marks of each table."""
    with open(file, encoding="utf-8") as text:
        page = text.read()
    for name, made in tables.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        before, rest = page.split(begin, 1)
        _, after = rest.split(end, 1)
        page = f"{before}{begin}\n{made}\n{end}{after}"
    with open(file, "w", encoding="utf-8") as text:
        text.write(page)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", default=os.path.join(ROOT, "target", "release", "tidegate"))
    parser.add_argument("--traces", help="the folder of the traces; shapes only without it")
    parser.add_argument("--only", default=",".join(TABLES), help="some of them, by commas")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--request-seeds", type=int, default=5)
    parser.add_argument("--seasonal-seeds", type=int, default=10)
    parser.add_argument("--write", metavar="FILE", help="put the tables into this file instead of printing them")
    asked = parser.parse_args()
    files = traces(asked.traces) if asked.traces else {"fluid": {}, "noisy": {}, "requests": {}}
    with tempfile.TemporaryDirectory() as folder:
        services = Services(asked.bin, folder)
        make = {
            "fluid": lambda: table(asked.bin, {**files["fluid"], **SHAPES}, asked.seeds),
            "all": lambda: all_policies(asked.bin, {**files["fluid"], **SHAPES}, asked.seeds),
            "noisy": lambda: table(asked.bin, files["noisy"], asked.seeds),
            "requests": lambda: table(asked.bin, {**SHAPES, **files["requests"]}, asked.request_seeds, ["--requests"]),
            "learned": lambda: learned(services, asked.seeds),
            "seasonal": lambda: seasonal(services, asked.traces, asked.seasonal_seeds),
            "headroom": lambda: headroom(services, files["fluid"].get("WC98 30 Jun"), asked.seeds),
        }
        names = asked.only.split(",")
        if not set(names) <= set(TABLES):
            parser.error(f"--only {asked.only}: write some of {', '.join(TABLES)}")
        tables = {name: make[name]() for name in names}
    if asked.write:
        put(asked.write, tables)
    else:
        print("\n".join(tables.values()))


if __name__ == "__main__":
    main()
