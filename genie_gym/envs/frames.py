"""Converts a console's screen to the frame that agents and world models see."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_square"]


def fit_square(screen: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Pads a screen with black to a square and resizes it to the frame size.

    Args:
        screen: uint8 ``(H, W, 3)``. The shorter axis is padded equally on both sides; if the
            number of pixels is odd, the extra pixel goes to the bottom or right.
        size: Height and width of the result, in pixels.

    Returns:
        The frame, uint8 ``(size, size, 3)``. Each pixel is the rounded mean of the area it covers;
        a screen smaller than the frame is enlarged.
    """
    height, width = screen.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = screen
    frame = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return frame.astype(np.uint8, copy=False)
