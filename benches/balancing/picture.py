"""Draws the chart: for each scenario and arm p50, p99 and p99.9 on a line of milliseconds.

One SVG file without anything from elsewhere. It follows the light or dark of whoever looks, and
can be read in black and white: the three figures differ by their shapes.
"""

import math
from statistics import median
from xml.sax.saxutils import escape

from proxies import OURS
from scenarios import SCENARIOS

WIDTH, COLUMNS = 960, 2
ROW, HEAD, FOOT = 18, 34, 34
NAMES, FIGURES = 118, 124
TITLE = 62
LOW, HIGH = 5.0, 5000.0
TICKS = (10, 100, 1000)
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #333; }
.title { font-weight: 600; font-size: 12px; }
.ours { font-weight: 700; }
.grid { stroke: #ddd; }
.range { stroke: #8a8a8a; stroke-width: 1.5; }
.mark { fill: #666; stroke: #fff; }
.ours-range { stroke: #0b6bcb; stroke-width: 2.5; }
.ours-mark { fill: #0b6bcb; stroke: #fff; }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd; }
  .grid { stroke: #3a3a3a; }
  .range { stroke: #999; }
  .mark { fill: #bbb; stroke: #111; }
  .ours-range { stroke: #5cb0ff; }
  .ours-mark { fill: #5cb0ff; stroke: #111; }
}
"""


def place(ms, left, right):
    """Where a time is on its line; what is beyond its ends is at them."""
    share = math.log(max(ms, LOW) / LOW) / math.log(HIGH / LOW)
    return left + (right - left) * min(1.0, share)


def shape(kind, x, y, style):
    """A circle for p50, a square for p99, a diamond for p99.9."""
    if kind == "p50_ms":
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y}" r="3.5"/>'
    if kind == "p99_ms":
        return f'<rect class="{style}" x="{x - 4:.1f}" y="{y - 4}" width="8" height="8"/>'
    return f'<path class="{style}" d="M{x:.1f} {y - 5}l5 5l-5 5l-5 -5z"/>'


def text(x, y, words, style="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def brief(ms):
    return f"{ms / 1000:.2g} s" if ms >= 1000 else f"{ms:.0f} ms"


def shortened(title, width):
    return title if len(title) <= width else title[:width - 1].rstrip() + "…"


def panel(left, top, width, scenario, rounds):
    """One scenario: a line an arm."""
    begin, end = left + NAMES, left + width - FIGURES
    arms = list(rounds[0])
    bottom = top + HEAD + ROW * len(arms)
    out = [text(left, top + 14, f"{scenario.name}  {shortened(scenario.title, TITLE)}", "title")]
    for tick in TICKS:
        x = place(tick, begin, end)
        out.append(f'<path class="grid" d="M{x:.1f} {top + HEAD - 8}V{bottom - 4}"/>')
        out.append(text(x, bottom + 8, brief(tick), anchor="middle"))
    for row, label in enumerate(arms):
        y = top + HEAD + ROW * row + 5
        style = "ours-" if label == OURS else ""
        values = {key: median(one[label][key] for one in rounds) for key in ("p50_ms", "p99_ms", "p999_ms")}
        out.append(text(left, y + 4, label, "ours" if style else ""))
        first, last = (place(values[key], begin, end) for key in ("p50_ms", "p999_ms"))
        out.append(f'<path class="{style}range" d="M{first:.1f} {y}H{last:.1f}"/>')
        # The least over the others, where they meet.
        out += [shape(key, place(values[key], begin, end), y, f"{style}mark")
                for key in ("p999_ms", "p99_ms", "p50_ms")]
        late = sum(one[label]["late_share"] for one in rounds) / len(rounds)
        words = brief(values["p99_ms"]) + (f", {late:.1%} > 1 s" if late >= 0.0005 else "")
        out.append(text(end + 10, y + 4, words, "ours" if style else ""))
    return out, bottom + FOOT


def draw(kept):
    """The whole file."""
    measured = [(s, kept["scenarios"][s.name]["rounds"]) for s in SCENARIOS if s.name in kept["scenarios"]]
    out, top = [], 44
    width = (WIDTH - 20 * (COLUMNS - 1)) / COLUMNS
    for i in range(0, len(measured), COLUMNS):
        bottoms = []
        for column, (scenario, rounds) in enumerate(measured[i:i + COLUMNS]):
            lines, bottom = panel(column * (width + 20), top, width, scenario, rounds)
            out += lines
            bottoms.append(bottom)
        top = max(bottoms)
    legend = [text(0, 14, "Latency from the planned time of each request, medians of the rounds; a failure counts "
                          "as 5 s. The number is p99.")]
    for x, kind, name in ((6, "p50_ms", "p50"), (66, "p99_ms", "p99"), (126, "p999_ms", "p99.9")):
        legend += [shape(kind, x, 29, "mark"), text(x + 10, 33, name)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -6 {WIDTH + 20} {top + 6}" role="img" '
        'aria-label="Latency of tidegate, HAProxy and nginx in each scenario">',
        f"<style>{STYLE}</style>", *legend, *out, "</svg>\n"])
