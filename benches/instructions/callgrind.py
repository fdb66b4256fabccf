"""Reads what callgrind writes, and says whose instructions they are.

An instruction belongs to the crate whose source file it came from, so that inlined code counts for
its author and not for whom it was inlined into; functions are those that were left after inlining.
The format is that of the Callgrind manual, "Callgrind Format Specification".
"""

import collections
import os
import re

Place = collections.namedtuple("Place", "object file function")

MEMORY = re.compile(r"_*(mem(cpy|move|set|cmp|pcpy)|bcmp)(_|$)")
CRATE = re.compile(r"/registry/src/[^/]+/([A-Za-z0-9_-]+?)-\d[^/]*/(.*)")
STD = re.compile(r"/(?:rustc/[^/]+|rust)/library/(?:core|std|alloc|\w+)/|/rustc/[^/]+/|/rust/deps/")
GROUPS = {"hyper-util": "hyper", "libmimalloc-sys": "allocator", "aws-lc-sys": "aws-lc", "aws-lc-rs": "aws-lc"}


class Profile:
    """Instructions by place, and those of copies by the function that asked for them."""

    def __init__(self):
        # Without those of functions that were called from there.
        self.costs = collections.Counter()
        self.copies = collections.Counter()

    def minus(self, other, requests):
        """What one of so many requests costs that this has more than the other."""
        less = Profile()
        for field in ("costs", "copies"):
            long, short = getattr(self, field), getattr(other, field)
            getattr(less, field).update(
                {key: (long[key] - short[key]) / requests for key in long.keys() | short.keys()})
        return less

    def total(self):
        return sum(self.costs.values())


def read(path):
    """The profile in a file that callgrind wrote."""
    profile = Profile()
    names = {"file": {}, "function": {}, "object": {}}
    at = {"file": "???", "function": "???", "object": "???"}
    kinds = {"fl": "file", "fi": "file", "fe": "file", "fn": "function", "ob": "object"}
    called = {"cfi": "file", "cfl": "file", "cfn": "function", "cob": "object"}
    callee, is_call = "???", False
    with open(path, errors="replace") as lines:
        for line in lines:
            first = line[:1]
            if first in "0123456789+-*":
                # "line cost"; after "calls=" it is what the call cost as a whole.
                cost = int((line.split() + ["0"])[1])
                if not is_call:
                    profile.costs[Place(**at)] += cost
                elif MEMORY.match(callee):
                    profile.copies[at["function"]] += cost
                is_call = False
                continue
            key, found, value = line.rstrip("\n").partition("=")
            if not found:
                continue
            if key == "calls":
                is_call = True
            elif kind := kinds.get(key) or called.get(key):
                name = whole_name(names[kind], value)
                if key in kinds:
                    at[kind] = name
                elif key == "cfn":
                    callee = name
    return profile


def whole_name(known, text):
    """`(7) name` names and tells the number, `(7)` is that name again."""
    number, _, name = text.partition(")")
    if not number.startswith("("):
        return text
    if name:
        known[number] = name.strip()
    return known.get(number, "???")


def group(place, root):
    """Whose it is: ours, a crate, std, allocator, memcpy, libc."""
    if MEMORY.match(place.function):
        return "memcpy"
    if place.function.startswith(("mi_", "_mi_")):
        return "allocator"
    if place.file.startswith((os.path.join(root, "src") + "/", "src/")):
        return "ours"
    if found := CRATE.search(place.file):
        name, file = found.groups()
        if name == "http":
            return "http::HeaderMap" if file.startswith("src/header/") else "http"
        return GROUPS.get(name, name)
    if STD.search(place.file):
        return "std"
    base = os.path.basename(place.object)
    return "libc" if base.startswith(("libc.", "libc-", "ld-", "libm.", "libpthread")) else "unknown"


def short_file(file, root):
    """As people write it: `hyper src/proto/h1/io.rs`."""
    if found := CRATE.search(file):
        return " ".join(found.groups())
    file = re.sub(r"^/rustc/[^/]+/library/", "std ", file)
    return file.removeprefix(root + "/")


def short_function(name):
    """Without the hash and without what generics were filled with, but for `<Type as Trait>`."""
    name = re.sub(r"::h[0-9a-f]{16}", "", re.sub(r"'\d+$", "", name))
    out, depth = [], 0
    for at, c in enumerate(name):
        # What opens a name or a path is a type; what follows one are its arguments.
        opens = c == "<" and at > 0 and name[at - 1] not in "<(&, "
        if opens or (depth and c == "<"):
            depth += 1
        elif depth and c == ">" and name[at - 1] != "-":
            depth -= 1
        elif not depth:
            out.append(c)
    return "".join(out).replace("::::", "::")


def totals(costs, key):
    """Sums by `key(place)`, the largest first."""
    sums = collections.Counter()
    for place, cost in costs.items():
        sums[key(place)] += cost
    return sums.most_common()


def tables(case, profile, root, top):
    """Markdown: whose the instructions of a request are, and the `top` files, functions and copies."""
    costs, whole = profile.costs, profile.total()
    belongs = {place: group(place, root) for place in costs}

    def file(place):
        return f"{belongs[place]}: {short_file(place.file, root)}" if place.file != "???" else belongs[place]

    parts = [
        ("whose", totals(costs, belongs.get), 100),
        ("source file, inlined code too", totals(costs, file), top),
        ("function, with what was inlined into it", totals(costs, lambda place: short_function(place.function)), top),
        ("who copies, compares or clears memory", totals(profile.copies, short_function), top),
    ]
    lines = []
    for title, rows, most in parts:
        # What is less than a part in 500 is chance.
        rows = [row for row in rows[:most] if row[1] >= whole / 500]
        if rows:
            lines += [f"| {case}: {title} | Ir a request | share |", "|---|---|---|"]
        for name, cost in rows:
            lines.append(f"| {name[:110].replace('|', '¦')} | {cost:,.0f} | {cost / whole:.1%} |")
        lines.append("")
    return "\n".join(lines).strip() + "\n"
