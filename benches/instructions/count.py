"""Counts: tidegate under callgrind, an origin behind it and h2load before it.

Origin, configuration and the way an arm is started are those of `side_by_side`, case (a).
"""

import os
import re
import subprocess
import sys

import callgrind

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "side_by_side"))

import arms  # noqa: E402

# Start, first connections and end cost the same in both and cancel out.
LONG, SHORT = 12_000, 2_000
# h2load's options: 64 requests at a time over kept connections; over HTTP/2 in the shape of case (g).
CASES = {
    "h1": ["--h1", "-c64"],
    "h2": ["-c8", "-m32"],
}
PATIENCE = 300


class Counted(arms.Arm):
    """tidegate under callgrind."""

    def command(self):
        out = os.path.join(self.folder, "callgrind")
        # Else a copy of 2 KiB or more is `rep movsb`, which callgrind counts as an instruction a byte.
        limits = "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824"
        return ["env", f"GLIBC_TUNABLES={limits}", arms.program("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}",
                "--fair-sched=try", "--quiet", *super().command()]

    def check(self):
        """The wait for the first answer is enough; other checks would count."""

    def ended(self):
        """Ends it and returns what was counted."""
        self.process.child.terminate()
        code = self.process.child.wait(PATIENCE)
        out = os.path.join(self.folder, "callgrind")
        if code != 0 or not os.path.exists(out):
            with open(self.process.output, errors="replace") as file:
                raise RuntimeError(f"under valgrind it ended with {code}:\n{file.read()[-2000:]}")
        return callgrind.read(out)


def request(case, binary, folder, cpus, origin):
    """The profile of one request."""
    long, short = (run(case, binary, os.path.join(folder, f"{case}-{n}"), cpus, origin, n)
                   for n in (LONG, SHORT))
    return long.minus(short, LONG - SHORT)


def run(case, binary, folder, cpus, origin, requests):
    os.makedirs(folder, exist_ok=True)
    rival = arms.Rival("tidegate", binary)
    arm = Counted(rival, folder, cpus, origin, arms.Options())
    try:
        send(case, arm.plain, requests, cpus)
        return arm.ended()
    finally:
        arm.stop()


def send(case, port, requests, cpus):
    """That many requests, each of which must be answered with 200."""
    command = [arms.program("h2load"), "-t1", f"-n{requests}", *CASES[case], f"http://127.0.0.1:{port}/small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False,
                          preexec_fn=lambda: os.sched_setaffinity(0, cpus.rest))
    good = re.search(r"(\d+) succeeded", done.stdout)
    if done.returncode != 0 or not good or int(good.group(1)) != requests:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
