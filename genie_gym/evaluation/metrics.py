"""Image metrics that measure how close each frame is to the real frame.

Shapes: frames are uint8 ``(..., H, W, 3)``, scores ``(...)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from world_models.extras import require
from world_models.pixels import to_float

__all__ = ["BEST", "NOTICEABLE", "differing", "frame_psnr", "frame_ssim"]

BEST = 60.0
"""Upper limit of PSNR in dB. It corresponds to an RMS error of a quarter of a grey level."""
NOTICEABLE = 8
"""A pixel counts as different if a channel differs by at least this many of 255 grey levels."""

_IMAGES_AT_ONCE = 256


def differing(frames: Tensor, others: Tensor) -> Tensor:
    """Mark the pixels that look different: bool ``(..., H, W)``."""
    return (frames.int() - others.int()).abs().amax(-1) >= NOTICEABLE


def frame_psnr(frames: Tensor, real: Tensor, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB, at most `BEST`.

    Args:
        frames: The frames to score.
        real: The real frames.
        where: Score only these pixels, bool ``(..., H, W)``; by default all. A frame without such
            pixels gets NaN.
    """
    error = ((frames.float() - real.float()) / 255).square().mean(-1)  # (..., H, W)
    if where is None:
        mean = error.mean((-2, -1))
    else:
        mean = (error * where).sum((-2, -1)) / where.sum((-2, -1))
    return -10 * mean.clamp(min=10 ** (-BEST / 10)).log10()


def frame_ssim(frames: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of each frame to the real frame; 1 if they are equal."""
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
