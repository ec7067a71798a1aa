"""The curves of a run as a picture, from its log."""

from __future__ import annotations

import json
from pathlib import Path

from encoder_tools.io.figures import save_png

_NOT_DRAWN = ("step", "texts_per_s")


def draw_curves(log: Path, picture: Path) -> None:
    """Draw every figure of a ``train.jsonl`` over the steps, one panel each, as a PNG.

    Lines that a killed run left half-written are passed over; without two whole lines nothing is drawn.
    """
    rows = _rows(log)
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in _NOT_DRAWN]
    if len(rows) < 2 or not names:
        return
    from matplotlib.figure import Figure

    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.8 * lines), layout="constrained")
    for number, name in enumerate(names, start=1):
        panel = figure.add_subplot(lines, columns, number)
        points = [(row["step"], row[name]) for row in rows if name in row]
        panel.plot([step for step, _ in points], [value for _, value in points], marker="." if len(points) < 30 else "")
        panel.set_title(name)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        if name != "unseen_cosine" and all(value > 0 for _, value in points):
            panel.set_yscale("log")
    save_png(figure, picture)


def _rows(log: Path) -> list[dict[str, float]]:
    """The log's lines; a step that was run again after a kill counts once, as it was last."""
    rows: dict[float, dict[str, float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        try:
            row = json.loads(line)
            rows[row["step"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return [rows[step] for step in sorted(rows)]
