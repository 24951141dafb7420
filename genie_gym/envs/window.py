"""A desktop window that shows frames, for `render_mode="human"`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_models.extras import require

__all__ = ["Window", "tile"]

_MIN_SIDE = 480


class Window:
    """A window that shows frames at the game's speed; it opens when the first frame is shown.

    Args:
        title: Text of the title bar.
        fps: Maximum number of frames that `show` draws per second.
    """

    def __init__(self, *, title: str, fps: int):
        pygame = require("pygame", extra="play", what="render_mode='human' needs pygame")
        self._pygame = pygame
        self._title = title
        self._fps = fps
        self._clock = pygame.time.Clock()
        self._screen: Any = None

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Draws a frame (H, W, 3), enlarged by an integer factor; waits to limit the fps."""
        pygame = self._pygame
        height, width = frame.shape[:2]
        scale = max(1, math.ceil(_MIN_SIDE / max(height, width)))
        size = (width * scale, height * scale)
        if self._screen is None or self._screen.get_size() != size:
            pygame.display.init()
            pygame.display.set_caption(self._title)
            self._screen = pygame.display.set_mode(size)
        surface = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._screen.blit(pygame.transform.scale(surface, size), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Closes the window."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None


def tile(
    pictures: Sequence[NDArray[np.uint8]], *, columns: int | None = None, background: int = 0
) -> NDArray[np.uint8]:
    """Arranges images in a grid, row by row; smaller images are padded.

    Args:
        pictures: Images (H, W, 3), of any sizes.
        columns: Number of images per row; by default, the grid is about square.
        background: Grey level of the padding, from 0 to 255.

    Returns:
        The grid as one image.
    """
    if not pictures:
        raise ValueError("expected at least one image, got none")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    shape = (math.ceil(len(pictures) / columns), height, columns, width, 3)
    grid = np.full(shape, background, np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        grid[row, : picture.shape[0], column, : picture.shape[1]] = picture
    return grid.reshape(-1, columns * width, 3)
