"""Whether rewards and ends of episodes happen in the dream when they happen in the game.

The episodes are cut into stretches of at most n steps that touch every step once, and a dream
begins before each. Where there are too many, all kinds of stretches are drawn and each counts for
as many as it stands for, so that events are as rare as they are in play.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from world_models.episodes import EpisodeDataset
from world_models.evaluation.dreamer import Dreamer

__all__ = ["Found", "Stretch", "cut", "find_events", "matched"]

LIKELY = 0.5  # from this termination probability on, and from this share of a usual reward


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps of an episode that are dreamed from the real frames before.

    Attributes:
        episode: Which episode.
        first: Its step at which the dream begins; ``frames[first]`` is the last real frame.
        rewards: Of the real steps, at most n.
        ends: Whether the last of them terminated the episode.
    """

    episode: int
    first: int
    rewards: NDArray[np.float32]
    ends: bool

    @property
    def eventful(self) -> bool:
        """Whether anything happens in it."""
        return self.ends or bool(self.rewards.any())


@dataclass(kw_only=True)
class Found:
    """How many events of a kind were found, weighted as the module says.

    Attributes:
        real: Events that happened.
        predicted: Events that the dream predicted.
        hits: Those that are the same.
        num_real: How many happened in the stretches that were dreamed.
        late: By how many steps the dream predicted each hit late.
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

        What is predicted after the last real step can be a late hit, but not a mistake.
        """
        pairs = matched(real, predicted, tolerance)
        beyond = sum(t >= length for t in predicted) - sum(t >= length for _, t in pairs)
        self.real += weight * len(real)
        self.predicted += weight * (len(predicted) - beyond)
        self.hits += weight * len(pairs)
        self.num_real += len(real)
        self.late += [t - r for r, t in pairs]

    def figures(self, name: str) -> dict[str, float]:
        """Precision and recall, as far as there is anything to divide by."""
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
    """Pairs of a real event and a predicted one at most `tolerance` steps apart, as many as can be.

    Both are in order of time; no event is in two pairs.
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
    """Cut all episodes into stretches, each episode from a random step on."""
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
    """Look for the episodes' rewards and terminations in dreams.

    Args:
        dreamer: The world, in the mode "stream".
        episodes: Real ones.
        prompt: Real frames before each dream.
        steps: Length of a dream.
        num: Stretches to dream at most, half of them with an event if there are as many.
        tolerance: Steps by which the dream may be early or late.
        seed: Of the choice of stretches.
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
    """At most `num` stretches, each with how many it stands for."""
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
    """The real frames before a dream, and its actions; after the episode's end the last one."""
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
    ends = _steps(termination[:seen] >= LIKELY)[:1]  # a dream that has ended predicts no more
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
