"""Figures over the width of the vectors, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from encoder_tools.evaluation.evaluate import Figure
from encoder_tools.io.figures import save_png


def draw_figures(measured: Mapping[str, Sequence[Figure]], picture: Path) -> None:
    """One panel per set and measure, one line per model, as a PNG.

    :param measured: figures by the name of the model.
    """
    from matplotlib.figure import Figure as Picture

    panels = list(dict.fromkeys((figure.task, figure.measure) for figures in measured.values() for figure in figures))
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    whole = Picture(figsize=(3.4 * columns, 2.8 * lines + 0.4), layout="constrained")
    for position, (task, measure) in enumerate(panels, start=1):
        panel = whole.add_subplot(lines, columns, position)
        for name, figures in measured.items():
            points = sorted((f.dim, 100 * f.value) for f in figures if (f.task, f.measure) == (task, measure))
            panel.plot([dim for dim, _ in points], [value for _, value in points], marker="o", label=Path(name).name)
            for dim, value in points:
                panel.annotate(f"{value:.1f}", (dim, value), textcoords="offset points", xytext=(0, 5), fontsize=7)
        panel.set_title(f"{task}\n{measure}", fontsize=9)
        panel.set_xlabel("width")
        panel.margins(y=0.25)
        panel.grid(alpha=0.3)
    whole.axes[0].legend(fontsize=7)
    save_png(whole, picture)
