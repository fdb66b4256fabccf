#!/usr/bin/env python3
"""A polite client's latency while somebody floods: python3 benches/floods/run.py target/release/tidegate

Each flood is sent over and over from one process, as fast as the proxy takes it, on connections that are opened
again when they are ended; beside it a client asks 100 times a second. Printed: its p50 and p99, calm and
during each flood, the ratio of the p99s, the proxy's memory above calm, and what was counted. Nothing is gated: on
two CPUs the flooding process alone takes a part of what the others need.
"""

import argparse
import http.client
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from kinds import FLOODS

RATE = 100
CONFIG = """
[runtime]
workers = {workers}
watch = false
state_dir = "{dir}/state"
[admin]
listen = "127.0.0.1:{admin}"
[[listener]]
name = "http"
address = "127.0.0.1:{port}"
[listener.timeout]
header = "1s"
body = "1s"
write = "1s"
[[route]]
service = "app"
[service.app]
[[service.app.backend]]
address = "127.0.0.1:{origin}"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
                sockets.append(socket.create_connection(("127.0.0.1", port), timeout=0.5))
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


def rss(pid):
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmRSS"].split()[0]) / 1024


def counted(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith("tidegate_floods_total"))
    return {labels.split('kind="')[1].split('"')[0]: float(value) for labels, value in found}


def measure(port, pid, seconds, kind=None):
    """Latencies, failures, and the most memory seen, in MiB."""
    out = multiprocessing.Queue()
    asks = multiprocessing.Process(target=polite, args=(port, seconds, out))
    floods = multiprocessing.Process(target=flooder, args=(port, kind, seconds)) if kind else None
    asks.start()
    if floods:
        floods.start()
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, rss(pid))
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
    arguments = parser.parse_args()
    port, admin, origin = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "tidegate.toml")
        with open(config, "w") as file:
            file.write(CONFIG.format(workers=arguments.workers, dir=folder, port=port,
                                     admin=admin, origin=origin))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        backend = subprocess.Popen([arguments.tidegate, "origin", "--port", str(origin)], **quiet)
        proxy = subprocess.Popen([arguments.tidegate, "run", "-c", config], **quiet)
        try:
            ready(admin)
            measure(port, proxy.pid, 1)
            print(f"{platform.machine()}, {os.cpu_count()} CPUs, {arguments.workers} workers, "
                  f"{arguments.seconds:g} s each, {RATE} requests a second\n")
            print("| flood | p50 ms (calm) | p99 ms (calm) | p99 ÷ calm | failed | MiB above calm | counted |")
            print("|---|---|---|---|---|---|---|")
            for kind in arguments.only or FLOODS:
                row(port, admin, proxy.pid, arguments.seconds, kind)
        finally:
            for process in (proxy, backend):
                process.terminate()
                process.wait()


def ready(admin):
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz")
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the proxy does not start")


def row(port, admin, pid, seconds, kind):
    calm, _, before = measure(port, pid, seconds)
    first = counted(admin)
    took, failed, most = measure(port, pid, seconds, kind)
    last = counted(admin)
    counts = ", ".join(f"{name} {last[name] - first[name]:.0f}"
                       for name in last if last[name] > first[name])
    p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
    calm50, calm99 = quantile(calm, 0.5), quantile(calm, 0.99)
    print(f"| {kind} | {p50:.2f} ({calm50:.2f}) | {p99:.2f} ({calm99:.2f}) | {p99 / calm99:.1f} "
          f"| {failed} | {max(0, most - before):.1f} | {counts} |", flush=True)


if __name__ == "__main__":
    main()
