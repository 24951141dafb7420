"""Patch embeddings, which map pixels to one vector per patch.

Shapes: B batch, T frames, C channels, H height, W width, N patches per frame, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from world_models.pixels import patches_from_pixels

__all__ = ["CHANNELS", "FirstAndLater", "NormalisedPatchEmbedding", "PatchEmbedding"]

CHANNELS = 3


class PatchEmbedding(nn.Module):
    """Embeds patches linearly, then applies a LayerNorm.

    Pixels are centred but not normalised per patch: normalisation would make all flat patches look
    the same, even black and white ones.
    """

    def __init__(self, patch: int, dim: int, channels: int = CHANNELS):
        super().__init__()
        self.patch = patch
        self.embed = nn.Sequential(nn.Linear(patch * patch * channels, dim), nn.LayerNorm(dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels ``(..., C, H, W)`` to patch vectors ``(..., N, D)``."""
        patches = patches_from_pixels(2 * pixels - 1, self.patch)
        return self.embed(patches.to(self.embed[0].weight.dtype))  # type: ignore[arg-type]


class NormalisedPatchEmbedding(nn.Module):
    """Applies a LayerNorm to the raw pixels of a patch, a linear layer, and another LayerNorm."""

    def __init__(self, patch: int, dim: int):
        super().__init__()
        self.patch = patch
        size = patch * patch * CHANNELS
        self.norm, self.linear = nn.LayerNorm(size), nn.Linear(size, dim)
        self.out = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels ``(..., C, H, W)`` in [0, 1] to patch vectors ``(..., N, D)``."""
        patches = patches_from_pixels(pixels, self.patch).to(self.linear.weight.dtype)
        return self.out(self.linear(self.norm(patches)))


class FirstAndLater(nn.Module):
    """Applies one module to the first frame of every clip, and another one to all later frames."""

    def __init__(self, make: Callable[[], nn.Module]):
        super().__init__()
        self.first, self.later = make(), make()

    def forward(self, x: Tensor, begins: Tensor | None = None) -> Tensor:
        """Map frames ``(B, T, ...)``.

        `begins`, bool ``(B,)``, marks the batch items that begin with the first frame of a clip; by
        default, all of them do.
        """
        first, later = self.first(x[:, :1]), self.later(x)
        if begins is not None:
            first = torch.where(begins[:, None, None, None], first, later[:, :1])
        return torch.cat((first, later[:, 1:]), 1)
