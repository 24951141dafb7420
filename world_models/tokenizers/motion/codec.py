"""The codec in motion tokenizers: finds how patches move, moves them, and measures the error.

Shapes: B batch, T frames, N tokens per frame; a frame has height H, width W and C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_models.pixels import patches_from_pixels, pixels_from_patches
from world_models.tokenizers.motion.displacement import STILL, Match, displace, match, most_common
from world_models.tokenizers.motion.overlay import Layers, Overlay

__all__ = ["MotionCodec"]


class MotionCodec(nn.Module):
    """Finds and applies the displacements of patches.

    If the mean squared error of a moved patch is above `threshold`, the patch may be replaced. With
    `overlay`, the codec also learns an `Overlay`.
    """

    def __init__(self, frame_size: int, patch: int, threshold: float, overlay: bool = False):
        super().__init__()
        self.frame_size, self.patch, self.threshold = frame_size, patch, threshold
        self.overlay = Overlay(frame_size, patch) if overlay else None

    def layers(self) -> Layers | None:
        """Return the overlay's layers, or None if there is no overlay."""
        return None if self.overlay is None else self.overlay.layers()

    def match(self, pixels: Tensor, previous: Tensor) -> Match:
        """Find the patches of frames ``(B, T, C, H, W)`` in the previous frames."""
        if self.overlay is None:
            return match(pixels, previous, self.patch, self.threshold)
        displacement = self.overlay.match(pixels, previous, self.threshold)
        return Match(displacement, self.error(self.displace(previous, displacement), pixels))

    def displace(
        self, previous: Tensor, displacement: Tensor, layers: Layers | None = None
    ) -> Tensor:
        """Move the patches of frames ``(B, T, C, H, W)`` by displacements ``(B, T, N)``."""
        if self.overlay is None:
            return displace(previous, displacement, self.patch)
        return self.overlay.displace(previous, displacement, layers or self.overlay.layers())

    def move(
        self, previous: Tensor, tokens: Tensor, replaced: Tensor, layers: Layers | None = None
    ) -> tuple[Tensor, Tensor]:
        """Move the patches of frames ``(B, T, C, H, W)`` by their tokens ``(B, T, N)``.

        Patches that are marked in `replaced` have no displacement. They move by the most common
        displacement of the other patches.

        Returns:
            The moved frames, and the displacement of each patch ``(B, T, N)``.
        """
        common = most_common(tokens.masked_fill(replaced, STILL), replaced)
        displacement = torch.where(replaced, common[..., None], tokens)
        return self.displace(previous, displacement, layers), displacement

    def error(self, predicted: Tensor, pixels: Tensor) -> Tensor:
        """Return the mean squared error of each patch, ``(B, T, N)``."""
        return patches_from_pixels((predicted - pixels).square(), self.patch).mean(-1)

    def per_pixel(self, marks: Tensor) -> Tensor:
        """Expand a value per patch ``(B, T, N)`` to its pixels ``(B, T, 1, H, W)``."""
        marks = marks[..., None].expand(*marks.shape, self.patch**2)
        return pixels_from_patches(marks, self.patch, self.frame_size)
