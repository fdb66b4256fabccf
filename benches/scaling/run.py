#!/usr/bin/env python3
"""Scaling policies in the simulator: the tables of docs/scaling.md.

    cargo build --release
    benches/scaling/run.py --traces DIR --write docs/scaling.md        # everything, about a quarter of an hour
    benches/scaling/run.py --only fluid                                # shapes only, without --traces

DIR has wc98_week.csv, nab_elb_request_count_5min.csv and azure_llm_2023_conv_arrivals_ms.csv; docs/scaling.md says
where they are from. Needs Python 3.9. Uses no network.
"""

import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LEADS = [5, 30, 90]
COMPARED = ["hpa", "keda-http", "kpa", "slo"]
NAMES = {"hpa": "HPA, CPU 70 %", "keda-http": "KEDA-http", "kpa": "Knative KPA", "slo": "`slo`", "aws": "AWS target tracking",
         "linear": "linear", "exponential": "exponential", "static": "static", "oracle": "oracle"}
SHAPES = {name: ["--shape", name] for name in ("ramp", "step", "spike")}


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
    command = [tidegate, "simulate", *load, "--lead", f"{lead}s", "--compare", ",".join(policies),
               "--seeds", str(seeds), "--json", *more]
    print(" ".join(command), file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


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
    parser.add_argument("--only", default="fluid,all,noisy,requests", help="some of them, by commas")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--request-seeds", type=int, default=5)
    parser.add_argument("--write", metavar="FILE", help="put the tables into this file instead of printing them")
    asked = parser.parse_args()
    files = traces(asked.traces) if asked.traces else {"fluid": {}, "noisy": {}, "requests": {}}
    tables = {}
    for name in asked.only.split(","):
        if name == "fluid":
            tables[name] = table(asked.bin, {**files["fluid"], **SHAPES}, asked.seeds)
        elif name == "all":
            tables[name] = all_policies(asked.bin, {**files["fluid"], **SHAPES}, asked.seeds)
        elif name == "noisy":
            tables[name] = table(asked.bin, files["noisy"], asked.seeds)
        elif name == "requests":
            tables[name] = table(asked.bin, {**SHAPES, **files["requests"]}, asked.request_seeds, ["--requests"])
        else:
            parser.error(f"--only {name}: write some of fluid, all, noisy, requests")
    if asked.write:
        put(asked.write, tables)
    else:
        print("\n".join(tables.values()))


if __name__ == "__main__":
    main()
