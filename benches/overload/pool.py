"""Backends that sleep: they have slots, and each request takes its time in one."""

import socket
import subprocess
import time

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Pool:
    """Started and stopped by number, each on a port of its own."""

    def __init__(self, tidegate, count, slots, delay_ms):
        self.command = [tidegate, "origin", "--slots", str(slots), "--delay", f"exp:{delay_ms}ms"]
        self.ports = [free_port() for _ in range(count)]
        # Requests a second that all of them answer.
        self.capacity = count * slots / (delay_ms / 1000)
        self.processes = {}
        self.start()

    def start(self):
        """Those that do not run."""
        for port in self.ports:
            if port not in self.processes:
                self.processes[port] = subprocess.Popen([*self.command, "--port", str(port)], **QUIET)
        for port in self.ports:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)

    def stop(self, count=None):
        """So many of them, at once, as if they had crashed."""
        for port in self.ports[:count]:
            process = self.processes.pop(port, None)
            if process:
                process.kill()
                process.wait()
