"""Turns the rounds into Markdown: medians, ratios with their bounds, and whether targets are met."""

from statistics import median

import figures
from proxies import OURS
from report import number, replace, table
from scenarios import SCENARIOS, SHARES

__all__ = ["markdown", "replace"]
# p99.9 of fewer requests than this in a round rests on less than ten of them.
FEW = 10_000
# A healthy backend has at least this part of its share at low load.
LEAST_SHARE = 2 / 3
BACK_WITHIN = 45
NAMES = {"p99_ms": "p99", "p999_ms": "p99.9", "failed": "failed", "late_share": "not answered within 1 s"}


def middle(rounds, label, key):
    return median(one[label][key] for one in rounds)


def arms_of(rounds):
    return list(rounds[0])


def spread(rounds, label):
    """The least and the most that a backend had of its fair share, all rounds together."""
    names = rounds[0][label]["shares"]
    means = [sum(one[label]["shares"][name] for one in rounds) / len(rounds) for name in names]
    return f"{min(means):.2f}–{max(means):.2f}"


def rows_of(scenario, rounds):
    for label in arms_of(rounds):
        some = [one[label] for one in rounds]
        requests = sum(one["requests"] for one in some)
        late = sum(one["late_share"] * one["requests"] for one in some) / requests
        few = "*" if min(one["requests"] for one in some) < FEW else ""
        yield [
            f"**{scenario.name}**" if label == OURS else "", label, number(requests, 0),
            number(middle(rounds, label, "p50_ms"), 1), number(middle(rounds, label, "p99_ms"), 1),
            number(middle(rounds, label, "p999_ms"), 1) + few,
            sum(one["failed"] for one in some), f"{1 - late:.3%}", spread(rounds, label),
            f"{max(one['late_ms'] for one in some):.1f}{' **late**' if any(figures.was_late(one, scenario.late_ms) for one in some) else ''}",
            f"{median(one['cpu'] for one in some):.0%}",
        ]


def verdict(value, low, limit):
    """A ratio is of few rounds: above the limit, but with the limit within its bounds, is not known."""
    if value <= limit:
        return "met"
    return "within the noise" if low <= limit else f"missed by {value / limit - 1:.0%}"


def compared(scenario, rounds):
    """The targets, each beside what was found."""
    for target in scenario.targets:
        name = NAMES[target.key]
        if target.absolute:
            weights = [one[OURS]["requests"] for one in rounds]
            values = [one[OURS][target.key] for one in rounds]
            if target.key == "late_share":
                found = sum(v * w for v, w in zip(values, weights)) / sum(weights)
                low, limit, shown = min(values), f"≤ {target.limit:.1%}", f"{found:.3%}"
            else:
                found = low = sum(values)
                limit, shown = f"{target.limit}", f"{found:.0f} of {sum(weights)}"
            rivals = ", ".join(f"{label} {others(rounds, label, target.key)}"
                               for label in arms_of(rounds) if label != OURS)
            good = "met" if found <= target.limit else "missed"
            yield [f"**{scenario.name}** {name}", shown, "–", rivals, limit, good]
            continue
        values, best = figures.ratios(rounds, OURS, target.key)
        if not values:
            continue
        value, low, high = figures.bootstrap(values)
        yield [f"**{scenario.name}** {name} ÷ best rival", f"**{value:.3f}**", f"{low:.3f}–{high:.3f}",
               ", ".join(f"{label} ({count})" for label, count in best.items()),
               f"≤ {target.limit:g}", verdict(value, low, target.limit)]


def against_each(scenario, rounds):
    """p99 and p99.9 against every rival: the best of a round is, of equals, the one with more luck."""
    for key in ("p99_ms", "p999_ms"):
        cells = []
        for label in arms_of(rounds):
            if label != OURS:
                value, low, high = figures.bootstrap(figures.paired(rounds, OURS, label, key))
                cells.append(f"{value:.3f} [{low:.3f}–{high:.3f}]")
        yield [f"**{scenario.name}** {NAMES[key]}", *cells]


def others(rounds, label, key):
    some = [one[label] for one in rounds]
    if key == "failed":
        return number(sum(one["failed"] for one in some), 0)
    return f"{sum(one[key] * one['requests'] for one in some) / sum(one['requests'] for one in some):.2%}"


