"""Survival of CoinRun's player: in which frames the player is whole and in its place.

The camera follows the player, so the game draws the player at the same place in every frame, with
the same pixels for the same pose. Real frames with the same pixels at the player's chest show the
same pose. The pixels that nearly all of these frames share belong to the player, and form a
template of the pose. All other pixels belong to the background.

Shapes: F frames, H height, W width.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.dreams.survival import EVERY, USUAL, Survival
from world_models.episodes import EpisodeDataset

__all__ = ["player_survival"]

TOP, LEFT = 26, 27  # where the player's box begins in the frame, in pixels
HEIGHT, WIDTH = 12, 10  # size of the box
CHEST = (slice(4, 8), slice(4, 6))  # pixels of the box that tell poses apart
FEWEST_FRAMES, FEWEST_EPISODES = 15, 3  # minimum numbers that show a pose
SHARED = 0.98  # minimum fraction of a pose's frames that share a template pixel
SAME = 2  # grey levels by which a template pixel may differ in real frames
LIKE = 25  # grey levels by which a template pixel may differ in a dream
WHOLE = 0.9  # minimum fraction of a template's pixels that a frame must show
ASIDE = 3  # pixels by which players are displaced to check the measure
BLIND = 0.1  # the measure is not reported if more than this fraction of displaced players passes


class Template(NamedTuple):
    """The player in one pose.

    Attributes:
        rows: Row indices of the player's pixels in the box around the player.
        columns: Column indices of these pixels.
        colours: Colours of these pixels, ``(pixels, 3)``.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    colours: NDArray[np.int16]


def player_survival(frames: Tensor, episodes: EpisodeDataset) -> Survival | None:
    """Judge the player in every second frame of CoinRun dreams.

    The poses come from half of the episodes; frames of the other half are judged like the dreams.

    Returns None if the episodes show too few poses, or if the measure would accept real frames in
    which the player is displaced.

    Args:
        frames: The dreams, uint8 ``(B, n, 64, 64, 3)``.
        episodes: Real held-out episodes.
    """
    known = [_frames(episodes, index) for index in range(0, len(episodes), 2)]
    others = [_frames(episodes, index) for index in range(1, len(episodes), 2)]
    templates = _templates(known)
    if not templates or not others:
        return None
    real = np.concatenate(others)
    real = real[:: max(1, len(real) // USUAL)]
    if _whole(np.roll(real, ASIDE, axis=2), templates).mean() > BLIND:
        return None
    shown = frames[:, ::EVERY].numpy()
    dream = _whole(shown.reshape(-1, *shown.shape[2:]), templates).reshape(shown.shape[:2])
    return Survival(
        dream=torch.from_numpy(dream),
        real=torch.from_numpy(_whole(real, templates)),
        name="player_survival",
    )


def _frames(episodes: EpisodeDataset, index: int) -> NDArray[np.uint8]:
    return episodes.frames(index, 0, int(episodes.num_frames[index]))


def _templates(episodes: list[NDArray[np.uint8]]) -> list[Template]:
    """Find the poses of the player in the frames of several episodes."""
    poses: dict[bytes, list[tuple[int, NDArray[np.uint8]]]] = defaultdict(list)
    for number, frames in enumerate(episodes):
        for box in frames[:, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]:
            poses[box[CHEST].tobytes()].append((number, box))
    found = []
    for pose in poses.values():
        if len(pose) < FEWEST_FRAMES or len({number for number, _ in pose}) < FEWEST_EPISODES:
            continue
        boxes = np.stack([box for _, box in pose]).astype(np.int16)
        usual = np.median(boxes, 0).astype(np.int16)
        shared = (np.abs(boxes - usual).max(-1) <= SAME).mean(0) >= SHARED
        rows, columns = shared.nonzero()
        found.append(Template(rows, columns, usual[shared]))
    return found


def _whole(frames: NDArray[np.uint8], templates: list[Template]) -> NDArray[np.bool_]:
    """Return in which frames ``(F, H, W, 3)`` the player is whole and in its place."""
    boxes = frames[:, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].astype(np.int16)
    found = [
        (np.abs(boxes[:, one.rows, one.columns] - one.colours).max(-1) <= LIKE).mean(1) >= WHOLE
        for one in templates
    ]
    return np.any(found, 0)
