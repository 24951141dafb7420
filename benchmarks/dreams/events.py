"""Measure the precision and recall of the rewards and terminations that a dream predicts.

Each episode is cut into stretches of at most n steps, the length of a dream; the first stretch
begins at a random step near the start. A dream predicts each stretch from the real frames before
it. If there are too many stretches, some with events and some without are sampled. Each sampled
stretch is weighted by the number of stretches that it represents, so that events are as rare as in
real episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genie_gym.evaluation.dreamer import Dreamer
from world_models.episodes import EpisodeDataset

__all__ = ["Found", "Stretch", "cut", "find_events", "matched"]

LIKELY = 0.5  # an event's minimum termination probability, or fraction of the usual reward


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps of an episode that a world model predicts from the real frames before them.

    Attributes:
        episode: Index of the episode.
        first: Step at which the dream starts; ``frames[first]`` is the last prompt frame.
        rewards: Rewards of the real steps, at most n.
        ends: Whether the last step terminated the episode.
    """

    episode: int
    first: int
    rewards: NDArray[np.float32]
    ends: bool

    @property
    def eventful(self) -> bool:
        """Return whether the stretch has an event."""
        return self.ends or bool(self.rewards.any())


@dataclass(kw_only=True)
class Found:
    """Counts of one kind of event, weighted as the module docstring describes.

    Attributes:
        real: Weighted number of real events.
        predicted: Weighted number of predicted events.
        hits: Weighted number of predicted events that match a real one.
        num_real: Number of real events in the dreamed stretches, unweighted.
        late: Delay of each hit in steps; negative if early.
    """

    real: float = 0.0
    predicted: float = 0.0
    hits: float = 0.0
    num_real: int = 0
    late: list[int] = field(default_factory=list)

    def add(
        self,
        real: Sequence[int],
        predicted: Sequence[int],
        length: int,
        tolerance: int,
        weight: float,
    ) -> None:
        """Count a stretch of `length` real steps.

        A prediction after the last real step can be a late hit, but not a false positive.
        """
        pairs = matched(real, predicted, tolerance)
        beyond = sum(t >= length for t in predicted) - sum(t >= length for _, t in pairs)
        self.real += weight * len(real)
        self.predicted += weight * (len(predicted) - beyond)
        self.hits += weight * len(pairs)
        self.num_real += len(real)
        self.late += [t - r for r, t in pairs]

    def figures(self, name: str) -> dict[str, float]:
        """Return precision and recall, where they are defined."""
        found = {f"{name}_events": float(self.num_real)}
        if self.predicted:
            found[f"{name}_precision"] = self.hits / self.predicted
        if self.real:
            found[f"{name}_recall"] = self.hits / self.real
            if not self.predicted:
                found[f"{name}_precision"] = 0.0
        if self.late:
            found[f"{name}_late_steps"] = float(np.mean(self.late))
        return found


def matched(real: Sequence[int], predicted: Sequence[int], tolerance: int) -> list[tuple[int, int]]:
    """Match as many real events as possible to predicted events within `tolerance` steps.

    Both sequences are sorted by time; no event is in two pairs.
    """
    pairs, r, t = [], 0, 0
    while r < len(real) and t < len(predicted):
        if abs(real[r] - predicted[t]) <= tolerance:
            pairs.append((real[r], predicted[t]))
            r, t = r + 1, t + 1
        elif real[r] < predicted[t]:
            r += 1
        else:
            t += 1
    return pairs


def cut(episodes: EpisodeDataset, *, prompt: int, steps: int, seed: int) -> list[Stretch]:
    """Cut episodes into stretches; the first begins less than `steps` steps after the prompt."""
    rng, stretches = np.random.default_rng(seed), []
    for index, num_frames in enumerate(episodes.num_frames):
        whole = episodes.transitions(index, 0, int(num_frames))
        begin = prompt - 1 + int(rng.integers(steps))
        for first in range(begin, int(num_frames) - 1, steps):
            rewards = whole["rewards"][first : first + steps]
            ends = bool(whole["terminated"][first : first + steps].any())
            stretches.append(Stretch(episode=index, first=first, rewards=rewards, ends=ends))
    return stretches


