"""The world models that the page offers, and the drivers: policies that play for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genie_gym.collect.policies import Policy
from genie_gym.collect.policy_spec import checked_spec, make_policy
from genie_gym.envs.loaded_worlds import open_world, real_kwargs
from genie_gym.play.dreams import DreamRows
from genie_gym.play.real_game import RealGame
from genie_gym.play.session import idle_action
from world_models.worlds.find import list_worlds

__all__ = ["Library"]

_BUILT_IN = ("sticky", "random")
_LONG = 100_000  # number of actions that a built-in driver samples in advance


class Library:
    """Opens world models, games and drivers by name. All sessions share the opened world models.

    Args:
        world: Name or path of the world model that sessions start with.
        policies: Folders of saved policies, or other policies that `make_policy` accepts.
        options: Keyword arguments of `open_world`.
    """

    def __init__(self, world: str, policies: Sequence[str] = (), **options: Any):
        self._options = options
        # Read the number here: a thread that starts while a dream is being stepped could read 1.
        self._num_threads = torch.get_num_threads()
        self._open: dict[str, DreamRows] = {}
        first = DreamRows(open_world(world, **options), self._num_threads)
        self.first = first.world.card.name
        self._open[self.first] = first
        short = [Path(spec).name for spec in policies]
        self.drivers = {
            name if short.count(name) == 1 and name not in _BUILT_IN else spec: checked_spec(spec)
            for name, spec in zip(short, policies, strict=True)
        }
        for spec in self.drivers.values():
            self._policy(spec, first)  # raises now if the policy does not fit the world model
        self.drivers |= {name: name for name in _BUILT_IN}

    @property
    def worlds(self) -> list[str]:
        """Names of the world models on this machine."""
        return sorted({self.first, *list_worlds()})

    def rows(self, name: str) -> DreamRows:
        """Open the world model with this name, which must be in `worlds`."""
        if name not in self._open:
            if name not in self.worlds:
                raise ValueError(f"there is no world model {name!r} on this machine")
            world = open_world(name, **self._options)
            self._open[name] = DreamRows(world, self._num_threads)
        return self._open[name]

    def game(self, rows: DreamRows, seed: int) -> RealGame:
        """Start the real game for a world model."""
        card = rows.world.card
        return RealGame(card.env_id, real_kwargs(card), seed)

    def policy(self, name: str, rows: DreamRows) -> Policy:
        """Make a driver for a session in a world model; the name must be in `drivers`."""
        if name not in self.drivers:
            raise ValueError(f"there is no driver {name!r}")
        return self._policy(self.drivers[name], rows)

    def describe(self, rows: DreamRows) -> dict[str, Any]:
        """Return what the page needs to know about a world model, such as the actions."""
        card = rows.world.card
        return {
            "world": card.name,
            "worlds": self.worlds,
            "drivers": list(self.drivers),
            "actions": list(card.action_meanings),
            "idle": idle_action(card.action_meanings),
            "game": card.env_id,
            "size": card.frame_size,
            "grid": rows.grid,
        }

    def _policy(self, spec: str, rows: DreamRows) -> Policy:
        return make_policy(
            spec,
            rows.world.actions,
            num_envs=1,
            max_steps=_LONG,
            env_kwargs=rows.world.card.env_kwargs,
        )
