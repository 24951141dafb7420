"""How close frames are to the real ones, each frame by itself.

Shapes: frames are uint8 ``(..., H, W, 3)``; a score has the axes in front.
"""

from __future__ import annotations

import torch
from torch import Tensor

from world_models.extras import require
from world_models.pixels import to_float

__all__ = ["BEST", "NOTICEABLE", "differing", "frame_psnr", "frame_ssim"]

BEST = 60.0
"""dB that a frame without any error counts as; an error of a quarter grey level scores it."""
NOTICEABLE = 8
"""Grey levels of 255 by which a channel must differ for a pixel to count as another."""

_IMAGES_AT_ONCE = 256


def differing(frames: Tensor, others: Tensor) -> Tensor:
    """Mark the pixels that look different: bool ``(..., H, W)``."""
    return (frames.int() - others.int()).abs().amax(-1) >= NOTICEABLE


def frame_psnr(frames: Tensor, real: Tensor, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB, at most `BEST`.

    Args:
        frames: What is judged.
        real: What it should be.
        where: Bool ``(..., H, W)``: judge these pixels alone; NaN for frames without any.
    """
    error = ((frames.float() - real.float()) / 255).square().mean(-1)  # (..., H, W)
    if where is None:
        mean = error.mean((-2, -1))
    else:
        mean = (error * where).sum((-2, -1)) / where.sum((-2, -1))
    return -10 * mean.clamp(min=10 ** (-BEST / 10)).log10()


def frame_ssim(frames: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of each frame, 1 for equal ones."""
    images = require("torchmetrics.functional.image", extra="bench", what="SSIM needs torchmetrics")
    pairs = zip(
        frames.flatten(0, -4).split(_IMAGES_AT_ONCE),
        real.flatten(0, -4).split(_IMAGES_AT_ONCE),
        strict=True,
    )
    scores = [
        images.structural_similarity_index_measure(
            to_float(a), to_float(b), data_range=1.0, reduction="none"
        )
        for a, b in pairs
    ]
    return torch.cat([torch.as_tensor(score) for score in scores]).view(frames.shape[:-3])
