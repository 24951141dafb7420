"""From the screen of a console to the frame that an agent and a world model see."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_square"]


def fit_square(screen: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Pads a screen with black to a square and averages its areas down to the frame size.

    Args:
        screen: The picture (H, W, 3); what is shorter is padded on both sides, an odd pixel
            at the bottom or right.
        size: Height and width of the result.

    Returns:
        The frame (size, size, 3). Each pixel is the mean of the area that it covers, rounded;
        a screen smaller than the frame is enlarged instead.
    """
    height, width = screen.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = screen
    frame = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return frame.astype(np.uint8, copy=False)