def returns(scenario, rounds):
    """Scenario 6: what is answered in time, and when all is as before again."""
    for label in arms_of(rounds):
        some = [one[label] for one in rounds]
        recovered = [one["recovered_s"] for one in some]
        back = [seconds for one in some for seconds in one["back_s"].values()]
        yield [label, f"{median(one['goodput'] for one in some):.1%}", sum(one["failed"] for one in some),
               seconds(recovered), seconds(back)]


def seconds(values):
    """The median and the longest; `never` where one of them did not come."""
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    missing = len(values) - len(known)
    return f"{median(known):.0f} (longest {max(known):.0f}" + (f", {missing} of {len(values)} never)" if missing else ")")


def shares(kept):
    rows = []
    for scenario in SHARES:
        one = kept["scenarios"].get(scenario.name)
        if not one:
            continue
        healthy = {name: share for name, share in one["shares"].items() if name not in scenario.changed}
        if scenario.back is None:
            mean = sum(healthy.values()) / len(healthy)
            least = min(healthy.values()) / mean
            found = f"least share of a healthy one {least:.2f}, most {max(healthy.values()) / mean:.2f}"
            target, good = "≥ ⅔", "met" if least >= LEAST_SHARE else "missed"
        else:
            back = one["back_s"][scenario.changed[0]]
            found = "not back" if back is None else f"full share again after {back} s"
            target = f"≤ {BACK_WITHIN} s"
            good = "met" if back is not None and back <= BACK_WITHIN else "missed"
        each = one["requests"] / len(one["shares"])
        rows.append([scenario.title, f"{one['requests']}, {each:.0f} a backend", one["failed"], found, target, good])
    return table(["tidegate alone", "requests", "failed", "found", "target", ""], rows)


def markdown(kept):
    """The measured section of docs/balancing.md."""
    parts, rows, ratios, each, six = [], [], [], [], []
    measured = [(s, kept["scenarios"][s.name]) for s in SCENARIOS if s.name in kept["scenarios"]]
    told = [one for _, one in measured] + ([kept["shares"]] if kept["shares"] else [])
    if told:
        parts.append(table(["", ""], told[-1]["facts"]))
        parts.append("```\n" + "\n".join(dict.fromkeys(one["command"] for one in told)) + "\n```\n")
    titles = []
    for scenario, one in measured:
        rounds = one["rounds"]
        titles.append([f"**{scenario.name}**", scenario.title, f"{len(rounds)} × {one['seconds']} s",
                       "at once" if scenario.at_once else "one after the other"])
        rows += rows_of(scenario, rounds)
        ratios += compared(scenario, rounds)
        if not scenario.at_once:
            each += against_each(scenario, rounds)
            rivals = [label for label in arms_of(rounds) if label != OURS]
        if scenario.slo_ms:
            six += returns(scenario, rounds)
    if titles:
        parts.append(table(["", "scenario", "rounds", "arms of a round"], titles))
    if ratios:
        parts.append("Targets, tidegate against the best of the rivals of the same round:\n")
        parts.append(table(["", "found", "90 % bounds", "best rival (rounds), or the rivals", "target", ""], ratios))
    if each:
        parts.append("tidegate ÷ each rival in the same round, with 90 % bounds:\n")
        parts.append(table(["", *rivals], each))
    if rows:
        parts.append("All arms, medians of the rounds:\n")
        parts.append(table(["", "arm", "requests", "p50 ms", "p99 ms", "p99.9 ms", "failed", "within 1 s",
                            "shares", "generator late, p99 ms", "CPU"], rows))
        parts.append(f"\\* of fewer than {number(FEW, 0)} requests in a round: it rests on less than ten of them.\n")
    if six:
        parts.append("Scenario 6, answers within 200 ms; seconds from the return of the five until 95 % of each "
                     "second's requests are that, and until each of the five has its share:\n")
        parts.append(table(["arm", "goodput", "failed", "recovered after s", "shares back after s"], six))
    if kept["shares"]:
        parts.append(shares(kept["shares"]))
    return "\n".join(parts)
