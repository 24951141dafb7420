"""Survival: how long the frames of a dream remain pictures of the game.

A frame is a picture of the game if it passes two tests. First, each of its patches looks like a
real patch at the same place. A frame's distance is the distance of its worst patch from the
nearest real patch; the limit is 1.5 times the 99th percentile of this distance in real frames of
other episodes. Second, nothing is missing: the number of pixels that differ from the background
(the median of real frames) is at least 0.9 times the 1st percentile of this number in real frames.

In a single-screen game, held-out episodes show nearly everything that can appear at each place. In
a scrolling game they do not, so the limits are loose. Therefore, deliberately damaged real frames
(shuffled patches, then blurred) are judged too. If the damaged frames pass, the measure cannot
detect damage and is not reported.

Shapes: F frames, L patches per frame, D values per patch, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.dreams.scores import Picture, as_it_is
from genie_gym.evaluation.metrics import differing
from world_models.episodes import EpisodeDataset
from world_models.pixels import (
    patches_from_pixels,
    pixels_from_patches,
    to_float,
    to_uint8,
)

__all__ = ["EVERY", "MARKS", "USUAL", "Survival", "survival"]

MARKS = (50, 100, 200)
"""Survival is reported for frames 1 to 50, 51 to 100 and 101 to 200 of a dream."""

EVERY = 2
"""Every EVERY-th frame of a dream is judged."""
USUAL = 400
"""About this many real frames are judged, and about as many other real frames set the limits."""

_PERCENTILE, _BEYOND = 0.99, 1.5  # limit on the distance: a percentile times a factor
_FEW, _BELOW = 0.01, 0.9  # limit on the number of pixels: a percentile times a factor
_INVISIBLE = 0.05  # lowest limit on the distance: two grey levels
_PATCH, _POOL = 8, 2  # pixels per side of a patch; patches are compared at half the resolution
_KNOWN = 3000  # maximum number of real frames to compare with
_BLUR = 9  # side of the blur's window for damaged frames, in pixels
_BLIND = 0.1  # the measure is not reported if more than this fraction of damaged frames passes


@dataclass(frozen=True, kw_only=True)
class Survival:
    """Results of a test of frames, such as whether they are pictures of the game.

    Attributes:
        dream: Result for every second frame of the dreams, bool ``(B, n)``.
        real: Result for held-out real frames, bool ``(F,)``.
        name: Prefix of the result names.
    """

    dream: Tensor
    real: Tensor
    name: str = "survival"

    def figures(self) -> dict[str, float]:
        """Return the fractions of frames that pass: ``survival_real``, ``survival_50`` etc."""
        found, before = {f"{self.name}_real": float(self.real.float().mean())}, 0
        for mark in MARKS:
            if self.dream.shape[1] * EVERY >= mark:
                part = self.dream[:, before // EVERY : mark // EVERY]
                found[f"{self.name}_{mark}"] = float(part.float().mean())
                before = mark
        return found


def survival(
    frames: Tensor, episodes: EpisodeDataset, clean: Picture = as_it_is
) -> Survival | None:
    """Test whether dreamed frames still look like frames of the game.

    Half of the episodes are the reference and a quarter sets the limits. The frames of the last
    quarter are tested like the dreams, both unchanged and deliberately damaged.

    Returns None if there are fewer than 4 episodes, or if the damaged frames pass the test too.

    Args:
        frames: The dreams, uint8 ``(B, n, H, W, 3)``.
        episodes: Real held-out episodes.
        clean: Function that preprocesses all frames, dreamed and real.
    """
    if len(episodes) < 4:
        return None
    quarters = [_drawn(episodes, part, clean) for part in range(4)]
    game = _Game(torch.cat(quarters[:2]), usual=_some(quarters[2]))
    real = _some(quarters[3])
    if float(game.shows(_damaged(real)).float().mean()) > _BLIND:
        return None
    shown = clean(frames[:, ::EVERY].flatten(0, 1))
    dream = game.shows(shown).unflatten(0, (len(frames), -1))
    return Survival(dream=dream, real=game.shows(real))


class _Game:
    """The appearance of a game, according to real frames.

    Args:
        known: Real frames to compare with.
        usual: Real frames that set the limits.
    """

    def __init__(self, known: Tensor, usual: Tensor):
        self._patches = _patches(known)
        self._background = known.median(0).values
        usual_distance = float(self._distance(usual).quantile(_PERCENTILE))
        self._most = max(_INVISIBLE, _BEYOND * usual_distance)
        self._least = _BELOW * float(self._content(usual).quantile(_FEW))

    def shows(self, frames: Tensor) -> Tensor:
        """Return which frames are pictures of the game, bool ``(F,)``."""
        return (self._distance(frames) <= self._most) & (self._content(frames) >= self._least)

    def _distance(self, frames: Tensor) -> Tensor:
        """Return the distance ``(F,)`` of each frame's worst patch to the nearest known patch."""
        return torch.cdist(_patches(frames), self._patches).amin(-1).amax(0)

    def _content(self, frames: Tensor) -> Tensor:
        """Return the number ``(F,)`` of pixels that differ from the background."""
        return differing(frames, self._background).float().sum((-2, -1))


def _drawn(episodes: EpisodeDataset, part: int, clean: Picture) -> Tensor:
    """Return evenly spaced frames ``(F, H, W, 3)`` of the episodes `part`, `part` + 4, etc."""
    chosen = range(part, len(episodes), 4)
    stride = max(1, int(sum(episodes.num_frames[i] for i in chosen)) * 2 // _KNOWN)
    frames = [episodes.frames(i, 0, int(episodes.num_frames[i]))[::stride] for i in chosen]
    return clean(torch.from_numpy(np.concatenate(frames)))


def _some(frames: Tensor) -> Tensor:
    return frames[:: max(1, len(frames) // USUAL)]


def _damaged(frames: Tensor) -> Tensor:
    """Return the frames with their patches in a random order, then blurred."""
    patches = patches_from_pixels(to_float(frames), _PATCH)
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = pixels_from_patches(patches[:, order], _PATCH, frames.shape[1])
    blurred = F.avg_pool2d(shuffled, _BLUR, 1, _BLUR // 2, count_include_pad=False)
    return to_uint8(blurred)


def _patches(frames: Tensor) -> Tensor:
    """Return the patches of all frames, grouped by position in the frame: ``(L, F, D)``."""
    small = F.avg_pool2d(to_float(frames), _POOL)  # (F, 3, H / 2, W / 2)
    side = _PATCH // _POOL
    return F.unfold(small, side, stride=side).permute(2, 0, 1).contiguous()
