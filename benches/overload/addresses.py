#!/usr/bin/env python3
"""200,000 client addresses within a minute: python3 benches/overload/addresses.py target/release/tidegate

Each comes by a connection of its own with a PROXY header (or from an address of 127/8, with --direct so many of them)
and asks twice where one request an hour is allowed: it has to get one answer and one 429, and whoever comes after the
first 200,000 shares one bucket. Then all of them are banned by a second limit with ban_after = 1. Printed: how long it
took, connections a second, the memory of the process for each key and each ban, and what was counted. Wrong answers
make it fail.
"""

import argparse
import multiprocessing
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

from pool import QUIET, free_port

CONFIG = """
[runtime]
watch = false
state_dir = "{dir}/state"
[admin]
listen = "127.0.0.1:{admin}"
[[listener]]
name = "http"
address = "127.0.0.1:{direct}"
max_connections_per_ip = 8
[[listener]]
name = "named"
address = "127.0.0.1:{port}"
max_connections_per_ip = 8
proxy_protocol = "accept"
trusted_proxies = ["127.0.0.0/8"]
[[route]]
path = "=/own"
respond = {{ status = 204 }}
[[route]]
path = "/ban"
respond = {{ status = 204 }}
[[route.rate_limit]]
name = "banning"
key = "client_ip"
rate = "1/h"
burst = 1
ban_after = 1
[[route]]
name = "app"
respond = {{ status = 204 }}
[[route.rate_limit]]
name = "one"
key = "client_ip"
rate = "1/h"
burst = 1
"""

KEYS = 200_000
MOST_BANS = 100_000
WINDOW = 64
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"


def client(number, port, is_direct, path):
    """A connection that is being opened, and what it will send."""
    one = socket.socket()
    one.setblocking(False)
    request = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode() * 2
    if is_direct:
        one.bind((socket.inet_ntoa(struct.pack(">I", 0x7F010000 + number)), 0))
    else:
        request = V2 + struct.pack(">I4sHH", 0x0A000000 + number, b"\x7f\0\0\1", 4096, 80) + request
    one.connect_ex(("127.0.0.1", port))
    return one, request


def crowd(numbers, port, is_direct, path, out):
    """Asks for each of them, so many at once; how often each pair of answers came."""
    numbers, found, poll, running = iter(numbers), {}, select.epoll(), {}

    def begin():
        number = next(numbers, None)
        if number is not None:
            one, request = client(number, port, is_direct, path)
            running[one.fileno()] = [one, request, b""]
            poll.register(one.fileno(), select.EPOLLOUT)

    for _ in range(WINDOW):
        begin()
    while running:
        for fd, events in poll.poll(10):
            state = running[fd]
            try:
                if state[1]:
                    state[0].send(state[1])
                    state[1] = b""
                    poll.modify(fd, select.EPOLLIN)
                    continue
                piece = state[0].recv(4096)
            except OSError:
                piece = b""
            state[2] += piece
            codes = [part[:3].decode() for part in state[2].split(b"HTTP/1.1 ")[1:]]
            if piece and len(codes) < 2:
                continue
            key = " ".join(codes) or "closed"
            found[key] = found.get(key, 0) + 1
            poll.unregister(fd)
            # Reset: no port is left waiting.
            state[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            state[0].close()
            del running[fd]
            begin()
    out.put(found)


def ask(numbers, port, is_direct=False, path="/", processes=2):
    """All of these, from so many processes: what came how often, and the seconds it took."""
    out, start = multiprocessing.Queue(), time.monotonic()
    each = -(-len(numbers) // processes)
    parts = [numbers[at:at + each] for at in range(0, len(numbers), each)]
    workers = [multiprocessing.Process(target=crowd, args=(part, port, is_direct, path, out)) for part in parts]
    for worker in workers:
        worker.start()
    total = {}
    for _ in workers:
        for key, many in out.get().items():
            total[key] = total.get(key, 0) + many
    for worker in workers:
        worker.join()
    return total, time.monotonic() - start


def memory(pid, field="VmRSS"):
    """Bytes."""
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields[field].split()[0]) * 1024


def metric(admin, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and line[len(name)] in " {,")


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found}, and not {wanted}")


def counts(found):
    return ", ".join(f"{what} {many} times" for what, many in sorted(found.items()))


def measure(process, ports, direct):
    named = KEYS - direct
    ask(range(1000), ports["port"], path="/own", processes=1)
    before = memory(process.pid)
    found, took = ask(range(named), ports["port"])
    more, longer = ask(range(direct), ports["direct"], True)
    for key, many in more.items():
        found[key] = found.get(key, 0) + many
    expect("the first 200,000", found, {"204 429": KEYS})
    full = memory(process.pid)
    expect("keys", metric(ports["admin"], 'tidegate_rate_limit_keys{route="app"'), KEYS)
    over, _ = ask(range(named, named + 2000), ports["port"])
    expect("who came later", over, {"204 429": 1, "429 429": 1999})
    counted = metric(ports["admin"], 'tidegate_rate_limit_overflow_total{route="app"')
    print(f"{KEYS} addresses in {took + longer:.1f} s, {KEYS / (took + longer):.0f} connections a second; "
          f"{(full - before) / 2**20:.1f} MiB more, {(full - before) / KEYS:.0f} bytes each; "
          f"{counted:.0f} requests of 2000 more shared one bucket")
    banned, took = ask(range(1000, 1000 + MOST_BANS + 2000), ports["port"], path="/ban")
    print(f"bans: {metric(ports['admin'], 'tidegate_bans'):.0f} after {took:.1f} s, "
          f"{(memory(process.pid) - full) / 2**20:.1f} MiB more; answers: {counts(banned)}")
    closed, took = ask(range(1000, 1000 + MOST_BANS), ports["port"])
    print(f"who is banned: {counts(closed)} in {took:.1f} s; most memory {memory(process.pid, 'VmHWM') / 2**20:.1f} MiB, "
          f"{before / 2**20:.1f} MiB before")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tidegate")
    parser.add_argument("--direct", type=int, default=5000, help="of them, from addresses of 127/8 [5000]")
    arguments = parser.parse_args()
    ports = {name: free_port() for name in ("port", "direct", "admin")}
    print(f"{platform.machine()}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        config = os.path.join(folder, "tidegate.toml")
        with open(config, "w") as file:
            file.write(CONFIG.format(dir=folder, **ports))
        process = subprocess.Popen([arguments.tidegate, "run", "-c", config], **QUIET)
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", ports["port"]), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            measure(process, ports, arguments.direct)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
