"""The cases that send load in alternated rounds: which load, against which port, and what is aimed at.

`special` has those with a shape of their own: idle memory, many services, reloads. Each case is
named by its letter in docs/performance.md.
"""

import load
from arms import Options

RESUMERS = 4


class Case:
    """`drive(cpus, arm, seconds)` sends the load of one round and returns a `load.Outcome`.

    `targets` are the largest ratios of CPU per `unit` to each rival ("better": the better one);
    without them the ratios are only told.
    """

    def __init__(self, letter, title, drive, targets, unit="request", **options):
        self.letter, self.title, self.drive, self.targets = letter, title, drive, targets
        self.unit, self.options = unit, options

    def settings(self, echo):
        """How the arms are to be set up for it."""
        return Options(echo=echo, **self.options)


def plain(path, connections, **more):
    """wrk without TLS."""
    def drive(cpus, arm, seconds):
        url = f"http://localhost:{arm.plain}{path}"
        return load.wrk(cpus, url, seconds, connections, **more)
    return drive


def tls(path, connections, **more):
    """wrk over TLS; every new connection is a full handshake."""
    def drive(cpus, arm, seconds):
        url = f"https://localhost:{arm.tls}{path}"
        return load.wrk(cpus, url, seconds, connections, **more)
    return drive


def resumed(cpus, arm, seconds):
    outcome, told = load.client(cpus, seconds, "resume", arm.tls, seconds, RESUMERS)
    # A proxy that does not resume would otherwise be measured doing something else.
    if told["not_resumed"] > outcome.requests * 0.02:
        raise RuntimeError(f"{told['not_resumed']} of {outcome.requests} sessions were not resumed")
    return outcome


def h2(cpus, arm, seconds):
    return load.h2load(cpus, arm.tls, "/small", seconds, connections=8, streams=32)


def websocket(connections, size):
    def drive(cpus, arm, seconds):
        return load.client(cpus, seconds, "websocket", arm.plain, seconds, connections, size)[0]
    return drive


def targets(nginx, haproxy):
    return {"nginx": nginx, "haproxy": haproxy}


CLOSE = ("Connection: close",)
CASES = [
    Case("a", "small answers (128 B), 64 kept connections", plain("/small", 64), targets(1.05, 0.9)),
    Case("b", "the same, with access log", plain("/small", 64), targets(1.1, 1.0), access_log=True),
    Case("c", "a new connection a request, 32 at once", plain("/small", 32, headers=CLOSE),
         targets(1.25, 1.05)),
    Case("d", "TLS 1.3, 64 kept connections", tls("/small", 64), targets(0.85, 0.8)),
    Case("e", "TLS 1.3, a full handshake a request", tls("/small", 32, headers=CLOSE),
         targets(0.65, 0.6)),
    Case("f", "TLS 1.3, a resumed handshake a request", resumed, targets(0.7, 0.6)),
    Case("g", "HTTP/2 over TLS, 8 connections × 32 streams", h2, targets(0.95, 0.8)),
    Case("h", "1 MiB down, 8 connections", plain("/bulk", 8), targets(0.5, 0.7), unit="MiB"),
    Case("i", "1 MiB up, 8 connections", plain("/upload", 8, script="upload.lua"), targets(0.5, 0.7),
         unit="MiB"),
    Case("h", "1 MiB down, rivals with large buffers or splicing", plain("/tuned/bulk", 8), {},
         unit="MiB"),
    Case("i", "1 MiB up, rivals unbuffered or splicing", plain("/tuned/upload", 8, script="upload.lua"),
         {}, unit="MiB"),
    Case("m", "WebSocket, frames of 32 B, 64 connections", websocket(64, 32), {"better": 1.1},
         unit="frame there and back"),
    Case("m", "WebSocket, frames of 1 MiB, 8 connections", websocket(8, 1 << 20), {"better": 1.1},
         unit="MiB there and back"),
]
