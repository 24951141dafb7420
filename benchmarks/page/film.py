"""Draw clips as film strips, animations and frame sheets for the page's player.

Shapes: n frames, H height, W width.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.dreams.scores import Clips
from genie_gym.data.pictures import save_frames
from genie_gym.pictures import labelled, scaled, write_png

__all__ = ["data_uri", "error_picture", "row", "sheet", "write_pictures"]

Picture = NDArray[np.uint8]
GAIN = 2  # an error of half the value range is white
ENLARGED = 4
GAP = 2


def data_uri(picture: Picture) -> str:
    """Encode an image as a data URI for an ``<img>`` tag."""
    ok, content = cv2.imencode(
        ".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )
    assert ok
    return "data:image/png;base64," + base64.b64encode(content.tobytes()).decode()


def error_picture(frames: Tensor, real: Tensor) -> Tensor:
    """Return the brightened absolute error of the frames, as uint8 frames of the same shape."""
    error = (frames.int() - real.int()).abs().float().mean(-1, keepdim=True)
    return (error * GAIN).clamp(max=255).to(torch.uint8).expand_as(frames)


def row(frames: Tensor) -> Picture:
    """Join frames ``(n, H, W, 3)`` from left to right, with grey gaps between them."""
    gap = ((0, 0), (0, 0), (0, GAP), (0, 0))
    parted = np.pad(frames.numpy(), gap, constant_values=128)
    return np.concatenate(list(parted), axis=1)[:, :-GAP]


def sheet(clips: Clips, window: int) -> Picture:
    """Draw the last prompt frame and all later frames, with real frames above dreamed ones."""
    last = clips.last[window]
    rows = [torch.cat((last, clip[window])) for clip in (clips.real, clips.dream)]
    return np.concatenate([np.concatenate(list(frames.numpy()), axis=1) for frames in rows])


def write_pictures(
    folder: Path, clips: Clips, windows: Sequence[int], held: Tensor, meanings: Sequence[str]
) -> list[Path]:
    """Write a film strip and an animation of some windows, and a grid with a row per action."""
    strips, pairs = [], []
    for window in windows:
        real, dream = clips.real[window], clips.dream[window]
        for name, frames in (
            ("real", real),
            ("dream", dream),
            ("error", error_picture(dream, real)),
        ):
            strips.append(_named(name, row(frames)))
        both = torch.cat((real, dream), 2)  # side by side
        pairs.append(torch.cat((clips.last[window].repeat(1, 1, 2, 1), both)).numpy())
    paths = [folder / name for name in ("strip.png", "dream.gif", "control.png")]
    write_png(paths[0], np.concatenate(strips))
    save_frames(np.concatenate(pairs), paths[1], fps=8, scale=ENLARGED)
    write_png(
        paths[2],
        np.concatenate([_named(name, row(h)) for name, h in zip(meanings, held, strict=True)]),
    )
    return paths


def _named(name: str, picture: Picture) -> Picture:
    return labelled(scaled(picture, height=2 * picture.shape[0]), name)