def find_events(
    dreamer: Dreamer,
    episodes: EpisodeDataset,
    *,
    prompt: int,
    steps: int,
    num: int,
    tolerance: int,
    seed: int,
) -> dict[str, Found]:
    """Count real, predicted and correctly predicted rewards and terminations.

    Args:
        dreamer: Generates dreams with the world model, in mode "stream".
        episodes: Real episodes.
        prompt: Real frames before each dream.
        steps: Length of a dream.
        num: Maximum number of stretches, half of them with an event if available.
        tolerance: Steps by which a prediction may be early or late.
        seed: Seed for choosing the stretches.
    """
    stretches = cut(episodes, prompt=prompt, steps=steps, seed=seed)
    chosen = _choose(stretches, num, np.random.default_rng([seed, 1]))
    usual = _usual_reward(stretches)
    found = {"reward": Found(), "termination": Found()}
    for begin in range(0, len(chosen), dreamer.batch_size):
        part = chosen[begin : begin + dreamer.batch_size]
        batch = [_inputs(episodes, stretch, prompt, steps + tolerance) for stretch, _ in part]
        frames, actions = (torch.from_numpy(np.stack(x)) for x in zip(*batch, strict=True))
        seeds = torch.arange(begin, begin + len(part))
        dream = dreamer.dream(frames, actions, seeds)
        assert dream.reward is not None and dream.termination is not None
        rows = zip(part, dream.reward.numpy(), dream.termination.numpy(), strict=True)
        for (stretch, weight), reward, termination in rows:
            _count(found, stretch, reward, termination, usual, tolerance, weight)
    return found


def _choose(
    stretches: list[Stretch], num: int, rng: np.random.Generator
) -> list[tuple[Stretch, float]]:
    """Choose at most `num` stretches; return each with its weight."""
    eventful = [stretch for stretch in stretches if stretch.eventful]
    calm = [stretch for stretch in stretches if not stretch.eventful]
    share = min(len(eventful), max(num // 2, num - len(calm)))
    chosen = []
    for kind, count in ((eventful, share), (calm, min(len(calm), num - share))):
        for place in rng.permutation(len(kind))[:count]:
            chosen.append((kind[place], len(kind) / count))
    return chosen


def _usual_reward(stretches: list[Stretch]) -> float:
    rewards = np.concatenate([stretch.rewards for stretch in stretches])
    paid = np.abs(rewards[rewards != 0])
    return float(np.median(paid)) if len(paid) else 1.0


def _inputs(
    episodes: EpisodeDataset, stretch: Stretch, prompt: int, steps: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a dream's prompt and actions; after the episode's end, the last action repeats."""
    start = stretch.first - prompt + 1
    frames = episodes.frames(stretch.episode, start, stretch.first + 1)
    actions = episodes.actions(stretch.episode)[start : stretch.first + steps]
    missing = prompt - 1 + steps - len(actions)
    return frames, np.concatenate([actions, np.repeat(actions[-1:], missing)])


def _count(
    found: dict[str, Found],
    stretch: Stretch,
    reward: NDArray[np.float32],
    termination: NDArray[np.float32],
    usual: float,
    tolerance: int,
    weight: float,
) -> None:
    length = len(stretch.rewards)
    seen = length + tolerance
    ends = _steps(termination[:seen] >= LIKELY)[:1]  # a dream has at most one termination
    reward = reward[: ends[0] + 1 if ends else seen]
    for sign in (1, -1):
        found["reward"].add(
            _steps(sign * stretch.rewards > 0),
            _steps(sign * reward >= LIKELY * usual),
            length,
            tolerance,
            weight,
        )
    real = [length - 1] if stretch.ends else []
    found["termination"].add(real, ends, length, tolerance, weight)


def _steps(mask: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(mask).tolist()
