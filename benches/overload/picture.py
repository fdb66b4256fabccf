"""Draws the chart: for each phase and arm what was answered of what the backends can answer, and its p99; and what
share of critical requests was answered. One SVG file that follows the light or dark of whoever looks."""

from statistics import median
from xml.sax.saxutils import escape

WIDTH, ROW, HEAD, GAP = 960, 17, 40, 12
NAMES = 190
# Left end, width, what it shows, its full width, and the line that is asked for.
PANELS = (("answered", "answered ÷ capacity", 190, 300, 1.1, 0.95),
          ("p99", "p99 of what was answered, ms", 540, 190, 600, None),
          ("critical", "critical requests answered", 780, 150, 1.0, 0.999))
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #333; }
.title { font-weight: 600; font-size: 12px; }
.bar { fill: #aaa; }
.ours { fill: #0b6bcb; }
.asked { stroke: #c33; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd; }
  .bar { fill: #777; }
  .ours { fill: #5cb0ff; }
  .asked { stroke: #f66; }
}
"""


def words(key, value):
    return f"{value:.0f}" if key == "p99" else f"{value:.2f}" if key == "answered" else f"{100 * value:.1f} %"


def text(x, y, content, style="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(content)}</text>'


def bars(key, left, width, full, rows, top):
    out = []
    for at, (arm, rounds) in enumerate(rows):
        value = median(rounds[key])
        y, length = top + ROW * at, width * min(value / full, 1.0)
        style = "bar ours" if arm == "tidegate" else "bar"
        out.append(f'<rect class="{style}" x="{left}" y="{y}" width="{length:.1f}" height="{ROW - 4}"/>')
        out.append(text(left + length + 4, y + 11, words(key, value)))
    return out


def draw(found):
    """`found`: by arm, the rounds; of each, by phase, its figures."""
    arms, out, top = list(found), [], HEAD
    phases = list(found[arms[0]][0])
    for phase in phases:
        out.append(text(0, top + 11, f"{phase} × capacity" if phase[-1].isdigit() else phase, "title"))
        rows = []
        for at, arm in enumerate(arms):
            out.append(text(NAMES - 8, top + ROW * at + 11, arm, anchor="end"))
            rows.append((arm, {key: [one[phase][key] for one in found[arm]] for key, *_ in PANELS}))
        for key, _, left, width, full, _ in PANELS:
            out += bars(key, left, width, full, rows, top)
        top += ROW * len(arms) + GAP
    for _, title, left, width, full, asked in PANELS:
        out.append(text(left, HEAD - 14, title, "title"))
        if asked:
            x = left + width * asked / full
            out.append(f'<path class="asked" d="M{x:.1f} {HEAD - 6}V{top - GAP}"/>')
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -6 {WIDTH + 20} {top + 6}" role="img" '
                      'aria-label="What tidegate, HAProxy and nginx answer in an overload">',
                      f"<style>{STYLE}</style>", *out, "</svg>\n"])
