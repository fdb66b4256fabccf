#!/usr/bin/env python3
"""tidegate beside nginx and HAProxy, on this machine, in one run. See docs/performance.md.

    cargo build --release
    benches/side_by_side/run.py                         # every case, five rounds of two seconds
    benches/side_by_side/run.py --case a,c --rounds 9
    benches/side_by_side/run.py --rival haproxy=/opt/haproxy/sbin/haproxy
    benches/side_by_side/run.py --rival tidegate=EARLIER_BUILD    # against an earlier build
    benches/side_by_side/run.py --write docs/performance.md

Needs nginx, haproxy, wrk and h2load (Debian: nginx-light haproxy wrk nghttp2-client) and Python 3.9.
Only addresses of 127.0.0.1 are used.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time

import arms
import machine
import report
import special
from bench import Bench
from cases import CASES

SPECIAL = ("j", "k", "l", "n")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="all", help="letters a to n, as a,c,j; measured in that order")
    parser.add_argument("--rounds", type=int, default=5, help="alternated rounds of each case")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--idle", type=int, default=8000, help="connections of case j")
    parser.add_argument("--rival", action="append", default=[], metavar="KIND=PATH",
                        help="another nginx, haproxy or tidegate (of an earlier build), beside the installed ones")
    parser.add_argument("--tidegate", default=os.path.join(arms.ROOT, "target", "release", "tidegate"),
                        help="the program under test [target/release/tidegate]")
    parser.add_argument("--no-pin", action="store_true", help="leave the choice of CPUs to the kernel")
    parser.add_argument("--write", metavar="FILE", help="put the tables into this Markdown file, JSON beside it")
    return parser.parse_args()


def rivals(asked):
    """The installed ones and those that were asked for; tidegate comes last."""
    found = []
    for kind in ("nginx", "haproxy"):
        if path := arms.program(kind):
            found.append(arms.Rival(kind, path))
        else:
            say(f"{kind} is not installed: left out")
    for text in asked.rival:
        kind, _, path = text.partition("=")
        if kind not in ("nginx", "haproxy", "tidegate") or not os.access(path, os.X_OK):
            sys.exit(f"--rival {text}: write nginx=PATH, haproxy=PATH or tidegate=PATH of a program")
        found.append(arms.Rival(kind, path, f"{kind} {'before' if kind == 'tidegate' else arms.version(kind, path)}"))
    if not os.access(asked.tidegate, os.X_OK):
        sys.exit(f"{asked.tidegate} is not there; make it with: cargo build --release")
    return [*found, arms.Rival("tidegate", asked.tidegate)]


def say(text):
    print(text, file=sys.stderr, flush=True)


def chosen(text):
    letters = sorted({case.letter for case in CASES} | set(SPECIAL))
    wanted = letters if text == "all" else [one.strip().strip("()") for one in text.split(",")]
    if unknown := set(wanted) - set(letters):
        sys.exit(f"--case {','.join(sorted(unknown))}: there are {', '.join(letters)}")
    return wanted


def measure(bench, letters, asked, result, save):
    """Every chosen case; one that fails is told and does not end the others. Ctrl-C ends them,
    with a report of those that are done."""
    jobs = []
    for case in CASES:
        if case.letter in letters:
            jobs.append((case.letter, case.title, lambda case=case: result["cases"].append(rounds(bench, case))))
    for letter, title, run in (
            ("j", "idle connections", lambda: special.idle(bench, asked.idle, say)),
            ("k", "many services", lambda: special.services(bench, say)),
            ("l", "reloading", lambda: special.reloading(bench, say)),
            ("n", "two workers", lambda: special.two_workers(bench, say))):
        if letter in letters:
            jobs.append((letter, title, lambda letter=letter, run=run: result["special"].update({letter: run()})))
    # In the order that was asked for.
    jobs.sort(key=lambda job: letters.index(job[0]))
    for letter, title, job in jobs:
        say(f"({letter}) {title}")
        try:
            job()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            result["errors"].append(f"({letter}) {title}: {error}")
            say(f"  FAILED: {error}")
        except KeyboardInterrupt:
            result["errors"].append(f"({letter}) and what follows it: the run was ended")
            return
        save()


def rounds(bench, case):
    with bench.echo() as echo, bench.arms(case.settings(echo)) as running:
        measured = bench.alternate(running, case.drive, say)
    return {"letter": case.letter, "title": case.title, "unit": case.unit, "targets": case.targets,
            "rounds": measured}


def facts(bench, load_before):
    """What the figures depend on, as (name, value)."""
    cpus = bench.cpus
    return [
        *machine.facts(),
        *((rival.label, f"{rival.kind} {rival.version}") for rival in bench.rivals),
        ("one worker each", f"proxy on CPU {min(cpus.proxy)}, load and origin on the others"
         if cpus.pinned else "not pinned"),
        ("rounds", f"{bench.rounds} of {bench.seconds} s, alternated"),
        ("load average", f"{load_before:.1f} before, {machine.load_average():.1f} after"),
        ("date", time.strftime("%Y-%m-%d")),
    ]


def write(page, text, result):
    """Into the Markdown file, and every round as JSON beside it."""
    with open(page) as file:
        whole = report.replace(file.read(), text)
    with open(page, "w") as file:
        file.write(whole)
    with open(os.path.splitext(page)[0] + ".json", "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


def main():
    asked = arguments()
    letters = chosen(asked.case)
    cpus = machine.Cpus(not asked.no_pin)
    # The driver itself must not sit on the CPU of the proxy.
    os.sched_setaffinity(0, cpus.rest)
    bench = Bench(cpus, rivals(asked), asked.rounds, asked.seconds)
    before = machine.load_average()
    result = {
        "ours": bench.ours.label,
        "command": shlex.join([os.path.relpath(sys.argv[0], arms.ROOT), *sys.argv[1:]]),
        "cases": [], "special": {}, "errors": [],
    }

    def save():
        """Rewrites the table after each case, so that a run that is cut short is not lost."""
        result["facts"] = facts(bench, before)
        text = report.markdown(result)
        if asked.write:
            write(asked.write, text, result)
        return text

    measure(bench, letters, asked, result, save)
    print(save())
    sys.exit(1 if result["errors"] else 0)


if __name__ == "__main__":
    main()
