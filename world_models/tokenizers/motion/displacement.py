"""Block matching: finds a frame's patches in the previous frame, as video codecs do.

Shapes: B batch, T frames, N tokens per frame, P side of a patch; a frame has height H, width W and
C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

__all__ = [
    "DISPLACEMENTS",
    "STILL",
    "Match",
    "displace",
    "displacement_codes",
    "match",
    "most_common",
]

REACH = 7  # largest displacement along each axis, in pixels
TAPS = 2 * REACH + 1
DISPLACEMENTS = TAPS * TAPS
STILL = DISPLACEMENTS // 2  # the displacement by (0, 0)
TOLERANCE = 1e-4  # displacements whose mean squared errors differ by less are equally good
UNLIKE = 0.06  # mean squared error above which two patches show different things
STAY_ERROR = 1.5  # a patch may stay if that gives at most this many times the smallest error
QUARTER_ERROR = 1.5  # a quarter of a patch may have an error of this many times the threshold


class Match(NamedTuple):
    """The displacement of each patch since the previous frame.

    Attributes:
        displacement: Index of the displacement, from 0 to DISPLACEMENTS - 1, ``(B, T, N)``.
        error: Mean squared error of the moved patch, ``(B, T, N)``.
    """

    displacement: Tensor
    error: Tensor


@torch.no_grad()
def match(pixels: Tensor, previous: Tensor, patch: int, threshold: float = 0.0) -> Match:
    """Find each patch of frames ``(B, T, C, H, W)`` in the previous frames.

    Each patch gets the first of these displacements that is good enough:

    1. The most common displacement in its frame, if the mean squared error is at most `threshold`.
       The error in each quarter of the patch is limited too: otherwise small sprites would move
       with the background.
    2. No displacement, if its error is not much larger than the smallest error.
    3. The displacement with the smallest error. If several are about equally good, the one nearest
       to the most common displacement.

    These rules make displacements predictable: camera motion is the same token everywhere.
    """
    with torch.autocast(pixels.device.type, enabled=False):  # bfloat16 loses small differences
        error = _errors(pixels.float(), previous.float(), patch)  # (B, T, N, DISPLACEMENTS)
    cost = error.clamp(max=UNLIKE).sum(2)
    cost[..., STILL] -= TOLERANCE
    common = cost.argmin(-1)[..., None].expand(error.shape[:-1])
    least = error.amin(-1)
    good = error <= least[..., None] + TOLERANCE
    nearest = _distances(pixels.device)[common].masked_fill(~good, TAPS * TAPS).argmin(-1)
    wrong = (displace(previous, common, patch) - pixels).square().mean(2)
    wrong = rearrange(wrong, "b t (h p) (w q) -> b t (h w) p q", p=patch, q=patch)
    quarters = F.avg_pool2d(wrong.flatten(0, 1), patch // 2).flatten(2).amax(-1)
    common_error = error.gather(-1, common[..., None]).squeeze(-1)
    fits = (common_error <= threshold) & (quarters.view_as(least) <= QUARTER_ERROR * threshold)
    stays = error[..., STILL] <= STAY_ERROR * least
    found = torch.where(fits, common, torch.where(stays, STILL, nearest))
    return Match(found, error.gather(-1, found[..., None]).squeeze(-1))


def displace(previous: Tensor, displacement: Tensor, patch: int) -> Tensor:
    """Build frames ``(B, T, C, H, W)`` from displaced patches of the previous frames."""
    batch, frames, channels, height, width = previous.shape
    padded = F.pad(previous.flatten(0, 1), (REACH,) * 4, mode="replicate")
    moves = displacement.view(-1, height // patch, width // patch)
    moves = moves.repeat_interleave(patch, 1).repeat_interleave(patch, 2)  # (B T, H, W)
    rows = moves // TAPS + torch.arange(height, device=moves.device)[:, None]
    columns = moves % TAPS + torch.arange(width, device=moves.device)
    source = (rows * padded.shape[-1] + columns).flatten(1)[:, None].expand(-1, channels, -1)
    return padded.flatten(2).gather(2, source).view_as(previous)


def most_common(displacement: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Return each frame's most common displacement ``(B, T)``, given all of them ``(B, T, N)``.

    Displacements marked in `ignored`, which is broadcast, are left out. If none is left, the result
    is STILL (no displacement).
    """
    counts = F.one_hot(displacement, DISPLACEMENTS)
    counts = counts.sum(2) if ignored is None else (counts * ~ignored[..., None]).sum(2)
    return counts.argmax(-1).masked_fill(counts.amax(-1) == 0, STILL)


def displacement_codes(width: int) -> Tensor:
    """Return a unit vector for each displacement, ``(DISPLACEMENTS, width)``.

    Similar displacements have similar vectors.
    """
    steps = torch.arange(-REACH, REACH + 1.0)
    lengths = torch.linspace(1, 3, max(1, width // 4)).exp2() * 2
    angles = 2 * torch.pi * steps[:, None] / lengths  # (TAPS, width // 4)
    waves = torch.cat((angles.cos(), angles.sin()), 1)
    down = waves[:, None].expand(-1, len(steps), -1)
    both = torch.cat((down, down.transpose(0, 1)), -1).flatten(0, 1)
    return F.normalize(F.pad(both, (0, width - both.shape[1])), dim=-1)


def _distances(device: torch.device) -> Tensor:
    """Return the Manhattan distances in pixels between all displacements.

    The result is ``(DISPLACEMENTS, DISPLACEMENTS)``.
    """
    number = torch.arange(DISPLACEMENTS, device=device)
    down, right = number // TAPS, number % TAPS
    return (down[:, None] - down).abs() + (right[:, None] - right).abs()


def _errors(pixels: Tensor, previous: Tensor, patch: int) -> Tensor:
    """Return each patch's mean squared error at each displacement, ``(B, T, N, DISPLACEMENTS)``."""
    batch, frames, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    padded = F.pad(previous.flatten(0, 1), (REACH,) * 4, mode="replicate")
    # All patches in a row of patches are correlated with the previous frame's row at once.
    strips = rearrange(padded.unfold(2, patch + 2 * REACH, patch), "b c h x y -> (b h) c y x")
    patches = rearrange(pixels, "b t c (h p) (w q) -> (b t h) w c p q", p=patch, q=patch)
    both = _correlate(strips, patches, unfold=pixels.is_cuda)
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


def _correlate(strips: Tensor, patches: Tensor, unfold: bool) -> Tensor:
    """Correlate patches ``(R, w, C, P, P)`` with all positions in their strips ``(R, C, y, x)``.

    R counts rows of patches: all w patches of a row share one strip of the previous frame.
    Unfolding takes memory, but on a GPU a convolution would round pixels to TF32.
    """
    if unfold:
        side = patches.shape[-1]
        places = strips.unfold(2, side, 1).unfold(3, side, 1)  # a view; F.unfold goes row by row
        found = patches.flatten(2) @ rearrange(places, "r c y x p q -> r (c p q) (y x)")
        return found.unflatten(2, places.shape[2:4])
    found = F.conv2d(strips.flatten(0, 1)[None], patches.flatten(0, 1), groups=len(strips))
    return found.unflatten(1, patches.shape[:2])[0]
