"""Where pixels came from: patches of a frame found again in the frame before, as video codecs do.

Shapes: B batch, T frames, C channels, H height, W width, N tokens per frame, P side of a patch,
S = P + 2 REACH side of the window around it.
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
OTHER = 0.06  # mean squared error from which a patch shows something else
STAYS = 1.5  # times the least error with which a patch that goes its own way is said to stay
QUARTER = 1.5  # times the error of a patch that a quarter of it may have


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

    A patch goes with its frame's common displacement where that is good enough, and of others that
    are as good takes the nearest to it, so that displacements can be foretold: a camera's motion is
    one token everywhere.

    Args:
        pixels: The frames.
        before: Those before them.
        patch: Side of a patch.
        enough: Mean squared error up to which the common displacement is good enough; in each
            quarter of a patch, too, or a small thing in it would go with the rest.
    """
    with torch.autocast(pixels.device.type, enabled=False):  # bf16 sees no small differences
        error = _errors(pixels.float(), before.float(), patch)  # (B, T, N, DISPLACEMENTS)
    cost = error.clamp(max=OTHER).sum(2)
    cost[..., STILL] -= TOLERANCE
    common = cost.argmin(-1)[..., None].expand(error.shape[:-1])
    least = error.amin(-1)
    good = error <= least[..., None] + TOLERANCE
    where = _distances(pixels.device)[common].masked_fill(~good, TAPS * TAPS).argmin(-1)
    wrong = (displaced(before, common, patch) - pixels).square().mean(2)
    wrong = rearrange(wrong, "b t (h p) (w q) -> b t (h w) p q", p=patch, q=patch)
    quarters = F.avg_pool2d(wrong.flatten(0, 1), patch // 2).flatten(2).amax(-1)
    common_error = error.gather(-1, common[..., None]).squeeze(-1)
    fits = (common_error <= enough) & (quarters.view_as(least) <= QUARTER * enough)
    near = error[..., STILL] <= STAYS * least
    where = torch.where(fits, common, torch.where(near, STILL, where))
    return Match(where, error.gather(-1, where[..., None]).squeeze(-1))


def _distances(device: torch.device) -> Tensor:
    """From each displacement to each, pixels down and right added, ``(DISPLACEMENTS,) * 2``."""
    number = torch.arange(DISPLACEMENTS, device=device)
    down, right = number // TAPS, number % TAPS
    return (down[:, None] - down).abs() + (right[:, None] - right).abs()


def _errors(pixels: Tensor, before: Tensor, patch: int) -> Tensor:
    """Mean squared error of each patch at each displacement ``(B, T, N, DISPLACEMENTS)``."""
    batch, frames, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    padded = F.pad(before.flatten(0, 1), (REACH,) * 4, mode="replicate")
    # All patches of a row are sought along the whole row at once.
    strips = rearrange(padded.unfold(2, patch + 2 * REACH, patch), "b c h x y -> (b h) c y x")
    patches = rearrange(pixels, "b t c (h p) (w q) -> (b t h) w c p q", p=patch, q=patch)
    both = _products(strips, patches, unfolded=pixels.is_cuda)
    both = both.view(-1, rows, columns, TAPS, both.shape[-1])
    both = torch.stack(
        [both[:, :, j, :, j * patch : j * patch + TAPS] for j in range(columns)], 2
    )  # (B T, h, w, TAPS, TAPS)
    area = channels * patch * patch
    there = F.avg_pool2d(padded.square().mean(1), patch, stride=1)
    there = there.unfold(1, TAPS, patch).unfold(2, TAPS, patch)
    here = patches.square().mean((2, 3, 4)).view(-1, rows, columns, 1, 1)
    error = (there - 2 / area * both + here).clamp(min=0)
    return error.reshape(batch, frames, rows * columns, DISPLACEMENTS)


def _products(strips: Tensor, patches: Tensor, unfolded: bool) -> Tensor:
    """What patches ``(R, w, C, P, P)`` give with all places of their strips ``(R, C, y, x)``.

    Unfolding takes memory, but a GPU's convolution would round pixels to ten bits.
    """
    if unfolded:
        side = patches.shape[-1]
        places = strips.unfold(2, side, 1).unfold(3, side, 1)  # a view; F.unfold goes row by row
        found = patches.flatten(2) @ rearrange(places, "r c y x p q -> r (c p q) (y x)")
        return found.unflatten(2, places.shape[2:4])
    found = F.conv2d(strips.flatten(0, 1)[None], patches.flatten(0, 1), groups=len(strips))
    return found.unflatten(1, patches.shape[:2])[0]


def displaced(before: Tensor, where: Tensor, patch: int) -> Tensor:
    """The frames ``(B, T, C, H, W)`` made of displaced patches of those before them."""
    batch, frames, channels, height, width = before.shape
    padded = F.pad(before.flatten(0, 1), (REACH,) * 4, mode="replicate")
    moves = where.view(-1, height // patch, width // patch)
    moves = moves.repeat_interleave(patch, 1).repeat_interleave(patch, 2)  # (B T, H, W)
    rows = moves // TAPS + torch.arange(height, device=where.device)[:, None]
    columns = moves % TAPS + torch.arange(width, device=where.device)
    source = (rows * padded.shape[-1] + columns).flatten(1)[:, None].expand(-1, channels, -1)
    return padded.flatten(2).gather(2, source).view_as(before)
