"""Plays numbered episodes in a vector env and records them.

Each episode of a collection has a number. The env seed and the policy's random generator are
derived only from this number and the collection's seed. So an episode is the same in any row
(sub-env), in any process, on any machine, and after interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym.actions import ActionSet
from genie_gym.collect.policy_spec import make_policy
from genie_gym.envs.make import make_rows
from world_models.episodes import Episode, EpisodeInfo, Transitions, code_version

__all__ = ["Collection", "Recorder", "WholeEpisode", "episode_seed", "play", "play_episodes"]

_RESERVED = {"num_envs", "autoreset_mode", "max_episode_steps"}  # given by `play`

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Settings for a collection. An episode is determined by these settings and its number.

    Attributes:
        env_id: Id of any Gymnasium env that has frames.
        policy: Specification of the policy; see `make_policy`.
        max_steps: Maximum number of steps per episode.
        seed: Seed of the collection.
        epsilon: Probability that an action is replaced with a uniformly random one.
        temperature: Temperature of a saved agent's action distribution; 0 takes the most likely
            action.
        env_kwargs: Further keyword arguments for the env.
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
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if reserved := _RESERVED & set(self.env_kwargs):
            raise ValueError(
                f"env_kwargs must not have {', '.join(sorted(reserved))}; max_steps limits episodes"
            )
        if not 0 <= self.epsilon <= 1 or self.temperature < 0:
            raise ValueError(
                "epsilon must be from 0 to 1 and temperature at least 0, got "
                f"epsilon={self.epsilon} and temperature={self.temperature}"
            )

    def owns(self, info: EpisodeInfo) -> bool:
        """Returns whether a stored episode belongs to this collection."""
        return bool(info.extra.get("collection") == asdict(self))

    def describe(self, index: int, actions: ActionSet) -> EpisodeInfo:
        """Returns the metadata to store with episode ``index``."""
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
    """Returns the seed to pass to ``env.reset(seed=...)`` for episode number `index`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0]) & 0x7FFFFFFF


class Recorder(Protocol[T_co]):
    """Records one episode while it is played."""

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Records the next frame. Implementations must copy it: the caller reuses the array."""

    def finish(self, transitions: Transitions) -> T_co:
        """Ends the episode and returns the recording."""


class WholeEpisode:
    """Records a whole episode in memory."""

    def __init__(self) -> None:
        self._frames: list[NDArray[np.uint8]] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        """See `Recorder.add`."""
        self._frames.append(frame.copy())

    def finish(self, transitions: Transitions) -> Episode:
        """See `Recorder.finish`."""
        return Episode(frames=np.stack(self._frames), **vars(transitions))


def play_episodes(
    collection: Collection,
    indices: list[int],
    *,
    num_envs: int,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[Episode]:
    """Plays episodes and yields each one when it has ended; see `play` for the arguments."""
    return play(collection, indices, WholeEpisode, num_envs=num_envs, on_steps=on_steps)


def play(
    collection: Collection,
    indices: list[int],
    record: Callable[[], Recorder[T]],
    *,
    num_envs: int,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[T]:
    """Plays episodes and yields the recording of each episode when it has ended.

    Args:
        collection: Settings of the collection.
        indices: Numbers of the episodes to play.
        record: Creates the recorder of an episode.
        num_envs: Number of sub-envs (rows) in the vector env; at most one per episode is used.
        on_steps: Called after each step with the number of rows that were recorded.
    """
    num_envs = min(num_envs, len(indices))
    if not num_envs:
        return
    env = make_rows(
        collection.env_id,
        num_envs,
        autoreset_mode=AutoresetMode.DISABLED,
        max_episode_steps=collection.max_steps,
        **collection.env_kwargs,
    )
    try:
        yield from _Rows(env, collection, indices, record).play(on_steps)
    finally:
        env.close()


class _Rows(Generic[T]):
    """A vector env whose rows play the waiting episodes."""

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        collection: Collection,
        indices: list[int],
        record: Callable[[], Recorder[T]],
    ):
        self.env = env
        env.unwrapped.copy = False  # type: ignore[attr-defined]
        self.collection = collection
        self.actions: ActionSet = env.unwrapped.actions  # type: ignore[attr-defined]
        self.waiting = iter(indices)
        self.record = record
        self.policy = make_policy(
            collection.policy,
            self.actions,
            num_envs=env.num_envs,
            max_steps=collection.max_steps,
            epsilon=collection.epsilon,
            temperature=collection.temperature,
            env_kwargs=collection.env_kwargs,
        )
        # The episode in each row; None if none is left: the row is then stepped but not recorded.
        self.tracks: list[_Track[T] | None] = [None] * env.num_envs

    def play(self, on_steps: Callable[[int], None]) -> Iterator[T]:
        frames = self._begin(np.ones(self.env.num_envs, np.bool_))
        while any(self.tracks):
            actions = self.policy.act(frames)
            frames, rewards, terminated, truncated, _ = self.env.step(actions)
            ended = terminated | truncated
            played = 0
            for row, track in enumerate(self.tracks):
                if track is not None:
                    played += 1
                    track.step(actions[row], rewards[row], frames[row])
            on_steps(played)
            if not ended.any():
                continue
            for row in np.flatnonzero(ended):
                track = self.tracks[row]
                if track is not None:
                    yield track.finish(bool(terminated[row]), bool(truncated[row]))
            frames = self._begin(ended)

    def _begin(self, rows: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Starts the next waiting episodes in these rows."""
        seeds: Any = [None] * self.env.num_envs
        for row in np.flatnonzero(rows):
            index = next(self.waiting, None)
            self.tracks[row] = None
            if index is not None:
                info = self.collection.describe(index, self.actions)
                self.tracks[row] = _Track(info, self.record())
            number = index or 0
            seeds[row] = episode_seed(self.collection.seed, number)
            # The third number makes the policy's generator independent of the env's.
            sequence = np.random.SeedSequence([self.collection.seed, number, 1])
            self.policy.begin(int(row), np.random.default_rng(sequence))
        frames, _ = self.env.reset(seed=seeds, options={"reset_mask": rows})
        for row in np.flatnonzero(rows):
            track = self.tracks[row]
            if track is not None:
                track.recorder.add(frames[row])
        return frames


class _Track(Generic[T]):
    """An episode in progress."""

    def __init__(self, info: EpisodeInfo, recorder: Recorder[T]):
        self.info = info
        self.recorder = recorder
        self.actions: list[int] = []
        self.rewards: list[float] = []

    def step(self, action: int, reward: float, frame: NDArray[np.uint8]) -> None:
        self.actions.append(action)
        self.rewards.append(reward)
        self.recorder.add(frame)

    def finish(self, terminated: bool, truncated: bool) -> T:
        transitions = Transitions(
            actions=np.array(self.actions),
            rewards=np.array(self.rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            info=self.info,
        )
        return self.recorder.finish(transitions)
