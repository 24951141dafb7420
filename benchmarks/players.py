"""Policies of many kinds, to be evaluated in a dream and in its real game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genie_gym.actions import ActionSet
from genie_gym.collect.plans import PLANS
from genie_gym.collect.policies import Planned, Policy
from genie_gym.collect.policy_spec import make_policy
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.evaluation.turns import turns

__all__ = ["Player", "agents_of", "by_spec", "players", "scripted"]

EXPERTS = {"RetroAct/Pong-Atari2600-v0": "agents.experts:pong"}


@dataclass(frozen=True, kw_only=True)
class Player:
    """A named policy that is evaluated in the dream and in the real game.

    Attributes:
        name: Name of the policy in the table.
        inside: Whether the world model was trained on episodes that this policy collected.
        make: Function that makes the policy for a number of sub-envs and steps.
    """

    name: str
    inside: bool
    make: Callable[[int, int], Policy]


def players(world: str, agents: list[Path]) -> list[Player]:
    """Return all policies to compare on a world model's game, including the saved agents."""
    loaded = open_world(world)
    seen = ",".join(loaded.card.provenance["data"]["policies"])
    found = [Player(name=p, inside=p in seen, make=by_spec(world, p)) for p in PLANS]
    if expert := EXPERTS.get(loaded.card.env_id):
        make = by_spec(world, expert)
        found.append(Player(name="expert", inside=expert in seen, make=make))
    return [*found, *scripted(loaded.actions), *agents_of(world, agents)]


def agents_of(world: str, folders: list[Path]) -> list[Player]:
    """Return saved agents as players."""
    short = [folder.name for folder in folders]
    names = [x if short.count(x) == 1 else str(y) for x, y in zip(short, folders, strict=True)]
    return [
        Player(name=f"agent {name}", inside=False, make=by_spec(world, str(folder)))
        for name, folder in zip(names, folders, strict=True)
    ]


def scripted(actions: ActionSet) -> list[Player]:
    """Return policies that repeat one action, or alternate between two actions."""
    return [_in_turn(actions, chosen) for chosen in turns(len(actions))]


def _in_turn(actions: ActionSet, chosen: tuple[int, ...]) -> Player:
    """Return the policy that cycles through these actions."""

    def plan(rng: np.random.Generator, length: int) -> NDArray[np.int64]:
        return np.resize(np.array(chosen), length)

    name = " and ".join(actions.meanings[a] for a in chosen)
    return Player(name=name, inside=False, make=lambda rows, steps: Planned(plan, rows, steps))


def by_spec(world: str, spec: str) -> Callable[[int, int], Policy]:
    """Return a function that makes the policy ``--policy SPEC`` for the world model's game."""
    loaded = open_world(world)
    return lambda rows, steps: make_policy(
        spec, loaded.actions, num_envs=rows, max_steps=steps, env_kwargs=loaded.card.env_kwargs
    )
