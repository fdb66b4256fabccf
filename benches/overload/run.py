#!/usr/bin/env python3
"""More load than the backends can answer, beside HAProxy and nginx: benches/overload/run.py target/release/tidegate

Ten backends of two slots and 70 ms (exponential) answer 286 requests a second. Each arm gets half of that for a while,
then 1.3, 2 and 5 times as much, and at 1.3 times five backends are killed and started again. HAProxy (maxconn 2, its
queue for 100 ms) and nginx (limit_req at 286/s, limit_conn, max_conns 2) are told what the backends can do; tidegate
finds out. A tenth of the load is critical, the rest half normal and half sheddable, which only tidegate tells apart.

Printed for each phase: answers ÷ what the backends can answer, p50 and p99 of what was answered, and what share of each
class was answered. Open loop, Poisson arrivals, arms alternate. Then a greedy client beside a polite one.
"""

import argparse
import concurrent.futures
import csv
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time

import picture
from pool import Pool
from proxies import ARMS, Proxy

SLOTS, DELAY_MS, BACKENDS = 2, 70, 10
# Seconds.
FAIR = 60
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
CLASSES = {"critical": 0.1, "normal": 0.45, "sheddable": 0.45}


def load(tidegate, url, rate, seconds, seed, client="192.0.2.1"):
    """One generator's report."""
    with tempfile.NamedTemporaryFile("r", suffix=".csv") as log:
        command = [tidegate, "load", "--url", url, "--rate", f"{rate:.3f}", "--duration", f"{seconds}s", "--json",
                   "--seed", str(seed), "--header", f"x-forwarded-for: {client}", "--timeout", "10s", "--log", log.name]
        done = subprocess.run(command, capture_output=True, text=True)
        report = json.loads(done.stdout)
        rows = csv.DictReader(log)
        took = sorted(float(one["latency_ms"]) for one in rows if one["outcome"] == "200")
    report["ok_ms"] = {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99)}
    return report


def quantile(took, q):
    return took[min(len(took) - 1, int(len(took) * q))] if took else 0.0


def generate(tidegate, port, rate, seconds, seed):
    """The classes side by side."""
    with concurrent.futures.ThreadPoolExecutor() as workers:
        jobs = {name: workers.submit(load, tidegate, f"http://127.0.0.1:{port}/{name}", rate * share, seconds, seed + i)
                for i, (name, share) in enumerate(CLASSES.items())}
        return {name: job.result() for name, job in jobs.items()}


def answered(report):
    return sum(count for status, count in report["status"].items() if status.startswith("2"))


def row(reports, seconds, capacity):
    """Of one phase: share of the capacity, p50 and p99 of the answers by weight of their class, share by class."""
    good = {name: answered(report) for name, report in reports.items()}
    total = sum(good.values())
    weigh = lambda q: sum(reports[n]["ok_ms"][q] * good[n] for n in good) / max(1, total)
    return {"answered": total / seconds / capacity, "p50": weigh("p50"), "p99": weigh("p99"),
            **{name: good[name] / max(1, reports[name]["planned"]) for name in good}}


