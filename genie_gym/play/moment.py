"""One moment of a dream or a real game, as a player sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moment"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """The result of an action.

    Attributes:
        frame: The frame after the action, uint8 ``(H, W, 3)``.
        reward: Reward for the action.
        total: Sum of the rewards since the start.
        ended: Whether the episode ended with the action.
        truncated: Whether the episode ended because of the game's time limit.
        entropy: Uncertainty about the frame, from 0 to 2; see `frame_uncertainty`.
        patches: Uncertainty about each patch of the frame, row by row: uint8 ``(N,)``, where 255
            means that all codes are equally likely. None for a real frame.
    """

    frame: NDArray[np.uint8]
    reward: float = 0.0
    total: float = 0.0
    ended: bool = False
    truncated: bool = False
    entropy: float = 0.0
    patches: NDArray[np.uint8] | None = None
