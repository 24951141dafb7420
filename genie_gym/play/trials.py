"""The clips for a blind test: real clips, and continuations that two sources generate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genie_gym.collect.collector import Collection, play_episodes
from genie_gym.envs.loaded_worlds import LoadedWorld, open_world, real_kwargs
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.unseen import SEED, unseen_levels
from genie_gym.evaluation.windows import Windows, draw_windows
from world_models.episodes import Episode, EpisodeDataset

__all__ = ["REAL", "ClipOptions", "Trial", "make_trials"]

REAL = "real"
"""The source that shows the real clip itself, as a control for the test."""

_POLICY = "mixed"
_LONGEST = 300  # maximum steps of the episodes that clips are cut from
_TRIES = 20  # maximum number of episodes played for each clip


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Options for making clips.

    Attributes:
        num: Number of clips.
        frames: Number of frames that each source generates.
        prompt: Number of real frames before the generated frames.
        data: Dataset of real episodes; None to play new episodes of the real game.
        seed: Seed that determines the clips.
    """

    num: int = 20
    frames: int = 30
    prompt: int = 4
    data: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num", "frames", "prompt"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One question: which of two clips is closer to the real clip?

    Attributes:
        real: The real clip, uint8 ``(T, H, W, 3)``.
        clips: The clips from the first and the second source.
    """

    real: NDArray[np.uint8]
    clips: tuple[NDArray[np.uint8], NDArray[np.uint8]]


def make_trials(first: str, second: str, options: ClipOptions, **loading: Any) -> list[Trial]:
    """Make the trials that compare two sources.

    Args:
        first: Name or path of a world model, or `REAL`.
        second: Name or path of another world model, or `REAL`.
        options: Options for making the clips.
        loading: Keyword arguments of `open_world`.

    Raises:
        ValueError: If the sources cannot be compared.
    """
    names = (first, second)
    if first == second:
        raise ValueError(f"a blind test needs two different sources, got {first!r} twice")
    worlds = [None if name == REAL else open_world(name, **loading) for name in names]
    known = [world for world in worlds if world is not None]
    if not known:
        raise ValueError("a blind test needs a world model, but both sources are the real game")
    _check_alike(known)
    windows = _windows(known[0], options)
    shown = windows.frames[:, windows.num_prompt - 1 :].numpy()
    clips = [shown if world is None else _dreamed(world, windows) for world in worlds]
    return [
        Trial(real=real, clips=(one, other)) for real, one, other in zip(shown, *clips, strict=True)
    ]


def _check_alike(worlds: list[LoadedWorld]) -> None:
    cards = [world.card for world in worlds]
    for what in ("env_id", "env_kwargs", "action_meanings", "frame_size"):
        values = [getattr(card, what) for card in cards]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"both world models must have the same game and settings: {cards[0].name} has "
                f"{what}={values[0]!r}, {cards[1].name} has {values[1]!r}"
            )


def _windows(world: LoadedWorld, options: ClipOptions) -> Windows:
    """Draw clips from real episodes."""
    if options.data is not None:
        return draw_windows(
            EpisodeDataset(options.data),
            num=options.num,
            prompt=options.prompt,
            steps=options.frames,
            seed=options.seed,
        )
    rng = np.random.default_rng(options.seed)
    length = options.prompt + options.frames
    cut = [_cut(episode, length, rng) for episode in _long_episodes(world, length, options)]
    return Windows(
        frames=torch.from_numpy(np.stack([frames for frames, _ in cut])),
        actions=torch.from_numpy(np.stack([actions for _, actions in cut])),
        num_prompt=options.prompt,
    )


def _long_episodes(world: LoadedWorld, length: int, options: ClipOptions) -> Iterator[Episode]:
    """Play the real game with held-out seeds and levels; yield episodes that are long enough."""
    collection = Collection(
        env_id=world.card.env_id,
        policy=_POLICY,
        max_steps=max(_LONGEST, length),
        seed=SEED + options.seed,
        env_kwargs={**real_kwargs(world.card), **unseen_levels(world.card)},
    )
    found = 0
    for begin in range(0, _TRIES * options.num, options.num):
        indices = list(range(begin, begin + options.num))
        for episode in play_episodes(collection, indices, num_envs=min(8, options.num)):
            if len(episode.frames) >= length:
                found += 1
                yield episode
                if found == options.num:
                    return
    raise ValueError(
        f"only {found} of {_TRIES * options.num} episodes have {length} frames: use shorter "
        "clips with --clip-frames"
    )


def _cut(
    episode: Episode, length: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    begin = int(rng.integers(len(episode.frames) - length + 1))
    frames = episode.frames[begin : begin + length]
    return frames, episode.actions[begin : begin + length - 1]


def _dreamed(world: LoadedWorld, windows: Windows) -> NDArray[np.uint8]:
    """Return a world model's continuations, each after the last prompt frame."""
    dreamer = Dreamer(world.model, device=world.device)
    dream = dreamer.dream(windows.prompt, windows.actions, windows.seeds)
    last = windows.frames[:, windows.num_prompt - 1 : windows.num_prompt]
    return torch.cat((last, dream.frames), 1).numpy()
