"""The scenarios: which backends, which load, and what is aimed at.

Each backend is {"slots": n, "phases": [...]} as `backends.rs` reads it; a phase has the second in
which it begins. What is drawn at random is drawn from the seed of the round, the same for all arms.
"""

import random

from proxies import Settings


class Target:
    """At most `limit`, as the ratio to the best rival of the round, or (`absolute`) of tidegate alone."""

    def __init__(self, key, limit, absolute=False):
        self.key, self.limit, self.absolute = key, limit, absolute


class Scenario:
    """`pool(seed)` are the backends; `rate` requests a second for `warm` seconds that do not count
    and `seconds` that do.

    With `at_once` all arms of a round run at the same time, each with its own backends: where
    failures and seconds count, not milliseconds, and the load leaves room for it.
    """

    def __init__(self, name, title, pool, rate, seconds, warm=0, targets=(), settings=None,
                 timed=False, at_once=False, slo_ms=None, changed=None, back=None):
        self.name, self.title, self.pool, self.rate = name, title, pool, rate
        self.seconds, self.warm, self.targets = seconds, warm, list(targets)
        self.settings = settings or Settings()
        self.at_once, self.slo_ms = at_once, slo_ms
        # Something happens at set times, so that it cannot be made shorter.
        self.timed = timed or at_once
        # A generator that was later than this (p99) adds to what it measures: milliseconds count in
        # the one, seconds in the other.
        self.late_ms = 10 if at_once else 2
        # The backends that fail for a time, and the second in which they work again.
        self.changed, self.back = changed or [], back


def phase(at, delay, **more):
    return {"at": at, "delay": delay, **more}


def backend(delay, slots=0, later=()):
    return {"slots": slots, "phases": [phase(0, delay), *later]}


def same(count, delay, slots=0):
    """That many of a kind."""
    return [backend(delay, slots) for _ in range(count)]


def antagonists(seed):
    """Every ten seconds three of sixteen, drawn anew, are three times as slow."""
    rng = random.Random(seed)
    pool = [{"slots": 5, "phases": []} for _ in range(16)]
    for at in range(0, 120, 10):
        slow = set(rng.sample(range(16), 3))
        for i, one in enumerate(pool):
            one["phases"].append(phase(at, "exp:120ms" if i in slow else "exp:40ms"))
    return pool


def one_changes(count, delay, at, until, then):
    """The first backend is another one for a time; afterwards it is as before."""
    later = [phase(at, **then), phase(until, delay)]
    return [backend(delay, later=later), *same(count - 1, delay)]


def half_leaves(at, until):
    """Five of ten are gone for a time."""
    later = [phase(at, "exp:50ms", door="closed"), phase(until, "exp:50ms")]
    return [backend("exp:50ms", 2, later) for _ in range(5)] + same(5, "exp:50ms", 2)


def unlike(count, delay_ms):
    """Of a kind, but none exactly like another: means from 0.99 to 1.01 of the delay."""
    step = 0.02 / (count - 1)
    return [backend(f"{delay_ms * (0.99 + step * i):.3f}ms") for i in range(count)]


# How one of ten fails in scenario 5, and what every arm is told of it.
FAILURES = {
    "503": ("answers 503 in 1 ms", {"delay": "1ms", "status": 503}, Settings()),
    "refused": ("refuses connections", {"delay": "50ms", "door": "closed"}, Settings()),
    "dropped": ("drops SYNs, connect timeout 1 s", {"delay": "50ms", "door": "dropping"},
                Settings(connect="1s")),
    "silent": ("accepts and is silent, response timeout 1 s, tried again", {"delay": "1h"},
               Settings(response="1s", retry_timeout=True)),
}
# Seconds until one fails, and for how long, where its return is looked at; as long again as is asked
# for (45 s) and some more to see it in.
ONSET, FAILING, RETURNING = 5, 20, 55
STALL = {"delay": "2s"}


def failing(name, title, then, settings):
    return Scenario(
        f"5-{name}", f"one of 10 (50 ms, 500/s) {title} from second 2 on",
        lambda seed: one_changes(10, "50ms", 2, 3600, then), 500, 16, settings=settings,
        at_once=True, targets=[Target("failed", 0, absolute=True)], changed=["b0"])


def returning(name, title, count, delay, rate, then, settings):
    """A backend that fails for twenty seconds and works again: when it has its share back."""
    return Scenario(
        f"back-{name}", f"one of {count} {title} for {FAILING} s",
        lambda seed: one_changes(count, delay, ONSET, ONSET + FAILING, then), rate,
        ONSET + FAILING + RETURNING, settings=settings, at_once=True,
        changed=["b0"], back=ONSET + FAILING)


SCENARIOS = [
    Scenario("1", "16 backends, 5 slots, exp 80 ms, 900/s (ρ 0.9)",
             lambda seed: same(16, "exp:80ms", 5), 900, 20, warm=2, targets=[Target("p99_ms", 1.0)]),
    Scenario("2", "14 backends of 50 ms and 2 of 800 ms, 500/s",
             lambda seed: same(14, "50ms") + same(2, "800ms"), 500, 12, warm=4,
             targets=[Target("p99_ms", 0.1), Target("p999_ms", 0.1)]),
    Scenario("2b", "4 backends exp 10 ms and 4 exp 100 ms, 4 slots each, 1400/s (ρ 0.8)",
             lambda seed: same(4, "exp:10ms", 4) + same(4, "exp:100ms", 4), 1400, 9, warm=2,
             targets=[Target("p99_ms", 0.3)]),
    Scenario("2c", "16 backends, 5 slots, exp 40 ms, 1400/s; every 10 s another 3 are 3 times slower",
             antagonists, 1400, 20, timed=True, targets=[Target("p99_ms", 0.85)]),
    Scenario("3", "4 backends exp 40 ms and 4 exp 80 ms, 4 slots each, 510/s (ρ 0.85)",
             lambda seed: same(4, "exp:40ms", 4) + same(4, "exp:80ms", 4), 510, 20, warm=3,
             targets=[Target("p99_ms", 1.0)]),
    Scenario("4", "11 backends of 167 ms, one takes 2 s for 30 of 60 s, 300/s",
             lambda seed: one_changes(11, "167ms", 15, 45, STALL), 300, 60, at_once=True,
             targets=[Target("late_share", 0.001, absolute=True)], changed=["b0"]),
    *(failing(name, *how) for name, how in FAILURES.items()),
    Scenario("6", "10 backends, 2 slots, exp 50 ms, 260/s (0.65 of ten's capacity, 1.3 of five's); "
             "five refuse for 8 s",
             lambda seed: half_leaves(5, 13), 260, 28, at_once=True, slo_ms=200,
             changed=[f"b{i}" for i in range(5)], back=13),
]

# About tidegate alone: shares, which latency does not show.
SHARES = [
    Scenario("low", "16 backends of 50 ms ± 1 %, 40/s",
             lambda seed: unlike(16, 50), 40, 80, at_once=True),
    Scenario("low-2", "14 backends of 50 ms ± 1 % and 2 of 800 ms, 40/s",
             lambda seed: unlike(14, 50) + same(2, "800ms"), 40, 80, at_once=True,
             changed=["b14", "b15"]),
    returning("stalled", "(167 ms, 300/s) takes 2 s", 11, "167ms", 300, STALL, Settings()),
    *(returning(name, f"(50 ms, 500/s) {title}", 10, "50ms", 500, then, settings)
      for name, (title, then, settings) in FAILURES.items()),
]
