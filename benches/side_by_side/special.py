"""The cases with a shape of their own: (j) idle memory, (k) many services, (l) reloading,
(n) two workers.

Each returns rows of plain values for the report; a row is one arm.
"""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from statistics import median

import load
from arms import Options, wait_for
from bench import Bench

SERVICES = 1000
FEW_SERVICES = 10
# How long nothing is asked for, to see what that costs.
IDLE_SECONDS = 10
RELOADS_PER_SECOND = 2
# Requests a second while reloading: well under what one worker can do, so that p99 is not a queue.
RATE = 2000


def idle(bench, count, say):
    """RSS a connection, plain and TLS: after one request on each and some seconds of silence."""
    rows = {}
    for kind in ("plain", "tls"):
        for rival in bench.rivals:
            # A fresh process each: memory that was used once is not always given back.
            with bench.arms(Options(), [rival]) as (arm,):
                port = arm.tls if kind == "tls" else arm.plain
                hold(bench, port, 50, kind, lambda: None)
                before = arm.process.memory("VmRSS")
                def look():
                    # The pool of upstream connections empties, idle ones are parked.
                    time.sleep(6)
                    return arm.process.memory("VmRSS")
                after, kept = hold(bench, port, count, kind, look)
                row = rows.setdefault(rival.label, {"arm": rival.label})
                row[f"{kind}_connections"] = kept
                row[f"{kind}_bytes"] = (after - before) * 1024 / max(1, kept)
                say(f"  {rival.label:<16} {kind:<5} {row[f'{kind}_bytes']:8.0f} B a connection, {kept} kept")
    return list(rows.values())


def hold(bench, port, count, kind, look):
    """Keeps idle connections open while `look` is asked; (its answer, how many there were)."""
    script = os.path.join(load.HERE, "clients.py")
    with subprocess.Popen(
            [sys.executable, script, "idle", str(port), str(count), kind], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, bench.cpus.rest)) as process:
        try:
            kept = load.told(process.stdout.readline())["requests"]
            return look(), kept
        finally:
            process.stdin.close()
            process.wait(30)


def services(bench, say):
    """A thousand services of ten backends against ten of them, under the same ten paths."""
    rows, large = [], []
    def ten(cpus, arm, seconds):
        return load.wrk(cpus, f"http://localhost:{arm.plain}/", seconds, 64, script="paths.lua",
                        arguments=[str(FEW_SERVICES)])
    def thousand(cpus, arm, seconds):
        return load.wrk(cpus, f"http://localhost:{arm.plain}/", seconds, 64, script="paths.lua",
                        arguments=[str(SERVICES)])
    for rival in bench.rivals:
        with bench.arms(Options(services=FEW_SERVICES), [rival]) as (small,), \
                bench.arms(Options(services=SERVICES, reloads=True), [rival]) as (big,):
            small.label, big.label = "small", "big"
            row = {"arm": rival.label, "start_seconds": big.start_seconds}
            row["rss_start_kib"] = big.process.memory("VmRSS")
            row["idle_cpu_percent"] = idle_cpu(big)
            rounds = bench.alternate([small, big], ten, lambda text: None)
            row["us_of_10"] = median(r["cpu_us"] for r in rounds["small"])
            row["us_of_1000"] = median(r["cpu_us"] for r in rounds["big"])
            row["pick_ratio"] = median(
                b["cpu_us"] / s["cpu_us"] for s, b in zip(rounds["small"], rounds["big"]))
            row["us_all"] = bench.measure(big, thousand)["cpu_us"]
            row["failures"] = sum(r["failures"] for r in rounds["small"] + rounds["big"])
            row["rss_kib"] = big.process.memory("VmRSS")
            row["reload_seconds"] = median(reload_time(big, turn) for turn in range(1, 6))
            row["rss_after_reloads_kib"] = big.process.memory("VmRSS")
            rows.append(row)
            say(f"  {rival.label:<16} start {row['start_seconds']:.2f} s, reload {row['reload_seconds']:.2f} s, "
                f"{row['us_of_10']:.1f} → {row['us_of_1000']:.1f} µs, {row['rss_start_kib'] // 1024} → {row['rss_kib'] // 1024} MiB, "
                f"idle {row['idle_cpu_percent']:.1f} %")
    return rows


