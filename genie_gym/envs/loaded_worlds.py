"""Worlds in memory: one copy per process, device and type, however many envs dream in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from genie_gym.actions import ActionSet, action_set
from genie_gym.retroact import catalogue
from world_models.inference.compile import CompiledWorld
from world_models.inference.world import WorldModel
from world_models.worlds.bundle import StartBank, load_world
from world_models.worlds.card import WorldCard, card_path
from world_models.worlds.find import find_world

__all__ = ["LoadedWorld", "choose_device", "open_world"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class LoadedWorld:
    """A world on a device, shared by whoever asks for it: nobody may change it.

    Attributes:
        card: What the bundle says about itself.
        model: The weights, in eval mode.
        starts: Beginnings of dreams, on the CPU; None if the bundle has none.
        device: Where the weights are.
        dtype: Of the weights, by name.
        identity: Names the weights and their type; saved states carry it.
    """

    card: WorldCard
    model: WorldModel
    starts: StartBank | None
    device: torch.device
    dtype: str
    identity: str

    @property
    def actions(self) -> ActionSet:
        """The actions it knows."""
        return ActionSet(name=self.card.action_set, meanings=self.card.action_meanings)

    def check_action_set(self, name: str | None) -> None:
        """Refuses a named action set that is not the world's."""
        if name is not None and name != self.card.action_set:
            action_set(name)  # a misspelt name is the likelier mistake
            raise ValueError(
                f"the world {self.card.name} was learned with action_set="
                f"{self.card.action_set!r}, not {name!r}: leave action_set out"
            )


def open_world(
    world: str | Path, device: str = "auto", dtype: str = "float32", compile: bool = False
) -> LoadedWorld:
    """Loads a world, or finds it loaded.

    Args:
        world: A path, or the name of a world.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16".
        compile: Whether the model's `step` is compiled.

    Raises:
        WorldNotFoundError: If it is not on this machine; the message says how to build it.
        BundleError: If it is damaged.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {sorted(DTYPES)}, got {dtype!r}")
    path = find_world(world, *_origin(str(world))).resolve()
    return _load(path, card_path(path).stat().st_mtime_ns, choose_device(device), dtype, compile)


def choose_device(device: str) -> torch.device:
    """The device of that name; "auto" takes a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as fault:
        raise ValueError(f"device {device!r} cannot be used here: {fault}") from None
    return chosen


def _origin(world: str) -> tuple[str, ...]:
    """The real env of that world and the recipe to learn it by, as far as its name tells."""
    if world == "CoinRun":
        return "Procgen/CoinRun-v0", "coinrun"
    game = catalogue.dreamed().get(world)
    return () if game is None else (game.env_id, "atari")


@lru_cache(maxsize=8)
def _load(path: Path, changed: int, device: torch.device, dtype: str, compile: bool) -> LoadedWorld:
    if compile:
        plain = _load(path, changed, device, dtype, False)
        return replace(plain, model=CompiledWorld(plain.model))
    world = load_world(path)
    return LoadedWorld(
        card=world.card,
        model=world.model.to(device, DTYPES[dtype]).requires_grad_(False),
        starts=world.starts,
        device=device,
        dtype=dtype,
        identity=f"{world.card.name}-{_fingerprint(world.card)}-{dtype}",
    )


def _fingerprint(card: WorldCard) -> str:
    weights = {name: record for name, record in card.files.items() if name != "README.md"}
    text = json.dumps([card.tokenizer, card.dynamics, weights], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
