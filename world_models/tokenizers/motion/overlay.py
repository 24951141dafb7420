"""The overlay: pixels that stay in place while the rest of the frame scrolls.

A score, or the player that a camera follows, would move along with scrolling patches and leave
trails. So training learns which pixels do not scroll. The codec neither moves these pixels nor
copies from them.

Shapes: B batch, T frames, N tokens per frame; a frame has height H, width W and C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.pixels import patches_from_pixels
from world_models.tokenizers.motion.displacement import STILL, displace, match, most_common

__all__ = ["Layers", "Overlay"]

DECAY = 0.995  # decay of votes per training step
MAJORITY = 0.85  # a pixel is in the overlay if more than this fraction of its votes is for staying
MIN_VOTES = 1.0  # a pixel is in the overlay only if it has more votes than this
DIFFERENT = 0.1  # a pixel votes if staying and scrolling give colours that differ by more than this
ALIKE = 0.05  # largest difference at which two pixels look the same
MOSTLY = 0.5  # a patch with more overlay pixels than this fraction gets the common displacement


class Layers(NamedTuple):
    """A frame in two layers.

    Attributes:
        mask: Whether each pixel belongs to the overlay, bool ``(H, W)``.
        source: For each pixel, the index of the pixel that fills it in if the overlay covers it,
            otherwise its own index, ``(H * W,)``.
    """

    mask: Tensor
    source: Tensor


class Overlay(nn.Module):
    """Learns which pixels stay in place by watching frames scroll."""

    votes: Tensor

    def __init__(self, frame_size: int, patch: int):
        super().__init__()
        self.patch = patch
        # How often each pixel stayed and how often it scrolled, where the two look different.
        self.register_buffer("votes", torch.zeros(2, frame_size, frame_size))
        self._known: tuple[tuple[int, int], Layers] | None = None

    def layers(self) -> Layers:
        """Return the layers, which are cached until `watch` learns from more frames."""
        state = (self.votes.data_ptr(), self.votes._version)
        if self._known is None or self._known[0] != state:
            stayed, went = self.votes
            mask = (stayed > MAJORITY * (stayed + went)) & (stayed + went > MIN_VOTES)
            self._known = (state, Layers(mask, _nearest_free(mask)))
        return self._known[1]

    @torch.no_grad()
    def watch(self, pixels: Tensor, threshold: float) -> None:
        """Learn from clips ``(B, T, C, H, W)``; `displacement.match` explains `threshold`."""
        now, previous, layers = pixels[:, 1:], pixels[:, :-1], self.layers()
        displacement = self.match(now, previous, threshold)
        common = most_common(displacement)
        everywhere = common[..., None].expand(displacement.shape)
        came = displace(_behind(previous, layers), everywhere, self.patch)
        scrolled = (common != STILL)[..., None, None]
        telling = scrolled & _differ(came, previous, DIFFERENT)
        stayed, went = (~_differ(now, other, ALIKE) for other in (previous, came))
        votes = torch.stack([(telling & vote).float().sum((0, 1)) for vote in (stayed, went)])
        if dist.is_initialized():
            dist.all_reduce(votes)
        self.votes.mul_(DECAY).add_(votes)

    def match(self, pixels: Tensor, previous: Tensor, threshold: float) -> Tensor:
        """Match patches with the overlay removed; return their displacements, ``(B, T, N)``."""
        layers = self.layers()
        found = match(_behind(pixels, layers), _behind(previous, layers), self.patch, threshold)
        covered = patches_from_pixels(layers.mask.float()[None], self.patch).mean(-1) > MOSTLY
        common = most_common(found.displacement, covered)[..., None]
        return torch.where(covered, common, found.displacement)

    def displace(self, previous: Tensor, displacement: Tensor, layers: Layers) -> Tensor:
        """Displace patches behind the overlay; the overlay stays in place."""
        came = displace(_behind(previous, layers), displacement, self.patch)
        side = previous.shape[-1] // self.patch
        still = (displacement == STILL).unflatten(-1, (side, side))
        still = still.repeat_interleave(self.patch, -2).repeat_interleave(self.patch, -1)
        return torch.where(still[:, :, None] | layers.mask, previous, came)


def _behind(pixels: Tensor, layers: Layers) -> Tensor:
    """Remove the overlay from frames ``(..., H, W)``: replace it with the nearest free pixels."""
    return pixels.flatten(-2).index_select(-1, layers.source).view_as(pixels)


def _nearest_free(mask: Tensor) -> Tensor:
    """Return each pixel's index in `Layers.source`, ``(H * W,)``.

    It is the index of the nearest pixel that is neither in the mask nor next to it.
    """
    covered = F.max_pool2d(mask.float()[None], 3, 1, 1)[0].bool()
    source = torch.arange(mask.numel(), device=mask.device)
    if not covered.any() or covered.all():
        return source
    places, free = covered.nonzero(), (~covered).nonzero()
    nearest = (places[:, None] - free).square().sum(-1).argmin(1)
    source[covered.flatten()] = source[~covered.flatten()][nearest]
    return source


def _differ(a: Tensor, b: Tensor, by: float) -> Tensor:
    return (a - b).abs().amax(2) > by
