"""The arithmetic: figures of one run from its log, ratios of rounds and how sure they are, shares.

Pure functions of numbers; nothing here starts or measures anything. Tested by `test_figures.py`.
"""

import math
import random
from collections import Counter
from statistics import median

# What a request counts that was not answered well, in ms.
FAILED_MS = 5000.0
# Answers later than this are no success, in ms.
SUCCESS_MS = 1000.0
RESAMPLES = 2000
# Seconds that a share is looked at over.
WINDOW = 5
# Of the mean of the others: a backend is back.
FULL_SHARE = 0.9


class Request:
    """One line of the log of `tidegate load`; times in ms, `due` since the start."""

    __slots__ = ("due", "late", "took", "outcome", "backend")

    def __init__(self, line):
        due, late, took, self.outcome, self.backend = line.rstrip("\n").split(",")
        self.due, self.late, self.took = float(due), float(late), float(took)

    @property
    def good(self):
        """A complete answer below 500."""
        return self.outcome.isdigit() and int(self.outcome) < 500

    @property
    def counted_ms(self):
        return self.took if self.good else FAILED_MS


def read_log(lines):
    """The requests of a log, without its head."""
    lines = iter(lines)
    next(lines)
    return [Request(line) for line in lines]


def within(requests, begin, end):
    """Those that were due in these seconds."""
    return [r for r in requests if begin * 1000 <= r.due < end * 1000]


def quantile(values, q):
    """The smallest value with a share of at least `q` at or below it (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def summary(requests, backends):
    """What is kept of a run; shares by backend, 1 = its fair part of the answers."""
    latency = [r.counted_ms for r in requests]
    success = sum(r.good and r.took <= SUCCESS_MS for r in requests)
    answers = Counter(r.backend for r in requests if r.good)
    total = sum(answers.values())
    return {
        "requests": len(requests),
        "p50_ms": quantile(latency, 0.5), "p99_ms": quantile(latency, 0.99),
        "p999_ms": quantile(latency, 0.999),
        "mean_ms": sum(latency) / len(latency),
        "failed": sum(not r.good for r in requests),
        "outcomes": dict(sorted(Counter(r.outcome for r in requests).items())),
        "success": success / len(requests), "late_share": 1 - success / len(requests),
        "late_ms": quantile([r.late for r in requests], 0.99),
        "not_sent": sum(r.outcome == "not_sent" for r in requests),
        "shares": {name: answers[name] * len(backends) / max(1, total) for name in backends},
    }


def was_late(one, limit_ms):
    """Whether the generator did not keep the times of a run."""
    return one["late_ms"] > limit_ms or one["not_sent"] > 0


def goodput(requests, slo_ms):
    """Share of requests that were answered well and in time."""
    return sum(r.good and r.took <= slo_ms for r in requests) / max(1, len(requests))


def recovered(requests, since, until, slo_ms, wanted=0.95):
    """Seconds from `since` to the first whole second from which on, to `until`, each second has
    at least `wanted` of its requests within the SLO; None: never."""
    found = None
    for second in range(math.ceil(since), math.floor(until)):
        some = within(requests, second, second + 1)
        if some and goodput(some, slo_ms) >= wanted:
            found = second - since if found is None else found
        else:
            found = None
    return found


def ratios(rounds, ours, key):
    """Ours ÷ the best of the others, for each round; and how often each of the others was it.

    A round is {arm: summary}. A round whose best rival has 0 has no ratio.
    """
    found, best = [], Counter()
    for one in rounds:
        rivals = [label for label in one if label != ours]
        label = min(rivals, key=lambda name: one[name][key])
        best[label] += 1
        if one[label][key] > 0:
            found.append(one[ours][key] / one[label][key])
    return found, dict(best.most_common())


def paired(rounds, ours, theirs, key):
    """Ours ÷ that one's, for each round."""
    return [one[ours][key] / one[theirs][key] for one in rounds if one[theirs][key] > 0]


def bootstrap(values, level=0.9, seed=1):
    """(median, low, high): the bounds that hold that share of the medians of resampled rounds."""
    rng = random.Random(seed)
    medians = [median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    tail = (1 - level) / 2
    return median(values), quantile(medians, tail), quantile(medians, 1 - tail)


def share_of(requests, backend, others):
    """Answers of a backend ÷ the mean of the others; None without any of theirs."""
    answers = Counter(r.backend for r in requests if r.good)
    mean = sum(answers[name] for name in others) / len(others)
    return answers[backend] / mean if mean else None


def share_series(requests, backend, others, until):
    """`share_of` second by second."""
    seconds = [within(requests, second, second + 1) for second in range(int(until))]
    return [share_of(some, backend, others) for some in seconds]


def back_after(requests, backend, others, since, until):
    """Seconds from `since` to the end of the first window in which the backend had its full share
    of the answers again; None: not until `until`."""
    for begin in range(math.ceil(since), math.floor(until) - WINDOW + 1):
        share = share_of(within(requests, begin, begin + WINDOW), backend, others)
        if share is not None and share >= FULL_SHARE:
            return begin + WINDOW - since
    return None
