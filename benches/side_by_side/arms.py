"""The arms: an origin, and the proxies before it, each from its configuration file in this folder.

An arm is started for one case, checked with a real request, and stopped after it. What is sent
through it is the business of `cases`.
"""

import http.client
import os
import re
import shutil
import ssl
import subprocess
import time

from machine import Process, free_ports, raise_file_limit

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CERT = os.path.join(ROOT, "certs", "localhost.pem")
KEY = os.path.join(ROOT, "certs", "localhost.key")
CA = os.path.join(ROOT, "certs", "ca.pem")
# Backends of every service: three, as few as make balancing real; ten in case (k).
FEW, MANY = 3, 10
FILES = raise_file_limit()


class Options:
    """What differs between cases."""

    def __init__(self, access_log=False, services=0, echo=0, reloads=False, workers=1):
        self.access_log = access_log
        # Further services, each with ten backends and a route /sN/.
        self.services = services
        # Port of what answers /ws.
        self.echo = echo or 9
        # HAProxy reloads only under its master process.
        self.reloads = reloads
        self.workers = workers


class Rival:
    """A program to compare with: its kind says which configuration it understands."""

    def __init__(self, kind, path, label=None):
        self.kind, self.path = kind, path
        self.version = version(kind, path)
        self.label = label or kind


def version(kind, path):
    """The version that the program tells of itself."""
    flag = "--version" if kind == "tidegate" else "-v"
    done = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+[\w.\-]*", done.stdout + done.stderr)
    return found.group(0) if found else "unknown"


def program(name):
    """Where it is, with the sbin folders that are not in everybody's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def render(name, target, values):
    """Writes a configuration file of this folder with every @NAME@ replaced."""
    with open(os.path.join(HERE, name)) as file:
        text = file.read()
    text = re.sub(r"@([A-Z_]+)@", lambda found: str(values[found.group(1)]), text)
    with open(target, "w") as file:
        file.write(text)
    return target


def wait_for(check, what, process, seconds=60):
    """Until `check()` is true; an error with the program's own words if it ends or takes too long."""
    end = time.monotonic() + seconds
    while not check():
        if not process.alive() or time.monotonic() > end:
            with open(process.output, errors="replace") as file:
                raise RuntimeError(f"{what} does not start:\n{file.read()[-2000:]}")
        time.sleep(0.002)


