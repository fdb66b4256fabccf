#!/usr/bin/env python3
"""Balancing beside nginx and HAProxy: backends that differ, stall, fail and return. See docs/balancing.md.

    cargo build --release --bin tidegate --example balancing_backends
    benches/balancing/run.py                              # everything: five rounds, about an hour
    benches/balancing/run.py --only 2,5-503 --rounds 1    # some scenarios, quickly
    benches/balancing/run.py --only shares                # what shares tidegate gives
    benches/balancing/run.py --write docs/balancing.md

Needs nginx and haproxy (Debian: nginx-light haproxy) and Python 3.9. Only addresses of 127.0.0.1 are used.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# Processes, programs, tables: those of the other bench.
sys.path.append(os.path.join(os.path.dirname(HERE), "side_by_side"))

import arms  # noqa: E402
import machine  # noqa: E402
import page  # noqa: E402
import picture  # noqa: E402
import proxies  # noqa: E402
from measure import Bench  # noqa: E402
from scenarios import SCENARIOS, SHARES  # noqa: E402

SHARE_ROUNDS = "shares"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join([*(s.name for s in SCENARIOS), SHARE_ROUNDS])
    parser.add_argument("--only", default="all", help=f"some of {names}; none: only write again what is kept")
    parser.add_argument("--arms", default="", help="only arms whose names contain one of these, as "
                        "leastconn,random; tidegate always")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0,
                        help="multiplies the seconds of the scenarios in which nothing happens at set times")
    parser.add_argument("--bin", default=os.path.join(arms.ROOT, "target", "release"),
                        help="the folder of tidegate and examples/balancing_backends [target/release]")
    parser.add_argument("--realtime", action="store_true", help="everything, of every arm, before what else "
                        "runs on this machine (SCHED_RR)")
    parser.add_argument("--write", metavar="FILE", help="put the tables into this Markdown file, every round "
                        "as JSON and a chart as SVG beside it; what --only leaves out stays as it is there")
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


def chosen(text):
    names = [*(s.name for s in SCENARIOS), SHARE_ROUNDS]
    if text in ("all", "none"):
        return names if text == "all" else []
    wanted = [one.strip() for one in text.split(",")]
    if unknown := set(wanted) - set(names):
        sys.exit(f"--only {','.join(sorted(unknown))}: there are {', '.join(names)}")
    return wanted


def facts(entries, before, began):
    """What the figures depend on, as (name, value)."""
    programs = dict.fromkeys(f"{e.rival.kind} {e.rival.version}" for e in entries)
    return [*machine.facts(), ("programs", ", ".join(programs)),
            ("load average", f"{before:.1f} before"), ("date", began)]


class Results:
    """What was measured, now and (where it is kept in a file) before."""

    def __init__(self, target):
        self.target = target
        self.beside = os.path.splitext(target)[0] if target else None
        self.kept = {"scenarios": {}, "shares": {}}
        if target and os.path.exists(f"{self.beside}.json"):
            with open(f"{self.beside}.json") as file:
                self.kept = json.load(file)

    def save(self):
        """After each scenario, so that a run that is cut short is not lost."""
        text = page.markdown(self.kept)
        if self.target:
            with open(self.target) as file:
                whole = page.replace(file.read(), text)
            for path, content in ((self.target, whole), (f"{self.beside}.svg", picture.draw(self.kept)),
                                  (f"{self.beside}.json", json.dumps(self.kept, indent=1) + "\n")):
                with open(path, "w") as file:
                    file.write(content)
        return text


def main():
    asked = arguments()
    wanted = chosen(asked.only)
    tidegate = os.path.join(asked.bin, "tidegate")
    backends = os.path.join(asked.bin, "examples", "balancing_backends")
    for path in (tidegate, backends):
        if not os.access(path, os.X_OK):
            sys.exit(f"{path} is not there; make it with: "
                     "cargo build --release --bin tidegate --example balancing_backends")
    entries, missing = proxies.entries(tidegate)
    for kind in missing:
        say(f"{kind} is not installed: left out")
    parts = asked.arms.split(",")
    entries = [e for e in entries if e.label == proxies.OURS or any(part in e.label for part in parts)]
    bench = Bench(tidegate, backends, entries, machine.Cpus(False).every, asked.scale, say)
    if asked.realtime:
        # Whatever is started from here on has it too.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    results, failures = Results(asked.write), 0
    command = shlex.join([os.path.relpath(sys.argv[0], arms.ROOT), *sys.argv[1:]])

    def told():
        return {"command": command, "rounds_asked": asked.rounds,
                "facts": facts(entries, machine.load_average(), time.strftime("%Y-%m-%d"))}

    for scenario in SCENARIOS:
        if scenario.name not in wanted:
            continue
        say(f"({scenario.name}) {scenario.title}")
        one = told() | {"seconds": bench.lasting(scenario), "rounds": []}
        try:
            for number in range(asked.rounds):
                say(f" round {number + 1}")
                one["rounds"].append(bench.round(scenario, number))
                results.kept["scenarios"][scenario.name] = one
            results.save()
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            say(f"  FAILED: {error}")
            failures += 1
    if SHARE_ROUNDS in wanted:
        say("(shares)")
        try:
            results.kept["shares"] = told() | {"scenarios": bench.shares(SHARES)}
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            say(f"  FAILED: {error}")
            failures += 1
    print(results.save())
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
