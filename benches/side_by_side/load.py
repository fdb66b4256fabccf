"""Runs the load generators and reads what they say: wrk, h2load, `tidegate load`, our own clients."""

import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# A generator that hangs is an error of the run, never the end of it.
PATIENCE = 60


class Outcome:
    """Of one round. Latencies are milliseconds, None where the generator does not tell them."""

    def __init__(self, requests, failures, seconds, p50=None, p99=None):
        self.requests, self.failures, self.seconds = requests, failures, seconds
        self.p50, self.p99 = p50, p99


def run(command, cpus, seconds, codes=(0,)):
    """Standard output of a generator pinned beside the origin."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False,
        timeout=seconds + PATIENCE, preexec_fn=lambda: os.sched_setaffinity(0, cpus.rest))
    if done.returncode not in codes:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout


def wrk(cpus, url, seconds, connections, headers=(), script=None, arguments=()):
    """Closed loop, one thread, HTTP/1.1."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for header in headers:
        command += ["-H", header]
    if script:
        command += ["-s", os.path.join(HERE, script)]
    out = run([*command, url, *(["--", *arguments] if arguments else [])], cpus, seconds)
    requests, took = re.search(r"(\d+) requests in ([\d.]+)(?:ms|s|m)", out).groups()
    failures = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", out))
    failures += sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    return Outcome(int(requests), failures, float(took), quantile(out, "50"), quantile(out, "99"))


def quantile(out, name):
    found = re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s|m)$", out, re.M)
    if not found:
        return None
    value, unit = found.groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def h2load(cpus, port, path, seconds, connections, streams):
    """Closed loop over TLS with HTTP/2; latencies from its log of every request."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        out = run(["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}",
                   f"--connect-to=127.0.0.1:{port}", f"--log-file={log}",
                   f"https://localhost:{port}{path}"], cpus, seconds)
        times = []
        with open(log) as file:
            for line in file:
                times.append(int(line.split()[2]))
    if "Application protocol: h2" not in out:
        raise RuntimeError(f"no HTTP/2:\n{out}")
    # "failed" has the errors, timeouts, 4xx and 5xx in it.
    done, failed = map(int, re.search(r"(\d+) done, \d+ succeeded, (\d+) failed", out).groups())
    failed += int(re.search(r"(\d+) 3xx", out).group(1))
    took = re.search(r"finished in ([\d.]+)(ms|s)", out)
    took = float(took.group(1)) / (1000 if took.group(2) == "ms" else 1)
    times.sort()
    at = lambda q: times[int(q * (len(times) - 1))] / 1000 if times else None
    return Outcome(done, failed, took, at(0.5), at(0.99))


def tidegate_load(cpus, binary, url, seconds, rate, connections):
    """Open loop: latency counts from the moment a request was due."""
    out = run([binary, "load", "--url", url, "--rate", rate, "--duration", f"{seconds}s",
               "--connections", connections, "--json"], cpus, seconds, codes=(0, 1))
    report = json.loads(out)
    failures = report["failed"] + report["not_sent"] + sum(report["not_connected"].values()) \
        + report["backend_errors"]
    latency = report["latency_ms"]
    return Outcome(report["completed"], failures, report["seconds"], latency["p50"], latency["p99"])


def client(cpus, seconds, *arguments):
    """`clients.py` in a process of its own; it prints one line of JSON."""
    out = run([sys.executable, os.path.join(HERE, "clients.py"), *arguments], cpus, seconds)
    last = told(out)
    return Outcome(last["requests"], last["failures"], last["seconds"], last["p50"], last["p99"]), last


def told(out):
    """What `clients.py` says in its last line."""
    return json.loads(out.strip().splitlines()[-1])
