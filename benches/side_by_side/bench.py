"""One bench: the machine's CPUs, the origin, the arms under test, and how a round is measured."""

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager

import load
from arms import Arm, Origin
from machine import Process, free_ports


class Bench:
    """Everything that the cases share. `rivals` in the order of the table, tidegate last."""

    def __init__(self, cpus, rivals, rounds, seconds):
        self.cpus, self.rivals, self.rounds, self.seconds = cpus, rivals, rounds, seconds
        self.ours = rivals[-1]

    @contextmanager
    def arms(self, options, rivals=None):
        """An origin and an arm for each rival, stopped at the end whatever happens."""
        folder = tempfile.mkdtemp(prefix="side_by_side.")
        running = []
        try:
            origin = Origin(folder, self.cpus)
            running.append(origin)
            arms = []
            for rival in rivals or self.rivals:
                arms.append(Arm(rival, folder, self.cpus, origin, options))
                running.append(arms[-1])
            yield arms
        finally:
            for one in reversed(running):
                one.stop()
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def echo(self):
        """A WebSocket origin; gives its port."""
        port = free_ports(1)[0]
        script = os.path.join(load.HERE, "clients.py")
        process = Process([sys.executable, script, "echo", port], self.cpus.rest, os.devnull)
        try:
            yield port
        finally:
            process.stop()

    def measure(self, arm, drive):
        """One round of one arm, as the JSON keeps it."""
        before = arm.process.cpu()
        outcome = drive(self.cpus, arm, self.seconds)
        cpu = arm.process.cpu() - before
        if not arm.process.alive():
            raise RuntimeError(f"{arm.label} ended in the middle of a round")
        if not outcome.requests:
            raise RuntimeError(f"{arm.label} answered nothing; {outcome.failures} failures")
        return {
            "requests": outcome.requests, "failures": outcome.failures,
            "cpu_us": cpu * 1e6 / outcome.requests,
            "per_second": outcome.requests / outcome.seconds,
            "p50_ms": outcome.p50, "p99_ms": outcome.p99,
            "peak_rss_kib": arm.process.memory("VmHWM"),
        }

    def alternate(self, arms, drive, say):
        """`rounds` rounds, the arms one after the other in each, another first every time.

        A shorter round of each comes before: connections to the origin, caches, page faults.
        """
        for arm in arms:
            drive(self.cpus, arm, 1)
        rounds = {arm.label: [] for arm in arms}
        for number in range(self.rounds):
            turn = number % len(arms)
            for arm in arms[turn:] + arms[:turn]:
                rounds[arm.label].append(self.measure(arm, drive))
                say(f"  round {number + 1}  {arm.label:<16} {rounds[arm.label][-1]['cpu_us']:8.1f} µs  "
                    f"{rounds[arm.label][-1]['per_second']:9.0f}/s  "
                    f"{rounds[arm.label][-1]['failures']} failed")
        return rounds
