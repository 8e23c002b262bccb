"""Draws the curves of a training log as an SVG.

    /usr/bin/python3 -m model.nano.curves STATE.jsonl docs/nano-curves.svg
"""

import json
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 200, 60, 30, 40
LOSSES = {"model": "#1f5fa8", "rest": "#b8860b", "mtp": "#7a3b9a", "index": "#777777"}
SHARES = {"markup": "#b8860b", "copy": "#1f5fa8"}
COLOURS = ["#2e8b57", "#c04040", "#1f5fa8", "#b8860b", "#7a3b9a", "#777777"]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def panels(rows: list[dict]) -> list[tuple[str, float, dict[str, str]]]:
    """(title, upper end of the axis, field -> colour) of each panel. Episodes with the prompt before them and without are
    one curve: a run has only one of the two at a time."""
    for row in rows:
        row.update({k.replace("+prompt", ""): v for k, v in row.items() if "+prompt" in k})
    solved = sorted({k for r in rows for k in r if k.endswith("_solved") and "+prompt" not in k})
    return [("loss", max(r["model"] for r in rows), LOSSES),
            ("share of right tokens, in training", 1.0, SHARES),
            ("share of evaluation episodes without a wrong token", 1.0, dict(zip(solved, COLOURS * len(solved))))]


def label(field: str) -> str:
    return field.removeprefix("eval_").removesuffix("_solved")


def draw(rows: list[dict]) -> str:
    """Panels above each other over millions of tokens."""
    drawn = panels(rows)
    span = rows[-1]["tokens"] / 1e6
    height = TOP + len(drawn) * (HEIGHT + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 90}" height="{height}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for n, (title, full, fields) in enumerate(drawn):
        top = TOP + n * (HEIGHT + GAP)
        out.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>')
        out.append(f'<text x="{LEFT}" y="{top - 6}">{title}</text>')
        for i in range(5):
            y = top + HEIGHT * (1 - i / 4)
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{full * i / 4:.2f}</text>')
        for row, (field, colour) in enumerate(fields.items()):
            points = " ".join(f"{LEFT + WIDTH * r['tokens'] / 1e6 / span:.1f},"
                              f"{top + HEIGHT * (1 - min(r[field] / full, 1)):.1f}" for r in rows if field in r)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            out.append(f'<text x="{LEFT + WIDTH + 8}" y="{top + 14 + 16 * row}" fill="{colour}">{label(field)}</text>')
    out.append(f'<text x="{LEFT + WIDTH}" y="{height - 12}" text-anchor="end">{span:.1f} million tokens</text></svg>')
    return "\n".join(out) + "\n"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    Path(sys.argv[2]).write_text(draw(read(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
