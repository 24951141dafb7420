"""Helpers that arrange frames into images for viewing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.window import tile

__all__ = ["contact_sheet", "labelled", "scaled", "side_by_side", "write_png"]

Picture = NDArray[np.uint8]  # (H, W, 3), RGB

_LABEL_HEIGHT = 18
_GAP = 4
_GREY = 32  # grey level of the background


def scaled(picture: Picture, *, height: int) -> Picture:
    """Scales an image to a height; enlarging repeats pixels without blurring."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    how = cv2.INTER_NEAREST if height >= picture.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how))


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Joins images of equal height in a row, with small gaps."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), _GREY, np.uint8)
    parts: list[Picture] = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=1)


def labelled(picture: Picture, label: str) -> Picture:
    """Puts a line of text above an image; the text is cut to the image's width."""
    letters = max(1, picture.shape[1] // 7)
    strip = np.full((_LABEL_HEIGHT, picture.shape[1], 3), _GREY, np.uint8)
    cv2.putText(
        strip, label[:letters], (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (235,) * 3, 1, cv2.LINE_AA
    )
    return np.concatenate([strip, picture])


def contact_sheet(
    pictures: Sequence[Picture],
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
) -> Picture:
    """Arranges images of any sizes in a grid, with gaps between and around them.

    Args:
        pictures: The images, row by row.
        labels: One line of text per image, to put above it; None for no labels.
        columns: Number of images per row; by default, the grid is about square.
    """
    if labels is not None:
        pairs = zip(pictures, labels, strict=True)
        pictures = [labelled(picture, label) for picture, label in pairs]
    apart = [_bordered(picture, top=0, bottom=_GAP) for picture in pictures]
    return _bordered(tile(apart, columns=columns, background=_GREY), top=_GAP, bottom=0)


def _bordered(picture: Picture, *, top: int, bottom: int) -> Picture:
    sides = ((top, bottom), (top, bottom), (0, 0))
    return np.pad(picture, sides, constant_values=_GREY)


def write_png(path: Path, picture: Picture) -> None:
    """Writes an image as PNG; creates the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    smallest = [cv2.IMWRITE_PNG_COMPRESSION, 9]  # a fifth of the default size for pixel art
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), smallest):
        raise OSError(f"could not write {path}")
