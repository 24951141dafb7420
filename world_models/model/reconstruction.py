"""The pixel loss for tokenizers and for the latent action model.

Shapes: B batch, T frames, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ReconstructionLossConfig", "changed_pixels", "psnr", "reconstruction_loss"]

CHANGED = 0.03  # smallest difference in a channel, on a scale from 0 to 1, that counts as a change


@dataclass(frozen=True, kw_only=True)
class ReconstructionLossConfig:
    """Settings for the loss of a model that reconstructs frames through a codebook.

    The plain squared error almost ignores a moving sprite of twenty pixels, but moving sprites are
    what a player looks at.

    Attributes:
        changed_weight: Extra weight for pixels that differ from the frame before or after. Motion
            tokenizers ignore it.
        l1_weight: Weight of the absolute error; the squared error has weight 1.
        revive_after: Training steps after which an unused code is replaced; 0 means never. A
            residual VQ counts frames instead of steps, because it encodes frames one by one.
    """

    changed_weight: float = 0.0
    l1_weight: float = 0.0
    revive_after: int = 0

    def __post_init__(self) -> None:
        for name in ("changed_weight", "l1_weight", "revive_after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def changed_pixels(pixels: Tensor) -> Tensor:
    """Mark pixels of clips ``(B, T, C, H, W)`` that differ from the frame before or after.

    Returns:
        The marks, bool ``(B, T, 1, H, W)``.
    """
    differs = (pixels[:, 1:] - pixels[:, :-1]).abs().amax(2, keepdim=True) > CHANGED
    edge = torch.zeros_like(pixels[:, :1, :1], dtype=torch.bool)
    return torch.cat((edge, differs), 1) | torch.cat((differs, edge), 1)


def reconstruction_loss(
    predicted: Tensor, target: Tensor, config: ReconstructionLossConfig
) -> Tensor:
    """Return the weighted mean of squared (and absolute) errors over clips ``(B, T, C, H, W)``.

    Every clip has the same weight, so that the mean does not depend on how clips are batched.
    """
    error = predicted.float() - target
    cost = error.square() + config.l1_weight * error.abs()
    if not config.changed_weight:
        return cost.mean()
    weight = 1 + config.changed_weight * changed_pixels(target)
    per_row = (cost * weight).flatten(1).sum(1) / (weight.flatten(1).sum(1) * cost.shape[2])
    return per_row.mean()


@torch.no_grad()
def psnr(predicted: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the peak signal-to-noise ratio in dB over the pixels in ``where``, by default all."""
    error = (predicted.float().clamp(0, 1) - target).square()
    if where is not None:
        error = (error * where).sum() / (where.sum() * error.shape[2]).clamp(min=1)
    return -10 * error.mean().clamp(min=1e-10).log10()
