"""Types for the rows (sub-envs) of a vector env and the results of stepping some of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "RowsOutcome"]

Rows = NDArray[np.intp]


@dataclass(kw_only=True)
class RowsOutcome:
    """Results of stepping some rows; each array has one entry per stepped row, in row order."""

    rewards: NDArray[np.floating]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    infos: dict[str, NDArray[Any]] = field(default_factory=dict)
