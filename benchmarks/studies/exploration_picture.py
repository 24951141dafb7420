"""Draw the curves from an exploration benchmark as a self-contained SVG file."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.page.charts import Line, lines

__all__ = ["picture"]

COLOURS = {"random": "#888888", "sticky": "#b07030", "rnd": "#3878b8", "autoexplore": "#c03050"}


def picture(runs: dict[str, list[dict[str, Any]]], num_points: int) -> str:
    """Plot the number of places (mean over seeds) against env steps, for each explorer."""
    (first, *_), *_ = runs.values()
    steps = [point[0] for point in first["curve"][:num_points]]
    series = [
        Line(
            label=explorer,
            values=np.mean([[point[1] for point in one["curve"][:num_points]] for one in found], 0),
            style=explorer,
        )
        for explorer, found in runs.items()
    ]
    svg = lines(series, x=steps, x_title="env steps", y_title="distinct places seen", zero=True)
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{_style()}</style>", 1
    )


def _style() -> str:
    rules = [
        "text{font:13px sans-serif;fill:#555}",
        ".grid,.zero{stroke:#ddd;fill:none}",
        ".line{fill:none;stroke-width:2.2}",
        *(f".line.{name}{{stroke:{c}}}.name.{name}{{fill:{c}}}" for name, c in COLOURS.items()),
    ]
    return "".join(rules)
