"""What stays in its place while the picture scrolls: a score, or the player that a camera follows.

Where a picture is made of displaced parts of the one before it, these would be carried off, and
leave trails. So it is found out, pixel by pixel, which places hold something that does not go with
the rest; those are neither moved nor moved from.

Shapes: B batch, T frames, C channels, H height, W width, N tokens per frame.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.motion import DISPLACEMENTS, STILL, displaced, match
from world_models.pixels import patches_from_pixels

__all__ = ["Overlay"]

DECAY = 0.995  # of votes, per step of training
SHARE = 0.85  # of the votes on a pixel, from which it belongs to the overlay
ENOUGH = 1.0  # votes
DIFFERENT = 0.1  # between what stayed and what came, or a pixel has no say
ALIKE = 0.05
MOSTLY = 0.5  # share of a patch under the overlay, from which it goes with the others


class Overlay(nn.Module):
    """Pixels of the frame that stay, learned by watching frames scroll.

    Args:
        frame_size: Height and width of a frame.
        patch: Side of a patch.
    """

    votes: Tensor

    def __init__(self, frame_size: int, patch: int):
        super().__init__()
        self.patch = patch
        # How often a pixel, where that made a difference, stayed, and how often it went along.
        self.register_buffer("votes", torch.zeros(2, frame_size, frame_size))
        self._known: tuple[tuple[int, int], Tensor, Tensor] | None = None

    @property
    def mask(self) -> Tensor:
        """Which pixels stay ``(H, W)``."""
        return self.layers()[0]

    @torch.no_grad()
    def watch(self, pixels: Tensor, enough: float) -> None:
        """Learn from a sequence ``(B, T, C, H, W)``; see `match` for `enough`."""
        now, before = pixels[:, 1:], pixels[:, :-1]
        where = self.match(now, before, enough)
        common = most_common(where)
        came = displaced(self.behind(before), common[..., None].expand(where.shape), self.patch)
        scrolled = (common != STILL)[..., None, None]
        telling = scrolled & _differ(came, before, DIFFERENT)
        stayed, went = (~_differ(now, other, ALIKE) for other in (before, came))
        votes = torch.stack([(telling & vote).float().sum((0, 1)) for vote in (stayed, went)])
        if dist.is_initialized():
            dist.all_reduce(votes)
        self.votes.mul_(DECAY).add_(votes)

    def match(self, pixels: Tensor, before: Tensor, enough: float) -> Tensor:
        """Where each patch ``(B, T, N)`` was in the frame before, apart from what stays."""
        pixels, before = self.behind(pixels), self.behind(before)
        where = match(pixels, before, self.patch, enough).where
        hidden = self._patches(self.mask.float()).mean(-1) > MOSTLY  # (N,)
        return torch.where(hidden, most_common(where, hidden)[..., None], where)

    def displaced(self, before: Tensor, where: Tensor) -> Tensor:
        """See `world_models.motion.displaced`; what stays stays."""
        came = displaced(self.behind(before), where, self.patch)
        side = before.shape[-1] // self.patch
        still = (where == STILL).unflatten(-1, (side, side))
        still = still.repeat_interleave(self.patch, -2).repeat_interleave(self.patch, -1)
        return torch.where(still[:, :, None] | self.mask, before, came)

    def behind(self, pixels: Tensor) -> Tensor:
        """Frames without what stays: the nearest pixel in the place of each that it covers."""
        return pixels.flatten(-2).index_select(-1, self.layers()[1]).view_as(pixels)

    def layers(self) -> tuple[Tensor, Tensor]:
        """The mask, and which pixel ``(H W,)`` stands for each behind it; kept while votes are."""
        state = (self.votes.data_ptr(), self.votes._version)
        if self._known is None or self._known[0] != state:
            stayed, went = self.votes
            mask = (stayed > SHARE * (stayed + went)) & (stayed + went > ENOUGH)
            self._known = (state, mask, _nearest_free(mask))
        return self._known[1:]

    def _patches(self, x: Tensor) -> Tensor:
        return patches_from_pixels(x[None, None, None], self.patch)[0, 0]


def most_common(where: Tensor, ignored: Tensor | None = None) -> Tensor:
    """The most common of displacements ``(B, T, N)``, ``(B, T)``.

    Args:
        where: The displacements.
        ignored: Which of them have no vote, broadcasting; where none has, all stand still.
    """
    votes = F.one_hot(where, DISPLACEMENTS)
    votes = votes.sum(2) if ignored is None else (votes * ~ignored[..., None]).sum(2)
    return votes.argmax(-1).masked_fill(votes.amax(-1) == 0, STILL)


def _nearest_free(mask: Tensor) -> Tensor:
    """Of each pixel of ``(H, W)`` the nearest that neither is in the mask nor touches it."""
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
