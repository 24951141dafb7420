"""Plays numbered episodes in a vector env and yields them whole.

Episode `i` of a collection is a function of the collection's seed and of `i` alone: its env seed
and its policy's generator are derived from both. So it does not matter in which row, process or
machine it is played, nor after how many interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym.actions import ActionSet
from genie_gym.collect.policies import make_policy
from world_models.episodes import Episode, EpisodeInfo, code_version

__all__ = ["Collection", "PlayedEpisode", "episode_seed", "play", "play_episodes"]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What is collected: everything an episode depends on, beside its number.

    Attributes:
        env_id: Any env id of this package.
        policy: ``random``, ``sticky`` or the folder of a saved agent.
        max_steps: Episodes are truncated after so many steps.
        seed: Seed of the collection.
        epsilon: Share of the policy's actions replaced by uniformly random ones.
        temperature: Of a saved agent's action distribution; 0 takes the likeliest action.
        env_kwargs: Further keyword arguments of the env.
    """

    env_id: str
    policy: str = "random"
    max_steps: int = 500
    seed: int = 0
    epsilon: float = 0.0
    temperature: float = 1.0
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if not 0 <= self.epsilon <= 1 or self.temperature < 0:
            raise ValueError(
                "epsilon must be in [0, 1] and temperature not negative, got "
                f"{self.epsilon} and {self.temperature}"
            )

    def owns(self, info: EpisodeInfo) -> bool:
        """Whether a stored episode is one of this collection."""
        return bool(info.extra.get("collection") == asdict(self))

    def describe(self, index: int, actions: ActionSet) -> EpisodeInfo:
        """What is stored with episode ``index``."""
        return EpisodeInfo(
            env_id=self.env_id,
            action_set=actions.name,
            action_meanings=actions.meanings,
            seed=episode_seed(self.seed, index),
            index=index,
            policy=self.policy if self.epsilon == 0 else f"{self.policy}+{self.epsilon:g}",
            code_version=code_version(),
            extra={"collection": asdict(self)},
        )


def episode_seed(seed: int, index: int) -> int:
    """The env seed of an episode; ``env.reset(seed=...)`` with it begins the same episode."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0]) & 0x7FFFFFFF


def play_episodes(
    collection: Collection,
    indices: list[int],
    *,
    num_envs: int,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[Episode]:
    """Plays the episodes of these numbers and yields each when it has ended.

    The arguments are those of `play`.
    """
    for played in play(collection, indices, num_envs=num_envs, on_steps=on_steps):
        yield played.episode()


def play(
    collection: Collection,
    indices: list[int],
    *,
    num_envs: int,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[PlayedEpisode]:
    """Plays the episodes of these numbers and yields what each was made of when it has ended.

    Args:
        collection: What to play.
        indices: Which episodes.
        num_envs: Rows of the vector env; no more than episodes are used.
        on_steps: Told after each step how many env steps of wanted episodes it made.
    """
    num_envs = min(num_envs, len(indices))
    if not num_envs:
        return
    env = gym.make_vec(
        collection.env_id,
        num_envs=num_envs,
        autoreset_mode=AutoresetMode.DISABLED,
        max_episode_steps=collection.max_steps,
        **collection.env_kwargs,
    )
    try:
        yield from _Rows(env, collection, indices).play(on_steps)
    finally:
        env.close()


@dataclass(frozen=True)
class PlayedEpisode:
    """The steps of an ended episode, where they were played; `episode` gathers them.

    Attributes:
        info: What is stored with it.
        row: The row it was played in.
        first: Its first frame.
        steps: Actions, rewards and frames of all rows, step by step.
        terminated: How it ended.
        truncated: How it ended.
    """

    info: EpisodeInfo
    row: int
    first: NDArray[np.uint8]
    steps: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]]
    terminated: bool
    truncated: bool

    def episode(self) -> Episode:
        """Copies the row's part together; may run in any thread."""
        return Episode(
            frames=np.stack([self.first, *(frames[self.row] for _, _, frames in self.steps)]),
            actions=np.array([actions[self.row] for actions, _, _ in self.steps]),
            rewards=np.array([rewards[self.row] for _, rewards, _ in self.steps], np.float32),
            terminated=self.terminated,
            truncated=self.truncated,
            info=self.info,
        )


class _Rows:
    """The rows of a vector env, each at some step of some episode."""

    def __init__(self, env: gym.vector.VectorEnv, collection: Collection, indices: list[int]):
        self.env = env
        self.collection = collection
        self.actions: ActionSet = env.unwrapped.actions  # type: ignore[attr-defined]
        self.waiting = iter(indices)
        self.policy = make_policy(
            collection.policy,
            self.actions,
            num_envs=env.num_envs,
            max_steps=collection.max_steps,
            epsilon=collection.epsilon,
            temperature=collection.temperature,
            env_kwargs=collection.env_kwargs,
        )
        self.index = np.full(env.num_envs, -1)  # the episode in each row, -1 for none
        self.begun = np.zeros(env.num_envs, np.intp)  # the time at which it began
        self.first: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * env.num_envs
        # Per time since `history_begins`: what each row did and saw.
        self.history: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]] = []
        self.history_begins = 0

    def play(self, on_steps: Callable[[int], None]) -> Iterator[PlayedEpisode]:
        frames = self._begin(np.ones(self.env.num_envs, np.bool_))
        while (self.index >= 0).any():
            actions = self.policy.act(frames)
            frames, rewards, terminated, truncated, _ = self.env.step(actions)
            self.history.append((actions, rewards, frames))
            on_steps(int((self.index >= 0).sum()))
            ended = terminated | truncated
            if not ended.any():
                continue
            for row in np.flatnonzero(ended & (self.index >= 0)):
                yield self._played(int(row), bool(terminated[row]), bool(truncated[row]))
            frames = self._begin(ended)

    def _begin(self, rows: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Begins the next waiting episodes in these rows; rows without one just run along."""
        seeds: Any = [None] * self.env.num_envs
        for row in np.flatnonzero(rows):
            self.index[row] = next(self.waiting, -1)
            number = max(int(self.index[row]), 0)
            seeds[row] = episode_seed(self.collection.seed, number)
            # The policy's stream is another child of the same pair than the env's.
            sequence = np.random.SeedSequence([self.collection.seed, number, 1])
            self.policy.begin(int(row), np.random.default_rng(sequence))
        frames, _ = self.env.reset(seed=seeds, options={"reset_mask": rows})
        now = self.history_begins + len(self.history)
        self.begun[rows] = now
        for row in np.flatnonzero(rows):
            self.first[row] = frames[row].copy()
        needed = int(self.begun[self.index >= 0].min(initial=now)) - self.history_begins
        del self.history[:needed]
        self.history_begins += needed
        return frames

    def _played(self, row: int, terminated: bool, truncated: bool) -> PlayedEpisode:
        return PlayedEpisode(
            info=self.collection.describe(int(self.index[row]), self.actions),
            row=row,
            first=self.first[row],
            steps=self.history[self.begun[row] - self.history_begins :],
            terminated=terminated,
            truncated=truncated,
        )
