"""The arms: tidegate, and each rival with each of its two ways to balance by load."""

import os

from arms import FILES, Rival, get, program, render, user, wait_for
from machine import Process, free_ports

HERE = os.path.dirname(os.path.abspath(__file__))
WORKERS = 2
# Further tries of a request, tidegate's default.
RETRIES = 2
OURS = "tidegate"
BALANCES = {
    "haproxy": {"HAProxy leastconn": "leastconn", "HAProxy random(2)": "random(2)"},
    "nginx": {"nginx least_conn": "least_conn", "nginx random two": "random two least_conn"},
}


class Settings:
    """What a scenario asks of every arm, each in its own words: `connect` and `response` bound
    the waits of one try; with `retry_timeout` a try that was too long is followed by another."""

    def __init__(self, connect="3s", response="60s", retry_timeout=False):
        self.connect, self.response, self.retry_timeout = connect, response, retry_timeout


class Entry:
    """A program and how it is to balance."""

    def __init__(self, label, rival, balance=None):
        self.label, self.rival, self.balance = label, rival, balance


def entries(tidegate):
    """All arms, tidegate first; and the names of the rivals that are not installed."""
    found, missing = [Entry(OURS, Rival("tidegate", tidegate))], []
    for kind, balances in BALANCES.items():
        path = program(kind)
        if not path:
            missing.append(kind)
            continue
        rival = Rival(kind, path)
        found += [Entry(label, rival, balance) for label, balance in balances.items()]
    return found, missing


class Proxy:
    """An arm that runs before these backends (a list of host:port)."""

    def __init__(self, entry, folder, cpus, backends, settings):
        self.folder = folder
        self.port, self.admin = free_ports(2)
        configure, command = {
            "nginx": (self.nginx, lambda file: ["-p", folder, "-c", file]),
            "haproxy": (self.haproxy, lambda file: ["-db", "-f", file]),
            "tidegate": (self.tidegate, lambda file: ["run", "-c", file]),
        }[entry.rival.kind]
        values = {"DIR": folder, "PORT": self.port, "WORKERS": WORKERS, "BALANCE": entry.balance,
                  "CONNECT": settings.connect, "RESPONSE": settings.response, "RETRIES": RETRIES}
        name, values = configure(values, backends, settings)
        file = render(os.path.join(HERE, name), os.path.join(folder, name), values)
        self.process = Process([entry.rival.path, *command(file)], cpus, os.path.join(folder, "out"))
        try:
            wait_for(lambda: (get(self.port, "/") or (0,))[0] == 200, entry.label, self.process)
        except BaseException:
            self.process.stop()
            raise

    def nginx(self, values, backends, settings):
        return "nginx.conf", values | {
            "USER": user(), "FILES": FILES, "TRIES": RETRIES + 1,
            "SERVERS": "\n".join(f"        server {at};" for at in backends),
        }

    def haproxy(self, values, backends, settings):
        return "haproxy.cfg", values | {
            "MAXCONN": (FILES - 1000) // 2,
            "RETRY_ON": "response-timeout" if settings.retry_timeout else "",
            "SERVERS": "\n".join(f"    server b{i} {at}" for i, at in enumerate(backends)),
        }

    def tidegate(self, values, backends, settings):
        conditions = ["connect", "reset", "refused", "502", "503"]
        if settings.retry_timeout:
            conditions.append("timeout")
        return "tidegate.toml", values | {
            "ADMIN": self.admin, "RETRY_ON": ", ".join(f'"{one}"' for one in conditions),
            "SERVERS": ", ".join(f'{{ address = "{at}" }}' for at in backends),
        }

    def stop(self):
        self.process.stop()
