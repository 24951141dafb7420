"""The patch embedding: maps pixels to one vector per patch.

Shapes: B batch, T frames, C channels, H height, W width, N patches per frame, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from world_models.pixels import patches_from_pixels

__all__ = ["CHANNELS", "PatchEmbedding"]

CHANNELS = 3


class PatchEmbedding(nn.Module):
    """Embeds patches linearly, then applies a LayerNorm.

    Pixels are centred but not normalised per patch, which would make all flat patches look the
    same, black and white ones included.
    """

    def __init__(self, patch: int, dim: int, channels: int = CHANNELS):
        super().__init__()
        self.patch = patch
        self.embed = nn.Sequential(nn.Linear(patch * patch * channels, dim), nn.LayerNorm(dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels ``(..., C, H, W)`` to patch vectors ``(..., N, D)``."""
        patches = patches_from_pixels(2 * pixels - 1, self.patch)
        return self.embed(patches.to(self.embed[0].weight.dtype))  # type: ignore[arg-type]