def get(port, path, tls=False, timeout=5):
    """(status, body) of one request, or None when nobody answers. TLS is checked, and is 1.3."""
    if tls:
        context = ssl.create_default_context(cafile=CA)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        connection = http.client.HTTPSConnection("localhost", port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("latin-1")
    except OSError:
        return None
    finally:
        connection.close()


def user():
    """For nginx, whose worker would otherwise become somebody who cannot read our files."""
    return "user root;" if os.geteuid() == 0 else ""


class Origin:
    """nginx on several ports of 127.0.0.1, one process.

    With `still` its clock stands still, so that every answer has the same Date: HTTP/2 pays for
    each new one, and how many there are depends on how fast the machine is.
    """

    def __init__(self, folder, cpus, still=False):
        self.ports = free_ports(MANY)
        with open(os.path.join(folder, "bulk"), "wb") as file:
            file.write(b"x" * (1 << 20))
        values = {
            "DIR": folder, "USER": user(), "FILES": FILES, "SMALL": "x" * 128, "FIRST": self.ports[0],
            "CLOCK": "timer_resolution 1d;" if still else "",
            "LISTEN": "\n".join(f"        listen 127.0.0.1:{p} backlog=4096;" for p in self.ports),
        }
        file = render("origin.conf", os.path.join(folder, "origin.conf"), values)
        command = [program("nginx"), "-p", folder, "-c", file]
        self.process = Process(command, cpus.rest, os.path.join(folder, "origin.out"))
        try:
            wait_for(lambda: get(self.ports[0], "/"), "the origin", self.process)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.process.stop()


class Arm:
    """A proxy that runs."""

    def __init__(self, rival, folder, cpus, origin, options):
        self.rival, self.label = rival, rival.label
        self.folder = os.path.join(folder, self.label.replace(" ", "-"))
        os.makedirs(self.folder, exist_ok=True)
        self.plain, self.tls, self.admin = free_ports(3)
        self.origin, self.options = origin, options
        self.configure()
        started = time.monotonic()
        self.process = Process(self.command(), cpus.proxy, os.path.join(self.folder, "out"))
        try:
            wait_for(lambda: (get(self.plain, "/") or (0,))[0] == 200, self.label, self.process)
            # Seconds from exec to the first good answer.
            self.start_seconds = time.monotonic() - started
            self.check()
        except BaseException:
            self.stop()
            raise

    def configure(self, turn=0):
        """Writes the configuration; `turn` makes it another one, so that a reload has work to do."""
        values = {
            "DIR": self.folder, "PLAIN": self.plain, "TLS": self.tls, "ADMIN": self.admin,
            "ECHO": self.options.echo, "CERT": CERT, "KEY": KEY, "WORKERS": self.options.workers,
        }
        self.file = {"nginx": self.nginx, "haproxy": self.haproxy, "tidegate": self.tidegate}[
            self.rival.kind](values, turn)

    def backends(self, count=FEW):
        return [f"127.0.0.1:{port}" for port in self.origin.ports[:count]]

    def nginx(self, values, turn):
        server = "        server {};".format
        services = range(self.options.services)
        many = "".join(map(server, self.backends(MANY)))
        values |= {
            "USER": user(), "FILES": FILES, "REUSEPORT": "reuseport" if self.options.workers > 1 else "",
            "ACCESS_LOG": f"{self.folder}/access combined buffer=64k flush=1s"
            if self.options.access_log else "off",
            "SERVERS": "\n".join(map(server, self.backends())),
            "LOCATIONS": "\n".join(f"location /s{i}/ {{ proxy_pass http://s{i}; }}" for i in services)
            + f"\n# turn {turn}",
            "UPSTREAMS": "\n".join(
                f"upstream s{i} {{ least_conn; {many} keepalive 64; keepalive_requests 1000000000; }}"
                for i in services),
        }
        return render("nginx.conf", os.path.join(self.folder, "nginx.conf"), values)

    def haproxy(self, values, turn):
        def servers(count):
            return "\n".join(f"    server b{i} {at}" for i, at in enumerate(self.backends(count)))
        services = range(self.options.services)
        pem = os.path.join(self.folder, "pem")
        with open(pem, "w") as file:
            for part in (CERT, KEY):
                with open(part) as source:
                    file.write(source.read())
        routes = os.path.join(self.folder, "routes.map")
        with open(routes, "w") as file:
            file.writelines(f"/s{i}/ s{i}\n" for i in services)
        log = self.options.access_log
        values |= {
            "MAXCONN": (FILES - 1000) // 2, "PEM": pem, "SERVERS": servers(FEW) + f"\n# turn {turn}",
            "LOG": "    log stdout format raw local0" if log else "",
            "HTTPLOG": "    log global\n    option httplog" if log else "",
            "ROUTES": f"    use_backend %[path,map_beg({routes},origin)]" if services else "",
            "BACKENDS": "\n".join(f"backend s{i}\n{servers(MANY)}" for i in services),
        }
        return render("haproxy.cfg", os.path.join(self.folder, "haproxy.cfg"), values)

    def tidegate(self, values, turn):
        def backends(count):
            return ", ".join(f'{{ address = "{at}" }}' for at in self.backends(count))
        services = range(self.options.services)
        values |= {
            "ACCESS": str(self.options.access_log).lower(), "BACKENDS": backends(FEW),
            "SLOW_START": f"{10 + turn}s",
            "SERVICES": "\n".join(
                f'[[route]]\npath = "/s{i}/"\nservice = "s{i}"\n'
                f'[service.s{i}]\nbackend = [{backends(MANY)}]' for i in services),
        }
        return render("tidegate.toml", os.path.join(self.folder, "tidegate.toml"), values)

    def command(self):
        if self.rival.kind == "nginx":
            return [self.rival.path, "-p", self.folder, "-c", self.file]
        if self.rival.kind == "haproxy":
            return [self.rival.path, *(["-W"] if self.options.reloads else []), "-db", "-f", self.file]
        return [self.rival.path, "run", "-c", self.file]

    def check(self):
        """Every arm does the same work: the headers are there, plain and over TLS 1.3."""
        for tls, port in ((False, self.plain), (True, self.tls)):
            status, body = get(port, "/headers", tls) or (0, "")
            client, proto, host, request_id = (body.split("|") + [""] * 4)[:4]
            wanted = ("127.0.0.1", "https" if tls else "http", "localhost" if tls else "127.0.0.1")
            if status != 200 or (client, proto) != wanted[:2] or not host.startswith(wanted[2]) \
                    or len(request_id) < 16:
                raise RuntimeError(f"{self.label} answers {status} {body!r} on {port}")
        for path in ("/bulk", "/tuned/bulk"):
            status, body = get(self.plain, path) or (0, "")
            if (status, len(body)) != (200, 1 << 20):
                raise RuntimeError(f"{self.label} answers {status}, {len(body)} bytes, to {path}")
        for i in range(0, self.options.services, max(1, self.options.services - 1)):
            if (get(self.plain, f"/s{i}/") or (0,))[0] != 200:
                raise RuntimeError(f"{self.label} does not answer /s{i}/")

    def stop(self):
        self.process.stop()
