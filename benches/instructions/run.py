#!/usr/bin/env python3
"""Instructions that tidegate spends on one small request, under callgrind. See docs/performance.md.

    benches/instructions/run.py                 count, compare with accepted.json, exit 1 at +5 % or more
    benches/instructions/run.py --write         accept what is counted now
    benches/instructions/run.py --top 40        with the files and functions that cost most
    benches/instructions/run.py --case h1 --runs 3

Unlike time, the count hardly depends on the machine and on what else runs there, so it can be a gate.
Needs valgrind, nginx and h2load (Debian: valgrind nginx-light nghttp2-client); without them it is
skipped and says so. Only addresses of 127.0.0.1 are used.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import callgrind
import count
import gate

# By `count`, from side_by_side.
import arms
import machine

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default=",".join(count.CASES), help="h1, h2 or both [both]")
    parser.add_argument("--runs", type=int, default=1, help="counts of each case; their median is taken")
    parser.add_argument("--top", type=int, default=0, help="show so many source files and functions")
    parser.add_argument("--write", action="store_true", help="accept what is counted")
    parser.add_argument("--tidegate", metavar="FILE", help="count this program; without, it is built first")
    parser.add_argument("--accepted", metavar="FILE", default=os.path.join(HERE, "accepted.json"),
                        help="the figures to compare with [accepted.json]")
    parser.add_argument("--measured", metavar="FILE", help="compare figures of an earlier run, count nothing")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, for --measured")
    asked = parser.parse_args()
    asked.case = asked.case.split(",")
    if unknown := set(asked.case) - set(count.CASES):
        parser.error(f"--case {','.join(sorted(unknown))}: there are {', '.join(count.CASES)}")
    return asked


def say(text):
    print(text, file=sys.stderr, flush=True)


def build():
    """The program under test; where cargo puts it."""
    say("building (profile bench-quick)")
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--profile", "bench-quick", "--bin", "tidegate"],
                   cwd=arms.ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    return os.path.join(arms.ROOT, target, "bench-quick", "tidegate")


def measure(asked):
    """`{"figures": …, "made_with": …}` of this program on this machine."""
    binary = asked.tidegate or build()
    # One CPU each: valgrind runs one thread at a time anyhow.
    cpus = machine.Cpus(True)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        origin = arms.Origin(folder, cpus, still=True)
        try:
            for case in asked.case:
                figures[case] = repeated(case, binary, folder, cpus, origin, asked)
        finally:
            origin.stop()
    return {"figures": figures, "made_with": gate.made_with(arms.ROOT)}


def repeated(case, binary, folder, cpus, origin, asked):
    """The median of the runs, rounded: what differs in the last digits is chance."""
    totals = []
    for turn in range(asked.runs):
        say(f"{case}: counting {count.SHORT:,} and {count.LONG:,} requests, {turn + 1} of {asked.runs}")
        profile = count.request(case, binary, os.path.join(folder, str(turn)), cpus, origin)
        totals.append(profile.total())
    if len(totals) > 1:
        spread = (max(totals) - min(totals)) / statistics.median(totals)
        print(f"{case}: {', '.join(f'{total:,.0f}' for total in totals)}: spread {spread:.2%}")
    # Of the last run: which one does not matter to see where the instructions are.
    print(callgrind.tables(case, profile, arms.ROOT, asked.top))
    return round(statistics.median(totals))


def main():
    asked = arguments()
    missing = [tool for tool in ("valgrind", "nginx", "h2load") if not arms.program(tool)]
    if missing and not asked.measured:
        print(f"SKIPPED: instructions a request were not counted, as {', '.join(missing)} is not installed")
        return 0
    measured = gate.read(asked.measured) if asked.measured else measure(asked)
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump(measured, file, indent=2)
    accepted = gate.read(asked.accepted) if os.path.exists(asked.accepted) else {"figures": {}, "made_with": {}}
    if asked.write:
        gate.write(asked.accepted, measured, accepted)
        print(f"accepted: {measured['figures']}, in {os.path.relpath(asked.accepted)}")
        return 0
    passes, lines = gate.compare(measured, accepted)
    print("\n".join(lines))
    return 0 if passes else 1


if __name__ == "__main__":
    sys.exit(main())
