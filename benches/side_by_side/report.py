"""Turns the rounds into Markdown: medians, ratios, and whether each target is met.

A ratio is ours ÷ theirs. Two of them are shown: that of the medians, which the targets are about,
and the median of the ratios of each round, which drift of the machine between rounds cannot move.
"""

from statistics import median

START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
IDLE_BYTES, IDLE_TLS = 3072, 1.0
RELOAD_SECONDS, RELOAD_P99 = 1.0, 1.3
SERVICES_KIB, PICK = 200 * 1024, 1.05
TWO_WORKERS = 1.05


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def middle(rounds, key):
    values = [r[key] for r in rounds if r[key] is not None]
    return median(values) if values else None


def number(value, digits=2):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def verdict(value, target):
    return "met" if value <= target else f"missed by {value / target - 1:.0%}"


def ratios(rounds, ours, theirs):
    """(of the medians, median of the rounds') of CPU a request."""
    mine, other = rounds[ours], rounds[theirs]
    paired = median(m["cpu_us"] / o["cpu_us"] for m, o in zip(mine, other))
    return middle(mine, "cpu_us") / middle(other, "cpu_us"), paired


def load_cases(results, ours):
    """The two tables of the cases with rounds."""
    rows, compared = [], []
    for case in results:
        rounds, name = case["rounds"], f"({case['letter']}) {case['title']}"
        for label, some in rounds.items():
            low, high = min(r["cpu_us"] for r in some), max(r["cpu_us"] for r in some)
            rows.append([
                name if label == next(iter(rounds)) else "", label,
                number(sum(r["requests"] for r in some), 0), sum(r["failures"] for r in some),
                f"**{number(middle(some, 'cpu_us'), 1)}** [{number(low, 1)}–{number(high, 1)}]",
                number(middle(some, "per_second"), 0), number(middle(some, "p50_ms")),
                number(middle(some, "p99_ms")),
                number(max(r["peak_rss_kib"] for r in some) / 1024, 1),
            ])
        if ours not in rounds:
            continue
        rivals = [label for label in rounds if label != ours]
        found = {label: ratios(rounds, ours, label) for label in rivals}
        best = max(rivals, key=lambda label: found[label][0], default=None)
        for label in rivals:
            of_medians, paired = found[label]
            target = case["targets"].get(label)
            if label == best:
                target = case["targets"].get("better", target)
            compared.append([
                name if label == rivals[0] else "", label, number(of_medians), number(paired),
                f"≤ {target}" if target else "–", verdict(of_medians, target) if target else "–"])
    head = ["case", "arm", "requests", "failed", "CPU µs a unit", "units/s", "p50 ms", "p99 ms",
            "peak RSS MiB"]
    text = table(head, rows)
    units = sorted({f"({c['letter']}) {c['unit']}" for c in results if c["unit"] != "request"})
    if units:
        text += f"\nA unit is a request; {', '.join(units)}.\n"
    if compared:
        text += "\nRatios of CPU, tidegate ÷ rival:\n\n"
        text += table(["case", "rival", "of medians", "of rounds", "target", ""], compared)
    return text


def idle(rows, ours):
    by_arm = {row["arm"]: row for row in rows}
    text = table(["(j) idle", "connections", "plain, B a connection", "TLS, B a connection"], [
        [row["arm"], f"{row['plain_connections']} / {row['tls_connections']}",
         number(row["plain_bytes"], 0), number(row["tls_bytes"], 0)] for row in rows])
    mine = by_arm.get(ours)
    if mine:
        text += f"\nPlain: target ≤ {IDLE_BYTES} B, {verdict(mine['plain_bytes'], IDLE_BYTES)}."
        if "nginx" in by_arm:
            ratio = mine["tls_bytes"] / by_arm["nginx"]["tls_bytes"]
            text += f" TLS: {ratio:.2f} of nginx, target ≤ {IDLE_TLS}, {verdict(ratio, IDLE_TLS)}."
        text += "\n"
    return text


