"""One episode: its frames, its transitions, and where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

MAX_ACTIONS = 1 << 15  # actions are stored as int16


@cache
def code_version() -> str:
    """Return the version of the installed package, for :attr:`EpisodeInfo.code_version`."""
    try:
        return version("genie-gym")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """Where an episode came from.

    Attributes:
        env_id: Gymnasium id of the env that was played.
        action_set: name of the action set, e.g. ``"retroact-5"``.
        action_meanings: names of the actions; an action is an index into this tuple.
        seed: seed for replaying the episode; None if unknown.
        policy: name of the policy that chose the actions.
        index: number of the episode within its collection; None if it has no number.
        code_version: version of genie-gym that collected it.
        extra: any other JSON values.
    """

    env_id: str
    action_set: str
    action_meanings: tuple[str, ...]
    seed: int | None = None
    policy: str = "unknown"
    index: int | None = None
    code_version: str = field(default_factory=code_version)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "action_meanings", tuple(self.action_meanings))
        if not 0 < len(self.action_meanings) <= MAX_ACTIONS:
            raise ValueError(
                f"action_meanings must name 1 to {MAX_ACTIONS} actions, got "
                f"{len(self.action_meanings)}; pass env.unwrapped.action_meanings"
            )

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the env, as stored by `genie-gym collect` or `genie-gym play`."""
        return self.extra.get("collection", self.extra).get("env_kwargs", {})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"action_meanings": list(self.action_meanings)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Transitions:
    """An episode without its frames.

    Attributes:
        actions: integers (T,), indices into `info.action_meanings`; kept as int64.
        rewards: (T,), kept as float32.
        terminated: whether the last transition ended the episode.
        truncated: whether the episode was cut after the last transition.
        info: where the episode came from.
    """

    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    info: EpisodeInfo

    def __post_init__(self) -> None:
        actions, rewards = np.asarray(self.actions), np.asarray(self.rewards, dtype=np.float32)
        if actions.ndim != 1 or actions.shape != rewards.shape or not len(actions):
            raise ValueError(
                "an episode needs as many rewards as actions, one per transition and at least "
                f"one, got actions {actions.shape} and rewards {rewards.shape}"
            )
        _check_actions(actions, self.info)
        if not np.isfinite(rewards).all():
            raise ValueError("rewards must be finite, got NaN or infinity; drop that episode")
        _check_json(self.info)
        object.__setattr__(self, "actions", actions.astype(np.int64))
        object.__setattr__(self, "rewards", rewards)
        object.__setattr__(self, "terminated", bool(self.terminated))
        object.__setattr__(self, "truncated", bool(self.truncated))

    def __len__(self) -> int:
        """Number of transitions T; there are T + 1 frames."""
        return len(self.actions)


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode(Transitions):
    """An episode with its frames.

    `actions[t]` is taken at `frames[t]` and leads to `frames[t + 1]` and `rewards[t]`.

    Attributes:
        frames: uint8 (T+1, H, W, 3).
    """

    frames: np.ndarray

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        got, expected = (np.shape(self.actions), np.shape(self.rewards)), (len(self.frames) - 1,)
        if got != (expected, expected):
            raise ValueError(
                f"{len(self.frames)} frames need actions and rewards of shape {expected} (one per "
                f"transition), got actions {got[0]} and rewards {got[1]}; frames "
                "must include the one before the first action and the one after the last"
            )
        super().__post_init__()
        object.__setattr__(self, "frames", np.ascontiguousarray(self.frames))


def _check_frames(frames: np.ndarray) -> None:
    good = isinstance(frames, np.ndarray) and frames.dtype == np.uint8
    if not good or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        got = f"{getattr(frames, 'dtype', type(frames))} {getattr(frames, 'shape', '')}"
        raise ValueError(
            f"frames must be a uint8 array of shape (T+1, H, W, 3) with T >= 1, got {got}; "
            "repeat a grey channel three times, and drop episodes without a transition"
        )


def _check_actions(actions: np.ndarray, info: EpisodeInfo) -> None:
    if not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(f"actions must be integers, got {actions.dtype}; use .astype(np.int64)")
    num_actions = len(info.action_meanings)
    if actions.min() < 0 or actions.max() >= num_actions:
        raise ValueError(
            f"actions must be in [0, {num_actions}) for the action set {info.action_set!r}, got "
            f"values from {actions.min()} to {actions.max()}; check info.action_meanings"
        )


def _check_json(info: EpisodeInfo) -> None:
    try:
        json.dumps(info.to_json())
    except TypeError as error:
        raise ValueError(
            f"the metadata of an episode must be plain JSON values: {error}. Convert numpy scalars "
            "with int() or float() and arrays with .tolist()"
        ) from None
