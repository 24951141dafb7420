"""Where pixels came from: patches of a frame found again in the frame before, as video codecs do.

Shapes: B batch, T frames, C channels, H height, W width, N tokens per frame, P side of a patch,
S = P + 2 REACH side of the window around it, M patches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

__all__ = ["DISPLACEMENTS", "STILL", "Match", "displaced", "match"]

REACH = 7  # pixels by which a patch may have moved along each axis
TAPS = 2 * REACH + 1
DISPLACEMENTS = TAPS * TAPS
STILL = DISPLACEMENTS // 2  # the displacement by nothing
TOLERANCE = 1e-4  # mean squared error by which displacements may differ and be as good


class Match(NamedTuple):
    """Where each patch was in the frame before.

    Attributes:
        where: Number of the best displacement, 0 to DISPLACEMENTS - 1, ``(B, T, N)``.
        error: Mean squared difference to what was there, ``(B, T, N)``.
    """

    where: Tensor
    error: Tensor


@torch.no_grad()
def match(pixels: Tensor, before: Tensor, patch: int, enough: float = 0.0) -> Match:
    """Find each patch of frames ``(B, T, C, H, W)`` in those before them.

    A patch goes with most of its frame where that is good enough, else it stays where it is if
    that is as good as any: so displacements can be foretold.

    Args:
        pixels: The frames.
        before: Those before them.
        patch: Side of a patch.
        enough: Mean squared error up to which a displacement is good enough.
    """
    num_patches = pixels.shape[-2] // patch * (pixels.shape[-1] // patch)
    shape = (*pixels.shape[:2], num_patches)
    patches = rearrange(pixels.float(), "b t c (h p) (w q) -> (b t h w) c p q", p=patch, q=patch)
    around = _windows(before.float(), patch)
    both = F.conv2d(around.reshape(1, -1, *around.shape[2:]), patches, groups=len(patches))[0]
    squares = F.avg_pool2d(around.square().sum(1), patch, stride=1) * patch**2
    error = squares - 2 * both + patches.square().sum((1, 2, 3))[:, None, None]
    error = error.flatten(1) / patches[0].numel()  # (M, DISPLACEMENTS)
    least, where = error.min(1, keepdim=True)
    good = error <= least + TOLERANCE
    still = good[:, STILL, None]
    where = where.masked_fill(still, STILL)
    # Plain patches, which might have come from anywhere, have no vote.
    votes = F.one_hot(where[:, 0], DISPLACEMENTS) * (good.sum(1, keepdim=True) < DISPLACEMENTS // 2)
    most = votes.view(*shape, DISPLACEMENTS).sum(2).argmax(-1)  # (B, T)
    most = torch.where(votes.view(*shape, DISPLACEMENTS).any(-1).any(-1), most, STILL)
    most = most[..., None].expand(shape).reshape(-1, 1)
    fits = error.gather(1, most) <= (least + TOLERANCE).clamp(min=enough)
    where = torch.where(fits, most, where)
    return Match(where.view(shape), error.gather(1, where).view(shape))


def displaced(before: Tensor, where: Tensor, patch: int) -> Tensor:
    """The frames ``(B, T, C, H, W)`` made of displaced patches of those before them."""
    around, where = _windows(before, patch), where.flatten()
    steps = torch.arange(patch, device=where.device)
    rows, columns = where[:, None] // TAPS + steps, where[:, None] % TAPS + steps  # (M, P)
    each = torch.arange(len(where), device=where.device)[:, None, None]
    found = around[each, :, rows[:, :, None], columns[:, None]]  # (M, P, P, C)
    batch, height = len(before), before.shape[-2] // patch
    return rearrange(found, "(b t h w) p q c -> b t c (h p) (w q)", b=batch, h=height, w=height)


def _windows(frames: Tensor, patch: int) -> Tensor:
    """What lies within reach of each patch, ``(M, C, S, S)``; the border is repeated."""
    side = patch + 2 * REACH
    padded = F.pad(frames.flatten(0, 1), (REACH,) * 4, mode="replicate")
    cut = padded.unfold(2, side, patch).unfold(3, side, patch)
    return rearrange(cut, "b c h w s z -> (b h w) c s z")
