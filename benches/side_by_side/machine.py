"""Processes as the kernel counts them, CPUs to pin to, free ports, and facts about the machine.

Nothing here knows of proxies or of cases.
"""

import copy
import os
import platform
import resource
import signal
import socket
import subprocess

TICKS = os.sysconf("SC_CLK_TCK")


class Cpus:
    """Which CPU the measured process gets; everything else runs on the others."""

    def __init__(self, pin):
        every = sorted(os.sched_getaffinity(0))
        self.pinned = pin and len(every) > 1
        self.every = set(every)
        self.proxy = {every[-1]} if self.pinned else set(every)
        self.rest = set(every[:-1]) if self.pinned else set(every)

    def unpinned(self):
        """Everything may run everywhere."""
        other = copy.copy(self)
        other.pinned, other.proxy, other.rest = False, self.every, self.every
        return other


class Process:
    """A program that was started, with all its descendants."""

    def __init__(self, command, cpus, output):
        self.command = [str(part) for part in command]
        with open(output, "ab") as log:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        self.output = output

    def pids(self):
        """It and its descendants, oldest first."""
        found = [self.child.pid]
        for pid in found:
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as file:
                        found.extend(int(child) for child in file.read().split())
            except OSError:
                continue
        return found

    def cpu(self):
        """Seconds of user and system time so far, with those of children that ended."""
        ticks = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat") as file:
                    # The name in parentheses may hold spaces; utime is field 14, cstime 17.
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / TICKS

    def memory(self, key):
        """KiB of `VmRSS` or `VmHWM` (the peak), summed over the processes."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith(key))
            except OSError:
                continue
        return total

    def signal(self, number):
        self.child.send_signal(number)

    def alive(self):
        return self.child.poll() is None

    def stop(self):
        """TERM, then KILL after five seconds."""
        left = self.pids()
        if self.alive():
            self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.child.wait()


def free_ports(count):
    """Ports that nobody on 127.0.0.1 has; all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def raise_file_limit(wanted=65536):
    """As many open files as we may have, up to `wanted`; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def facts():
    """What the figures depend on, as (name, value)."""
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024
    return [
        ("CPU", f"{model}, {os.cpu_count()} logical"),
        ("memory", f"{memory} MiB"),
        ("kernel", platform.release()),
    ]


def load_average():
    return os.getloadavg()[0]