def services(rows, ours):
    text = table(
        ["(k) 1,000 routes × 1,000 services × 10", "start s", "reload s", "µs a request, 10 services",
         "same requests, 1,000 services", "ratio (rounds)", "requests to all 1,000", "failed", "idle, % of a core",
         "RSS MiB at the start", "after requests to all", "after 5 reloads"],
        [[row["arm"], number(row["start_seconds"]), number(row["reload_seconds"]), number(row["us_of_10"], 1),
          number(row["us_of_1000"], 1), number(row["pick_ratio"]), number(row["us_all"], 1),
          row["failures"], number(row["idle_cpu_percent"], 1), number(row["rss_start_kib"] / 1024, 0),
          number(row["rss_kib"] / 1024, 0), number(row["rss_after_reloads_kib"] / 1024, 0)]
         for row in rows])
    for row in rows:
        if row["arm"] == ours:
            text += (f"\nReload: target < {RELOAD_SECONDS:.0f} s, {verdict(row['reload_seconds'], RELOAD_SECONDS)}. "
                     f"Pick: target no slower (≤ {PICK} within the noise), {verdict(row['pick_ratio'], PICK)}. "
                     f"RSS: target ≤ 200 MiB: at the start {verdict(row['rss_start_kib'], SERVICES_KIB)}, "
                     f"with connections kept to all 10,000 backends {verdict(row['rss_kib'], SERVICES_KIB)}, "
                     f"after 5 reloads {verdict(row['rss_after_reloads_kib'], SERVICES_KIB)}.\n")
    return text


def reloading(rows, ours):
    text = table(
        ["(l) two reloads a second", "requests", "failed", "reloads", "p99 ms calm", "p99 ms reloading", "ratio",
         "ratio (rounds)"],
        [[row["arm"], number(row["requests"], 0), row["failures"], row["reloads"], number(row["calm_p99_ms"]),
          number(row["p99_ms"]), number(row["p99_ms"] / row["calm_p99_ms"]), number(row["paired"])]
         for row in rows])
    for row in rows:
        if row["arm"] == ours:
            failed = "met" if row["failures"] == 0 else f"missed ({row['failures']})"
            text += (f"\np99: target ≤ {RELOAD_P99} of calm, "
                     f"{verdict(row['p99_ms'] / row['calm_p99_ms'], RELOAD_P99)}. No failures: {failed}.\n")
    return text


def two_workers(rows, ours):
    text = table(
        ["(n) two workers, case (a), not pinned", "CPU µs, one", "CPU µs, two", "ratio", "ratio (rounds)",
         "requests/s, one", "two", "failed"],
        [[row["arm"], number(row["one_us"], 1), number(row["two_us"], 1), number(row["two_us"] / row["one_us"]),
          number(row["paired"]), number(row["one_per_second"], 0), number(row["two_per_second"], 0),
          row["failures"]] for row in rows])
    for row in rows:
        if row["arm"] == ours:
            text += f"\nTarget ≤ {TWO_WORKERS}: {verdict(row['two_us'] / row['one_us'], TWO_WORKERS)}.\n"
    return text


def markdown(result):
    """The measured section of docs/performance.md."""
    ours = result["ours"]
    parts = [table(["", ""], result["facts"]), f"```\n{result['command']}\n```\n"]
    if result["cases"]:
        parts.append(load_cases(sorted(result["cases"], key=lambda case: case["letter"]), ours))
    for name, render in (("j", idle), ("k", services), ("l", reloading), ("n", two_workers)):
        if result["special"].get(name):
            parts.append(render(result["special"][name], ours))
    for error in result["errors"]:
        parts.append(f"**Not measured:** {error}\n")
    return "\n".join(parts)


def replace(text, measured):
    """`text` with the part between the two marks replaced."""
    before, found, rest = text.partition(START)
    after = rest.partition(END)[2] if found else ""
    return f"{before.rstrip()}\n\n{START}\n{measured}\n{END}{after or chr(10)}"
