"""Charts as SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from heads.evaluation.label_quality import Point
from heads.metrics import ReliabilityBin, RiskAtCoverage

_SIZE, _PAD = 320, 56
_MOST_CELLS = 40
_MOST_COLORS = 12


def reliability_chart(bins: Sequence[ReliabilityBin]) -> str:
    """Accuracy over confidence; on the diagonal probabilities are what they say."""
    total = max(1, sum(row.texts for row in bins))
    bars = "".join(
        f'<rect class="bar" x="{_x(row.low):.1f}" y="{_y(row.accuracy):.1f}" '
        f'width="{_x(row.high) - _x(row.low) - 1:.1f}" '
        f'height="{_y(0) - _y(row.accuracy):.1f}" opacity="{0.35 + 0.65 * (row.texts / total) ** 0.5:.2f}">'
        f"<title>{row.texts} texts of confidence {row.confidence:.1%}: {row.accuracy:.1%} right</title></rect>"
        for row in bins
    )
    diagonal = f'<line class="guide" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    return _framed("Reliability: accuracy over confidence", bars + diagonal, "confidence", "accuracy", 1.0)


def risk_chart(curve: Sequence[RiskAtCoverage], answered: tuple[float, float] | None) -> str:
    """Errors among the answers over the share of texts answered, and where the head's threshold stands."""
    top = max([0.05, *(point.risk for point in curve)])
    path = " ".join(f"{_x(point.coverage):.1f},{_y(point.risk / top):.1f}" for point in curve)
    mark = ""
    if answered is not None:
        x, y = _x(answered[0]), _y(min(1.0, answered[1] / top))
        mark = (
            f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>the threshold: {answered[0]:.1%} answered, '
        )
        mark += f"{answered[1]:.2%} of the answers wrong</title></circle>"
    line = f'<polyline class="line" points="{path}"/>{mark}'
    return _framed("Risk and coverage: errors among the answers", line, "share answered", "errors", top)


def map_chart(points: Sequence[Point], labels: Sequence[object], texts: Sequence[str]) -> str:
    """The examples in a plane, colored by class; a text appears under the pointer."""
    if not points:
        return ""
    xs, ys = [point.x for point in points], [point.y for point in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    width, height = max(right - left, 1e-9), max(high - low, 1e-9)
    dots = "".join(
        f'<circle cx="{12 + 696 * (p.x - left) / width:.1f}" cy="{12 + 396 * (high - p.y) / height:.1f}" r="3" '
        f'fill="{color_of(p.label, len(labels))}"><title>{escape(str(labels[p.label]))}: '
        f"{escape(_short(texts[p.place]))}</title></circle>"
        for p in points
    )
    return (
        f'<svg class="map" viewBox="0 0 720 420" role="img" aria-label="Examples in a plane, by class">{dots}</svg>'
        + _legend(labels)
    )


def confusion_chart(confusion: Sequence[Sequence[int]], labels: Sequence[object]) -> str:
    """Rows are the true labels, columns the given ones; empty if there are too many classes to be read."""
    n = len(labels)
    if n > _MOST_CELLS:
        return ""
    cell = 22
    left = 150
    cells = []
    for row, counts in enumerate(confusion):
        total = max(1, sum(counts))
        name = escape(_short(str(labels[row]), 22))
        cells.append(f'<text class="name" x="{left - 6}" y="{row * cell + 15}" text-anchor="end">{name}</text>')
        for column, count in enumerate(counts):
            if count:
                kind = "right" if row == column else "wrong"
                title = f"{escape(str(labels[row]))} taken for {escape(str(labels[column]))}: {count} of {total}"
                cells.append(
                    f'<rect class="{kind}" x="{left + column * cell}" y="{row * cell}" width="{cell - 1}" '
                    f'height="{cell - 1}" opacity="{0.15 + 0.85 * count / total:.2f}"><title>{title}</title></rect>'
                )
    size = f"0 0 {left + n * cell} {n * cell}"
    return f'<svg class="confusion" viewBox="{size}" role="img" aria-label="Confusion matrix">{"".join(cells)}</svg>'


def color_of(number: int, n: int) -> str:
    """A hue for a class; golden-angle steps keep neighbors apart."""
    return f"hsl({number * 137.508 % 360:.0f} 65% {45 + 10 * (number % 3)}%)" if n > 1 else "hsl(210 65% 50%)"


def _legend(labels: Sequence[object]) -> str:
    if len(labels) > _MOST_COLORS:
        return f'<p class="note">{len(labels)} classes; point at a dot to see which one it is.</p>'
    items = "".join(
        f'<li><span class="dot" style="background:{color_of(number, len(labels))}"></span>{escape(str(label))}</li>'
        for number, label in enumerate(labels)
    )
    return f'<ul class="legend">{items}</ul>'


def _framed(title: str, inside: str, below: str, beside: str, top: float) -> str:
    ticks = "".join(
        f'<text class="tick" x="{_x(share):.1f}" y="{_y(0) + 16}" text-anchor="middle">{share:.0%}</text>'
        f'<text class="tick" x="{_PAD - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{_percent(share * top)}</text>'
        f'<line class="grid" x1="{_x(0)}" y1="{_y(share):.1f}" x2="{_x(1)}" y2="{_y(share):.1f}"/>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    axes = (  # beside the ticks, that are up to five letters wide
        f'<text class="axis" x="{_SIZE / 2}" y="{_SIZE - 4}" text-anchor="middle">{below}</text>'
        f'<text class="axis" x="10" y="{_SIZE / 2 - 20}" transform="rotate(-90 10 {_SIZE / 2 - 20})" '
        f'text-anchor="middle">{beside}</text>'
    )
    return (
        f'<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{title}">'
        f"{ticks}{inside}{axes}</svg></figure>"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or not share else f"{share:.1%}"


def _x(share: float) -> float:
    return _PAD + share * (_SIZE - _PAD - 12)


def _y(share: float) -> float:
    return 12 + (1 - share) * (_SIZE - _PAD - 12)


def _short(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
