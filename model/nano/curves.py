"""Draws the curves of a training log as an SVG.

    /usr/bin/python3 -m model.nano.curves STATE.jsonl docs/nano-curves.svg
"""

import json
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 220, 60, 30, 50
SERIES = [  # panel, field, colour
    ("loss", "model", "#1f5fa8"), ("loss", "rest", "#b8860b"), ("loss", "mtp", "#7a3b9a"), ("loss", "index", "#777777"),
    ("accuracy", "markup", "#b8860b"), ("accuracy", "copy", "#1f5fa8")]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw(rows: list[dict]) -> str:
    """Panels above each other over millions of tokens: losses, then shares of right tokens."""
    panels = ["loss", "accuracy"]
    full = {"loss": max(r["model"] for r in rows), "accuracy": 1.0}
    span = rows[-1]["tokens"] / 1e6
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 130}" '
           f'height="{TOP + 2 * (HEIGHT + GAP)}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>']
    evaluations = sorted({k for r in rows for k in r if k.startswith("eval")})
    series = SERIES + [("accuracy", k, "#2e8b57" if k.endswith("copy") else "#c04040") for k in evaluations
                       if k.endswith(("copy", "solved"))]
    for n, panel in enumerate(panels):
        top = TOP + n * (HEIGHT + GAP)
        out.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>')
        for i in range(5):
            y = top + HEIGHT * (1 - i / 4)
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{full[panel] * i / 4:.2f}</text>')
        mine = [s for s in series if s[0] == panel]
        for row, (_, field, colour) in enumerate(mine):
            points = [(LEFT + WIDTH * r["tokens"] / 1e6 / span,
                       top + HEIGHT * (1 - min(r[field] / full[panel], 1))) for r in rows if field in r]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            out.append(f'<text x="{LEFT + WIDTH + 8}" y="{top + 14 + 16 * row}" fill="{colour}">{field}</text>')
        out.append(f'<text x="{LEFT}" y="{top - 6}">{panel}</text>')
    foot = TOP + 2 * HEIGHT + GAP + 18
    out.append(f'<text x="{LEFT + WIDTH}" y="{foot}" text-anchor="end">{span:.2f} million tokens</text></svg>')
    return "\n".join(out) + "\n"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    Path(sys.argv[2]).write_text(draw(read(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
