#!/usr/bin/env python3
"""A polite client's latency while somebody floods: python3 benches/floods/run.py target/release/tidegate

Each flood is sent over and over from one process, as fast as the proxy takes it, on connections that are opened
again when they are ended; beside it a client asks 100 times a second. Printed: its p50 and p99, calm and
during each flood, the ratio of the p99s, the proxy's memory above calm, and what was counted: medians of the rounds, each
of them calm and flooded in turn. With `--limits` each client may ask for 200 requests a second, 50 at once (the flood comes
from another address than the polite client). Nothing is gated: on two CPUs the flooding process alone takes a part of what
the others need; `nobody` says how large that part is.
"""

import argparse
import http.client
import multiprocessing
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

from kinds import FLOODS, PREFACE
from proxies import QUIET, Proxy, free_port

RATE = 100
# The flood's address, where it has none of its own.
FLOODER = "127.0.0.2"


def polite(port, seconds, out):
    """Asks at a rate, and puts the latencies in ms, from when each was due."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    took, failed = [], 0
    start = time.monotonic()
    for number in range(int(seconds * RATE)):
        due = start + number / RATE
        time.sleep(max(0, due - time.monotonic()))
        try:
            client.request("GET", "/?size=100")
            answer = client.getresponse()
            answer.read()
            failed += answer.status != 200
        except OSError:
            failed += 1
            client.close()
        took.append((time.monotonic() - due) * 1000)
    out.put((sorted(took), failed))


def flooder(port, kind, seconds):
    """Opens, sends, reads nothing or all that comes, until it is ended; again."""
    until = time.monotonic() + seconds
    flood = FLOODS[kind]
    while time.monotonic() < until:
        sockets = []
        try:
            for _ in range(flood.connections):
                source = flood.source() if flood.source else FLOODER
                sockets.append(socket.create_connection(("127.0.0.1", port), 0.5, (source, 0)))
            for one in sockets:
                one.sendall(flood.opening)
            while time.monotonic() < until:
                for one in sockets:
                    one.sendall(flood.burst)
                    if flood.reads:
                        one.setblocking(False)
                        try:
                            if one.recv(1 << 16) == b"":
                                raise ConnectionError
                        except BlockingIOError:
                            pass
                        one.settimeout(0.5)
                if flood.pause:
                    time.sleep(flood.pause)
        except OSError:
            pass
        finally:
            for one in sockets:
                one.close()


# What is counted of a flood, and the label that says of which.
COUNTED = {"tidegate_floods_total": "kind", "tidegate_rate_limited_total": "limit", "tidegate_shed_total": "reason",
           "tidegate_connections_refused_total": "reason", "tidegate_banned_requests_total": None}


def counted(proxy):
    if proxy.kind != "tidegate":
        return {}
    admin = proxy.admin
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for family, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#")):
        family, _, labels = family.partition("{")
        if family in COUNTED:
            label = COUNTED[family]
            name = labels.split(f'{label}="')[1].split('"')[0] if label else "banned requests"
            found[name] = found.get(name, 0) + float(value)
    return found


def measure(proxy, seconds, kind=None):
    """Latencies, failures, and the most memory seen, in MiB."""
    out = multiprocessing.Queue()
    asks = multiprocessing.Process(target=polite, args=(proxy.port, seconds, out))
    floods = None
    if kind:
        port = proxy.h2 if FLOODS[kind].opening.startswith(PREFACE) else proxy.port
        floods = multiprocessing.Process(target=flooder, args=(port, kind, seconds))
    asks.start()
    if floods:
        floods.start()
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, proxy.rss())
        time.sleep(0.05)
    took, failed = out.get()
    asks.join()
    if floods:
        floods.join()
    return took, failed, most


def quantile(took, q):
    return took[min(len(took) - 1, int(len(took) * q))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tidegate")
    parser.add_argument("--seconds", type=float, default=5, help="of each half of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=FLOODS, action="append")
    parser.add_argument("--rivals", action="store_true", help="nginx and HAProxy too, one after another")
    parser.add_argument("--limits", action="store_true", help="with a rate limit for each client")
    arguments = parser.parse_args()
    origin = free_port()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {arguments.workers} workers, "
          f"{arguments.rounds} rounds of {arguments.seconds:g} s, {RATE} requests a second\n")
    print("| flood | proxy | p50 ms (calm) | p99 ms (calm) | p99 ÷ calm | of rounds | failed | MiB above calm | counted |")
    print("|---|---|---|---|---|---|---|---|---|")
    backend = subprocess.Popen([arguments.tidegate, "origin", "--port", str(origin)], **QUIET)
    try:
        for flood in arguments.only or FLOODS:
            for kind in ("tidegate", "nginx", "haproxy") if arguments.rivals else ("tidegate",):
                row(kind, origin, flood, arguments)
    finally:
        backend.terminate()
        backend.wait()


def row(kind, origin, flood, arguments):
    """One flood, each round on a proxy that is started for it: who was banned in one is not in the next."""
    rounds, counts = [], {}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            proxy = Proxy(kind, arguments.tidegate, folder, origin, arguments.workers, arguments.limits)
            try:
                rounds.append(one_round(proxy, flood, arguments.seconds))
                for name, value in counted(proxy).items():
                    counts[name] = counts.get(name, 0) + value
            finally:
                proxy.stop()
    p50, p99, calm50, calm99 = (statistics.median(one[column] for one in rounds) for column in range(4))
    ratios = ", ".join(f"{one[1] / one[3]:.1f}" for one in rounds)
    counts = ", ".join(f"{name} {value:.0f}" for name, value in counts.items() if value)
    print(f"| {flood} | {kind} | {p50:.2f} ({calm50:.2f}) | {p99:.2f} ({calm99:.2f}) | {p99 / calm99:.1f} "
          f"| {ratios} | {sum(one[4] for one in rounds)} | {max(one[5] for one in rounds):.1f} | {counts} |", flush=True)


def one_round(proxy, flood, seconds):
    """p50 and p99 flooded, the same calm; failures; MiB above calm."""
    measure(proxy, 1)
    calm, unanswered, before = measure(proxy, seconds)
    took, failed, most = measure(proxy, seconds, flood)
    quantiles = [quantile(times, q) for times in (took, calm) for q in (0.5, 0.99)]
    return [*quantiles, unanswered + failed, max(0, most - before)]


if __name__ == "__main__":
    main()
