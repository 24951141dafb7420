"""Draw charts as inline SVG, which the page's style sheet colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "Scale", "dots", "lines", "ticks"]

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 42, 106, 12, 40
ROW, DOTS_LEFT = 66, 150


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: Text at the end of the line.
        values: One y value for each x; NaN leaves a gap.
        style: CSS class of the line.
    """

    label: str
    values: Sequence[float]
    style: str


@dataclass(frozen=True)
class Scale:
    """A linear map from values to page coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def lines(
    series: Sequence[Line],
    *,
    x: Sequence[float],
    x_title: str,
    y_title: str,
    zero: bool = False,
) -> str:
    """Draw a line chart.

    Args:
        series: The lines; at least one has a finite value.
        x: The x values, shared by all lines.
        x_title: Title of the x axis.
        y_title: Title of the y axis with its unit; also the label for screen readers.
        zero: Whether the y axis must include 0.
    """
    found = [v for line in series for v in line.values if math.isfinite(v)] + [0.0] * zero
    marks = ticks(min(found), max(found))
    across = Scale(x[0], x[-1] if x[-1] > x[0] else x[0] + 1, LEFT, WIDTH - RIGHT)
    up = Scale(marks[0], marks[-1], HEIGHT - BOTTOM, TOP)
    parts = [
        *(_grid_line(up(mark), mark) for mark in marks),
        *(_x_label(across(place), place) for place in _some(x)),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{escape(x_title)}</text>',
    ]
    if zero:
        parts.append(f'<path class="zero" d="M{LEFT} {up(0):.1f}H{WIDTH - RIGHT}"/>')
    for line in series:
        points = [
            (across(a), up(b)) for a, b in zip(x, line.values, strict=True) if math.isfinite(b)
        ]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        parts.append(f'<path class="line {line.style}" d="{path}"/>')
        if len(points) <= 20:
            parts += [
                f'<circle class="{line.style}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points
            ]
    parts += _end_labels(series, up)
    return _svg(HEIGHT, y_title, parts)


def dots(rows: Sequence[tuple[str, Sequence[tuple[str, float, str]]]], *, title: str) -> str:
    """Draw rows of labelled dots on one axis.

    Args:
        rows: Label and dots of each row; a dot is given by its name, value and CSS class.
        title: Title of the axis with its unit.
    """
    height = ROW * len(rows) + BOTTOM
    values = [value for _, row in rows for _, value, _ in row]
    marks = ticks(min(values), max(values))
    across = Scale(marks[0], marks[-1], DOTS_LEFT, WIDTH - 24)
    bottom = height - BOTTOM
    parts = [
        f'<path class="grid" d="M{across(mark):.1f} 6V{bottom}"/>'
        f'<text class="axis" x="{across(mark):.1f}" y="{bottom + 16}" '
        f'text-anchor="middle">{mark:g}</text>'
        for mark in marks
    ]
    parts.append(
        f'<text class="axis" x="{(DOTS_LEFT + WIDTH) / 2:.0f}" y="{height - 6}" '
        f'text-anchor="middle">{escape(title)}</text>'
    )
    for place, (label, row) in enumerate(rows):
        y = ROW * place + ROW / 2 + 6
        ends = [across(value) for _, value, _ in row]
        parts.append(f'<text x="0" y="{y + 4:.0f}">{escape(label)}</text>')
        parts.append(f'<path class="span" d="M{min(ends):.1f} {y:.1f}H{max(ends):.1f}"/>')
        parts += [_dot(across(value), y, what, value, style) for what, value, style in row]
    return _svg(height, title, parts)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return evenly spaced round numbers that cover low to high."""
    span = (high - low) or max(abs(high), 1.0)
    rough = span / about
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _dot(x: float, y: float, what: str, value: float, style: str) -> str:
    text = f"{what}: {value:.2f}"
    below = style == "dream"  # below, because this dot lies between the others
    return (
        f'<g><title>{escape(text)}</title><circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        f'<text class="value" x="{x:.1f}" y="{y + (22 if below else -11):.0f}" '
        f'text-anchor="middle">{value:.1f}</text>'
        "</g>"
    )


def _grid_line(y: float, value: float) -> str:
    return (
        f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="axis" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _x_label(x: float, value: float) -> str:
    return (
        f'<text class="axis" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        f"{value:g}</text>"
    )


def _some(x: Sequence[float]) -> list[float]:
    """Return the x values to label: all if there are few, otherwise round ones."""
    if len(x) <= 12:
        return list(x)
    return [mark for mark in ticks(x[0], x[-1]) if x[0] <= mark <= x[-1]]


def _end_labels(series: Sequence[Line], up: Scale) -> list[str]:
    """Draw the names at the ends of the lines, moved apart if they would overlap."""
    ends = [next(v for v in reversed(line.values) if math.isfinite(v)) for line in series]
    wanted = sorted(zip(map(up, ends), series, strict=True), key=lambda pair: pair[0])
    labels, lowest = [], -math.inf
    for y, line in wanted:
        y = max(y, lowest + 15)
        lowest = y
        labels.append(
            f'<text class="name {line.style}" x="{WIDTH - RIGHT + 9}" y="{y + 4:.1f}">'
            f"{escape(line.label)}</text>"
        )
    return labels


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
