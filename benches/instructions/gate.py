"""The gate: figures that were measured against those that were accepted.

Nothing here measures; `run.py` does, and tests feed it figures of their own.
"""

import hashlib
import json
import os
import platform
import re
import subprocess

# A figure may be this much above the accepted one; as much below, and it should be accepted.
TOLERANCE = 0.05
FIX = ("If that is the price of something that is worth it, accept it and say why in the commit:\n"
       "    benches/instructions/run.py --write\n"
       "Otherwise `benches/instructions/run.py --top 40` shows where the instructions are.")
HINT = "better than accepted; keep it so with: benches/instructions/run.py --write"


def compare(measured, accepted):
    """(whether it passes, what to say). Each is `{"figures": {case: Ir}, "made_with": {what: which}}`."""
    lines, passes = [], True
    for what, now in measured["made_with"].items():
        before = accepted["made_with"].get(what, "unknown")
        if before != now:
            lines.append(f"note: {what} is {now}, the figures were accepted with {before}; compared all the same")
    for case, figure in measured["figures"].items():
        before = accepted["figures"].get(case)
        if before is None:
            lines.append(f"{case}: {figure:,.0f} instructions a request, and no figure was ever accepted: FAILED")
            passes = False
            continue
        change = figure / before - 1
        verdict = "ok"
        if change > TOLERANCE:
            verdict, passes = f"more than +{TOLERANCE:.0%}: FAILED", False
        elif change < -TOLERANCE:
            verdict = HINT
        lines.append(f"{case}: {figure:,.0f} instructions a request, {before:,.0f} accepted,"
                     f" {change:+.1%}: {verdict}")
    if not passes:
        lines.append(FIX)
    return passes, lines


def made_with(root):
    """What the figures depend on besides the sources."""
    with open(os.path.join(root, "Cargo.lock"), "rb") as file:
        lock = hashlib.sha256(file.read()).hexdigest()[:16]
    return {
        "rustc": first_line("rustc", "--version"),
        "valgrind": first_line("valgrind", "--version"),
        # memcpy and the like are its.
        "libc": " ".join(platform.libc_ver()) or "unknown",
        "Cargo.lock": f"sha256 {lock}",
    }


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return "not there"
    return re.sub(r"\s+", " ", done.stdout.partition("\n")[0]).strip() or "unknown"


def read(path):
    with open(path) as file:
        return json.load(file)


def write(path, measured, accepted):
    """Accepts what was measured; the figures of other cases stay."""
    figures = {**accepted.get("figures", {}), **measured["figures"]}
    with open(path, "w") as file:
        json.dump({"figures": figures, "made_with": measured["made_with"]}, file, indent=2)
        file.write("\n")
