"""The codec of the motion tokenizers: which patches move where, and what moving leaves wrong.

Shapes: B batch, T frames, C channels, H height, W width, N tokens per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_models.pixels import patches_from_pixels, pixels_from_patches
from world_models.tokenizers.motion.displacement import (
    STILL,
    Match,
    displace,
    match,
    most_common,
)
from world_models.tokenizers.motion.overlay import Layers, Overlay

__all__ = ["MotionCodec"]


class MotionCodec(nn.Module):
    """Moves patches.

    Args:
        frame_size: Height and width of a frame.
        patch: Side of a patch.
        threshold: Mean squared error of a moved patch above which it is to be replaced.
        overlay: Whether to learn what stays in place while the picture scrolls.
    """

    def __init__(self, frame_size: int, patch: int, threshold: float, overlay: bool = False):
        super().__init__()
        self.frame_size, self.patch, self.threshold = frame_size, patch, threshold
        self.overlay = Overlay(frame_size, patch) if overlay else None

    def layers(self) -> Layers | None:
        """The overlay; None without one."""
        return None if self.overlay is None else self.overlay.layers()

    def match(self, pixels: Tensor, previous: Tensor) -> Match:
        """Find patches in the previous frames ``(B, T, C, H, W)``."""
        if self.overlay is None:
            return match(pixels, previous, self.patch, self.threshold)
        displacement = self.overlay.match(pixels, previous, self.threshold)
        return Match(displacement, self.error(self.displace(previous, displacement), pixels))

    def displace(
        self, previous: Tensor, displacement: Tensor, layers: Layers | None = None
    ) -> Tensor:
        """The frames ``(B, T, C, H, W)`` that displacements ``(B, T, N)`` make."""
        if self.overlay is None:
            return displace(previous, displacement, self.patch)
        return self.overlay.displace(previous, displacement, layers or self.overlay.layers())

    def move(
        self, previous: Tensor, tokens: Tensor, replaced: Tensor, layers: Layers | None = None
    ) -> tuple[Tensor, Tensor]:
        """Move patches; those that are replaced move as most others do.

        Args:
            previous: The previous frames ``(B, T, C, H, W)``.
            tokens: ``(B, T, N)``.
            replaced: Which of the tokens are no displacements.
            layers: `layers`, where they are at hand.

        Returns:
            The frames, and by what each patch moved ``(B, T, N)``.
        """
        common = most_common(tokens.masked_fill(replaced, STILL), replaced)
        displacement = torch.where(replaced, common[..., None], tokens)
        return self.displace(previous, displacement, layers), displacement

    def error(self, predicted: Tensor, pixels: Tensor) -> Tensor:
        """Mean squared error of each patch ``(B, T, N)``."""
        return patches_from_pixels((predicted - pixels).square(), self.patch).mean(-1)

    def per_pixel(self, marks: Tensor) -> Tensor:
        """Marks of patches ``(B, T, N)`` as marks of their pixels ``(B, T, 1, H, W)``."""
        marks = marks[..., None].expand(*marks.shape, self.patch**2)
        return pixels_from_patches(marks, self.patch, self.frame_size)
