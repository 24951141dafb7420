"""Makes vector envs whose observations are frames, for any Gymnasium env id."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv

import genie_gym  # noqa: F401  (registers the env ids)
from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["find_spec", "make_rows", "world_name"]


def find_spec(env_id: str) -> EnvSpec:
    """Returns the spec for an env id, such as ``"RetroAct/Boxing-Atari2600-v0"``.

    For ``"MODULE:ID"``, the module is imported first, so that it can register the id.

    Raises:
        ValueError: If there is no such env; the message suggests similar ids.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as missing:
            raise ValueError(f"cannot import {module!r} for the env {name}: {missing}") from None
    try:
        return gym.spec(name)
    except gym.error.Error as fault:
        raise ValueError(f"{fault}") from None


def make_rows(env_id: str, num_envs: int, **kwargs: Any) -> VectorEnv:
    """Makes a vector env whose observations are frames.

    Args:
        env_id: Any registered Gymnasium id, or ``"MODULE:ID"``.
        num_envs: Number of sub-envs.
        **kwargs: The env's own arguments, and `autoreset_mode` and `max_episode_steps`.

    Raises:
        ValueError: If there is no such env, or if it has no images or no `Discrete` action space.
    """
    if is_ours(find_spec(env_id)):
        return gym.make_vec(env_id, num_envs=num_envs, **kwargs)
    from genie_gym.envs.foreign import ForeignVectorEnv

    return ForeignVectorEnv(env_id, num_envs, **kwargs)


def is_ours(spec: EnvSpec) -> bool:
    """Returns whether gym.make_vec makes a `FrameVectorEnv` for this spec."""
    entry: Any = spec.vector_entry_point
    if isinstance(entry, str):
        if entry.startswith("genie_gym."):
            return True
        entry = load_env_creator(entry)
    return inspect.isclass(entry) and issubclass(entry, FrameVectorEnv)


def world_name(env_id: str) -> str:
    """Returns the name for a world model of an env.

    A game in the catalogue has its own name for this; any other env is named by its id, without
    module, namespace and version.
    """
    from genie_gym.retroact import catalogue

    games = {game.env_id: game for game in catalogue.games()}
    if env_id in games:
        return games[env_id].world
    return env_id.rpartition(":")[2].rpartition("/")[2].rpartition("-v")[0] or env_id