def rounds(arguments, kind, seed, folder):
    """All phases of one arm in one round."""
    pool = Pool(arguments.tidegate, BACKENDS, SLOTS, DELAY_MS)
    proxy = None
    try:
        proxy = Proxy(kind, arguments.tidegate, folder, pool.ports, pool.capacity)
        capacity, rows = pool.capacity, {}

        def phase(name, rate, seconds=arguments.seconds, of=1.0):
            reports = generate(arguments.tidegate, proxy.port, rate * capacity, seconds, seed)
            rows[name] = row(reports, seconds, capacity * of)

        generate(arguments.tidegate, proxy.port, 0.5 * capacity, 5, seed)
        phase("0.5", 0.5)
        for over in ("1.3", "2", "5"):
            # What it takes to notice is part of the first phase only.
            phase(over, float(over))
        pool.stop(BACKENDS // 2)
        time.sleep(3)
        phase("1.3, five of ten", 0.65, of=0.5)
        pool.start()
        time.sleep(3)
        phase("1.3, ten again", 1.3)
        return rows
    finally:
        if proxy:
            proxy.stop()
        pool.stop()


def fairness(arguments, folder):
    """A polite client's p99 in calm and beside one that asks for fifty times as much, of 1,200 requests each."""
    pool = Pool(arguments.tidegate, BACKENDS, SLOTS, DELAY_MS)
    proxy = None
    try:
        proxy = Proxy("tidegate", arguments.tidegate, folder, pool.ports, pool.capacity)
        polite, url = 20, f"http://127.0.0.1:{proxy.port}/normal"
        calm = load(arguments.tidegate, url, polite, FAIR, 1)
        with concurrent.futures.ThreadPoolExecutor() as workers:
            greedy = workers.submit(load, arguments.tidegate, url, 50 * polite, FAIR + 10, 2,
                                    "198.51.100.1")
            time.sleep(8)
            beside = load(arguments.tidegate, url, polite, FAIR, 3)
            greedy = greedy.result()
        return {"calm": calm["ok_ms"]["p99"], "beside": beside["ok_ms"]["p99"],
                "refused": beside["sent"] - answered(beside), "of": beside["sent"],
                "greedy": answered(greedy) / greedy["sent"]}
    finally:
        if proxy:
            proxy.stop()
        pool.stop()


def table(found):
    arms = list(found)
    lines = ["| load ÷ capacity | proxy | answered ÷ capacity | p50 ms | p99 ms | critical | normal | sheddable |",
             "|---|---|---|---|---|---|---|---|"]
    for phase in found[arms[0]][0]:
        for kind in arms:
            of = lambda key: statistics.median(one[phase][key] for one in found[kind])
            lines.append(f"| {phase} | {kind} | {of('answered'):.3f} | {of('p50'):.0f} | {of('p99'):.0f} | "
                         + " | ".join(f"{100 * of(name):.1f} %" for name in CLASSES) + " |")
    return lines


def write(page, said, found):
    """Between the marks of the page; the chart has its name."""
    with open(page) as file:
        begin, rest = file.read().split(BEGIN, 1)
        end = rest.split(END, 1)[1]
    with open(page, "w") as file:
        file.write("\n".join([begin + BEGIN, "", *said, "", END]) + end)
    with open(os.path.splitext(page)[0] + ".svg", "w") as file:
        file.write(picture.draw(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tidegate")
    parser.add_argument("--seconds", type=int, default=10, help="of each phase [10]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=ARMS, action="append")
    parser.add_argument("--json", metavar="FILE", help="every round")
    parser.add_argument("--write", metavar="PAGE", help="put the figures between its marks, and the chart beside it")
    arguments = parser.parse_args()
    arms = arguments.only or list(ARMS)
    found = {kind: [] for kind in arms}
    for number in range(arguments.rounds):
        for kind in arms:
            with tempfile.TemporaryDirectory() as folder:
                os.chmod(folder, 0o777)
                found[kind].append(rounds(arguments, kind, 100 * number, folder))
    said = [f"{platform.machine()}, {os.cpu_count()} CPUs, medians of {arguments.rounds} alternated rounds of "
            f"{arguments.seconds} s a phase.", "", *table(found)]
    if "tidegate" in arms:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            fair = fairness(arguments, folder)
        said += ["", f"A polite client (20/s) beside one with 1000/s: p99 {fair['beside']:.0f} ms, in calm "
                     f"{fair['calm']:.0f} ms ({fair['beside'] / fair['calm']:.2f}); {fair['refused']} of {fair['of']} "
                     f"refused. Of the greedy one {100 * fair['greedy']:.0f} % were answered."]
    print("\n".join(said))
    if arguments.write:
        write(arguments.write, said, found)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
