"""One round of a scenario: backends, a proxy before them, the load, and what its log says."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import figures
from arms import get, wait_for
from machine import Process
from proxies import OURS, Proxy

# Below the ports that the kernel gives to connections: one that is closed for a time stays free.
PORTS = range(20000, 30000)
# Runs in all, if the generator was late.
TRIES = 3
# Until a request counts as failed, and so what failures count.
TIMEOUT = figures.FAILED_MS / 1000


def backend_ports(count):
    """Ports that nobody has."""
    found = set()
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return sorted(found)


class Used:
    """CPU time of everything that a run needs, from when this was made: to be made before the loads
    begin, and asked when they have ended and their backends have not."""

    def __init__(self, trials):
        self.trials, self.began, self.before = trials, time.monotonic(), self.spent(trials)

    @staticmethod
    def spent(trials):
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + sum(
            one.proxy.process.cpu() + one.backends.cpu() for one in trials)

    def share(self):
        """Of all CPUs, 0 to 1."""
        return (self.spent(self.trials) - self.before) / (time.monotonic() - self.began) / os.cpu_count()


class Trial:
    """One arm before backends of its own, ready to be begun."""

    def __init__(self, bench, scenario, entry, seed):
        self.bench, self.scenario, self.label, self.seed = bench, scenario, entry.label, seed
        self.folder = tempfile.mkdtemp(prefix="balancing.")
        self.running = []
        try:
            pool = scenario.pool(seed)
            self.names = [f"b{i}" for i in range(len(pool))]
            addresses = [f"127.0.0.1:{port}" for port in backend_ports(len(pool))]
            described = [{"id": name, "address": at, **one}
                         for name, at, one in zip(self.names, addresses, pool)]
            file = os.path.join(self.folder, "scenario.json")
            with open(file, "w") as out:
                json.dump({"seed": seed, "backends": described}, out)
            self.backends = self.keep(Process(
                [bench.backends, file], bench.cpus, os.path.join(self.folder, "backends")))
            last = int(addresses[-1].rpartition(":")[2])
            wait_for(lambda: get(last, "/"), "the backends", self.backends)
            self.proxy = self.keep(
                Proxy(entry, self.folder, bench.cpus, addresses, scenario.settings))
        except BaseException:
            self.stop()
            raise

    def keep(self, one):
        self.running.append(one)
        return one

    def begin(self):
        """The time of the backends and that of the load begin together."""
        url = f"http://127.0.0.1:{self.proxy.port}/"
        duration = self.scenario.warm + self.bench.lasting(self.scenario)
        self.log = os.path.join(self.folder, "log")
        command = [self.bench.tidegate, "load", "--url", url, "--rate", self.scenario.rate,
                   "--duration", f"{duration}s", "--timeout", f"{TIMEOUT:.0f}s", "--seed", self.seed,
                   "--connections", 64, "--max-in-flight", 8192, "--log", self.log]
        self.backends.signal(signal.SIGUSR1)
        self.load = self.keep(Process(command, self.bench.cpus, os.path.join(self.folder, "load")))

    def end(self):
        """Waits for the load; gives the requests of the whole run."""
        duration = self.scenario.warm + self.bench.lasting(self.scenario)
        try:
            code = self.load.child.wait(duration + TIMEOUT + 30)
        except subprocess.TimeoutExpired:
            code = None
        # 1: some requests failed, which is what is looked at.
        if code not in (0, 1) or not self.proxy.process.alive():
            with open(self.load.output, errors="replace") as file:
                raise RuntimeError(f"{self.label}: the load ended with {code}:\n{file.read()[-1000:]}")
        with open(self.log) as file:
            return figures.read_log(file)

    def received(self):
        """How many requests each backend got, tries that failed too. Ends the backends."""
        self.backends.stop()
        with open(self.backends.output) as file:
            return json.loads(file.read().splitlines()[-1])

    def stop(self):
        for one in reversed(self.running):
            one.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Bench:
    """Programs, arms and how long. `cpus` are for everybody: nothing is pinned."""

    def __init__(self, tidegate, backends, entries, cpus, scale, say):
        self.tidegate, self.backends, self.entries = tidegate, backends, entries
        self.cpus, self.scale, self.say = cpus, scale, say

    def lasting(self, scenario):
        """Seconds that count."""
        return scenario.seconds if scenario.timed else max(1, round(scenario.seconds * self.scale))

    def round(self, scenario, number):
        """{arm: summary}; alternated, another arm first in each round, or all at once."""
        seed = 1000 + number
        turn = number % len(self.entries)
        order = self.entries[turn:] + self.entries[:turn]
        if scenario.at_once:
            found = self.run(scenario, order, seed)
        else:
            found = {}
            for entry in order:
                found |= self.run(scenario, [entry], seed)
        return {entry.label: found[entry.label] for entry in self.entries}

    def run(self, scenario, entries, seed):
        """Again if the generator was late; of at most `TRIES` runs that in which it was least."""
        best = None
        for attempt in range(TRIES):
            found = {}
            for trial, one in self.together([(scenario, entry) for entry in entries], seed):
                found[trial.label] = one | {"attempt": attempt + 1}
                self.tell(trial.label, one)
            late = max(one["late_ms"] for one in found.values())
            if best is None or late < best[0]:
                best = late, found
            if not any(figures.was_late(one, scenario.late_ms) for one in found.values()):
                break
        return best[1]

    def shares(self, scenarios):
        """What the shares of tidegate alone come to, all scenarios at the same time."""
        ours = next(entry for entry in self.entries if entry.label == OURS)
        found = {}
        for trial, one in self.together([(scenario, ours) for scenario in scenarios], 1):
            found[trial.scenario.name] = one
            self.tell(trial.scenario.name, one)
        return found

    def together(self, pairs, seed):
        """[(trial, what came of it)] of scenarios and arms that run at the same time."""
        trials = []
        try:
            for scenario, entry in pairs:
                trials.append(Trial(self, scenario, entry, seed))
            used = Used(trials)
            for trial in trials:
                trial.begin()
            ended = [(trial, trial.end()) for trial in trials]
            cpu = used.share()
            return [(trial, self.summary(trial, requests) | {"received": trial.received(), "cpu": cpu})
                    for trial, requests in ended]
        finally:
            for trial in trials:
                trial.stop()

    def summary(self, trial, requests):
        scenario = trial.scenario
        end = scenario.warm + self.lasting(scenario)
        counted = figures.within(requests, scenario.warm, end)
        return figures.summary(counted, trial.names) | after_return(scenario, trial.names, requests, end)

    def tell(self, label, one):
        shares = sorted(one["shares"].values())
        self.say(f"  {label:<18} p50 {one['p50_ms']:7.1f}  p99 {one['p99_ms']:7.1f}  p99.9 {one['p999_ms']:7.1f} ms  "
                 f"{one['failed']:5} failed  {one['success']:8.3%} in 1 s  shares {shares[0]:.2f}–{shares[-1]:.2f}  "
                 f"late {one['late_ms']:.2f} ms  CPU {one['cpu']:.0%}")


def after_return(scenario, names, requests, end):
    """What is asked of the backends that failed for a time."""
    found = {}
    others = [name for name in names if name not in scenario.changed]
    if scenario.slo_ms:
        found["goodput"] = figures.goodput(requests, scenario.slo_ms)
        if scenario.back:
            found["recovered_s"] = figures.recovered(requests, scenario.back, end, scenario.slo_ms)
    if scenario.back:
        found["back_s"] = {name: figures.back_after(requests, name, others, scenario.back, end)
                           for name in scenario.changed}
        found["series"] = figures.share_series(requests, scenario.changed[0], others, end)
    return found
