#!/usr/bin/env python3
"""A polite client's latency while somebody floods: python3 benches/floods/run.py target/release/tidegate

Each flood is sent over and over from one process, as fast as the proxy takes it, on connections that are opened
again when they are ended; beside it a client asks 100 times a second. Printed: its p50 and p99, calm and
during each flood, the ratio of the p99s, the proxy's memory above calm, and what was counted. With `--limits` each client
may ask for 200 requests a second, 50 at once (the flood comes from another address than the polite client). Nothing is
gated: on two CPUs the flooding process alone takes a part of what the others need.
"""

import argparse
import http.client
import multiprocessing
import os
import platform
import socket
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
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=FLOODS, action="append")
    parser.add_argument("--rivals", action="store_true", help="nginx and HAProxy too, one after another")
    parser.add_argument("--limits", action="store_true", help="with a rate limit for each client")
    arguments = parser.parse_args()
    origin = free_port()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {arguments.workers} workers, "
          f"{arguments.seconds:g} s each, {RATE} requests a second\n")
    print("| flood | proxy | p50 ms (calm) | p99 ms (calm) | p99 ÷ calm | failed | MiB above calm | counted |")
    print("|---|---|---|---|---|---|---|---|")
    backend = subprocess.Popen([arguments.tidegate, "origin", "--port", str(origin)], **QUIET)
    try:
        for flood in arguments.only or FLOODS:
            for kind in ("tidegate", "nginx", "haproxy") if arguments.rivals else ("tidegate",):
                row(kind, origin, flood, arguments)
    finally:
        backend.terminate()
        backend.wait()


def row(kind, origin, flood, arguments):
    """One flood on a proxy that is started for it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        proxy = Proxy(kind, arguments.tidegate, folder, origin, arguments.workers, arguments.limits)
        try:
            line(proxy, flood, arguments.seconds)
        finally:
            proxy.stop()


def line(proxy, flood, seconds):
    measure(proxy, 1)
    calm, _, before = measure(proxy, seconds)
    first = counted(proxy)
    took, failed, most = measure(proxy, seconds, flood)
    last = counted(proxy)
    counts = ", ".join(f"{name} {last[name] - first.get(name, 0):.0f}"
                       for name in last if last[name] > first.get(name, 0))
    p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
    calm50, calm99 = quantile(calm, 0.5), quantile(calm, 0.99)
    print(f"| {flood} | {proxy.kind} | {p50:.2f} ({calm50:.2f}) | {p99:.2f} ({calm99:.2f}) | {p99 / calm99:.1f} "
          f"| {failed} | {max(0, most - before):.1f} | {counts} |", flush=True)


if __name__ == "__main__":
    main()