def idle_cpu(arm):
    """Percent of a core that is used while nothing is asked for."""
    before = arm.process.cpu()
    time.sleep(IDLE_SECONDS)
    return (arm.process.cpu() - before) / IDLE_SECONDS * 100


def reload(arm, turn):
    """Writes another configuration and has it taken up; tidegate answers when it is in use."""
    arm.configure(turn)
    if arm.rival.kind == "tidegate":
        connection = http.client.HTTPConnection("127.0.0.1", arm.admin, timeout=30)
        connection.request("POST", "/v1/reload", headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"reload: {answer.status} {text[:300]!r}")
    else:
        arm.process.signal(signal.SIGHUP if arm.rival.kind == "nginx" else signal.SIGUSR2)


def reload_time(arm, turn):
    """Seconds to the end of the reload, for the rivals to the birth of the process that serves next."""
    known = set(arm.process.pids())
    began = time.monotonic()
    reload(arm, turn)
    if arm.rival.kind != "tidegate":
        wait_for(lambda: set(arm.process.pids()) - known, "the next worker", arm.process)
    took = time.monotonic() - began
    # The old one leaves before the next try.
    time.sleep(1)
    return took


def reloading(bench, say):
    """p99 and failures at a steady rate, calm rounds between rounds of two reloads a second."""
    rows = []
    for rival in bench.rivals:
        with bench.arms(Options(reloads=True), [rival]) as (arm,):
            calm, busy, turn = [], [], 0
            def drive():
                return load.tidegate_load(bench.cpus, bench.ours.path, f"http://127.0.0.1:{arm.plain}/small",
                                          bench.seconds * 2, RATE, 64)
            drive()
            for _ in range(bench.rounds):
                calm.append(drive())
                stop, mistakes = threading.Event(), []
                def keep_reloading():
                    nonlocal turn
                    while not stop.wait(1 / RELOADS_PER_SECOND):
                        turn += 1
                        try:
                            reload(arm, 1 + turn % 2)
                        except (RuntimeError, OSError) as error:
                            mistakes.append(str(error))
                thread = threading.Thread(target=keep_reloading)
                thread.start()
                try:
                    busy.append(drive())
                finally:
                    stop.set()
                    thread.join()
                if mistakes:
                    raise RuntimeError(f"{rival.label}: {mistakes[0]}")
            row = {
                "arm": rival.label, "reloads": turn,
                "requests": sum(o.requests for o in busy), "failures": sum(o.failures for o in busy),
                "calm_p99_ms": median(o.p99 for o in calm), "p99_ms": median(o.p99 for o in busy),
                "paired": median(b.p99 / c.p99 for b, c in zip(busy, calm)),
            }
            rows.append(row)
            say(f"  {rival.label:<16} p99 {row['calm_p99_ms']:.2f} → {row['p99_ms']:.2f} ms, "
                f"{row['failures']} failed, {turn} reloads")
    return rows


def two_workers(bench, say):
    """Case (a) with one worker and with two, nothing pinned: what the second costs each request."""
    rows = []
    free = Bench(bench.cpus.unpinned(), bench.rivals, bench.rounds, bench.seconds)
    def small(cpus, arm, seconds):
        return load.wrk(cpus, f"http://localhost:{arm.plain}/small", seconds, 64)
    for rival in bench.rivals:
        with free.arms(Options(), [rival]) as (one,), free.arms(Options(workers=2), [rival]) as (two,):
            one.label, two.label = "one", "two"
            rounds = free.alternate([one, two], small, lambda text: None)
            row = {
                "arm": rival.label,
                "one_us": median(r["cpu_us"] for r in rounds["one"]),
                "two_us": median(r["cpu_us"] for r in rounds["two"]),
                "paired": median(t["cpu_us"] / o["cpu_us"] for o, t in zip(rounds["one"], rounds["two"])),
                "one_per_second": median(r["per_second"] for r in rounds["one"]),
                "two_per_second": median(r["per_second"] for r in rounds["two"]),
                "failures": sum(r["failures"] for r in rounds["one"] + rounds["two"]),
            }
            rows.append(row)
            say(f"  {rival.label:<16} {row['one_us']:.1f} → {row['two_us']:.1f} µs")
    return rows
