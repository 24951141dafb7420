"""Helpers that arrange frames into pictures for viewing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["contact_sheet", "labelled", "scaled", "side_by_side", "write_png"]

Picture = NDArray[np.uint8]  # (H, W, 3), RGB

_LABEL_HEIGHT = 18
_GAP = 4


def scaled(picture: Picture, *, height: int) -> Picture:
    """Scales a picture to a height; enlarging repeats pixels without blurring."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    how = cv2.INTER_NEAREST if height >= picture.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how))


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Joins pictures of equal height in a row, with small gaps."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), 32, np.uint8)
    parts: list[Picture] = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=1)


def labelled(picture: Picture, label: str) -> Picture:
    """Puts a line of text above a picture; the text is cut to the picture's width."""
    letters = max(1, picture.shape[1] // 7)
    strip = np.full((_LABEL_HEIGHT, picture.shape[1], 3), 32, np.uint8)
    cv2.putText(
        strip, label[:letters], (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (235,) * 3, 1, cv2.LINE_AA
    )
    return np.concatenate([strip, picture])


def contact_sheet(
    pictures: Sequence[Picture],
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    background: int = 32,
) -> Picture:
    """Arranges pictures of any sizes in a grid.

    Args:
        pictures: The pictures, row by row.
        labels: A line of text above each picture.
        columns: Pictures per row; by default the grid is about square.
        background: Grey level between and around the pictures, 0 to 255.
    """
    if not pictures:
        raise ValueError("expected at least one picture, got none")
    if labels is not None:
        pairs = zip(pictures, labels, strict=True)
        pictures = [labelled(picture, label) for picture, label in pairs]
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    height = max(picture.shape[0] for picture in pictures) + _GAP
    width = max(picture.shape[1] for picture in pictures) + _GAP
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), background, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (place // columns) * height + _GAP, (place % columns) * width + _GAP
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def write_png(path: Path, picture: Picture) -> None:
    """Writes a picture as PNG; creates the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    smallest = [cv2.IMWRITE_PNG_COMPRESSION, 9]  # a fifth of the default size for pixel art
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), smallest):
        raise OSError(f"could not write {path}")
