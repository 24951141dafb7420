"""Loads world models: one copy per process, device and dtype, which all envs share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from genie_gym.actions import ActionSet, action_set
from genie_gym.registration import LOOKS
from genie_gym.retroact import catalogue
from world_models.episodes import EpisodeDataset
from world_models.inference.compile import CompiledWorld
from world_models.inference.world import WorldModel
from world_models.memory import keep_freed_memory
from world_models.precision import choose_dtype
from world_models.worlds.bundle import StartBank, load_world
from world_models.worlds.card import CARD, WorldCard
from world_models.worlds.find import find_world

_NUM_STARTS = 2048  # 100 MB of frames

__all__ = [
    "LoadedWorld",
    "check_looks",
    "choose_device",
    "no_outcomes",
    "open_world",
    "real_kwargs",
]


@dataclass(frozen=True, kw_only=True)
class LoadedWorld:
    """A world model on a device. It is shared between envs and must not be changed.

    Attributes:
        card: The card that describes the world model.
        model: The world model itself, in eval mode.
        starts: Real frames that dreams start from, on the CPU.
        device: Device that holds the weights.
        dtype: Name of the weights' dtype.
        identity: Identifies the weights and their dtype; stored in saved states.
    """

    card: WorldCard
    model: WorldModel
    starts: StartBank
    device: torch.device
    dtype: str
    identity: str

    @property
    def actions(self) -> ActionSet:
        """The actions that the world model was trained with."""
        return ActionSet(name=self.card.action_set, meanings=self.card.action_meanings)

    def starts_from(self, data: Path) -> StartBank:
        """Samples real frames to start dreams from; the result is cached per process.

        Args:
            data: Dataset folder; its episodes must be from the world model's own game.
        """
        episodes = EpisodeDataset(data)
        if (episodes.action_meanings, episodes.frame_shape[0]) != (
            self.card.action_meanings,
            self.card.frame_size,
        ):
            raise ValueError(
                f"starts must be a dataset of the world model's own game: {self.card.name} has the "
                f"actions {', '.join(self.card.action_meanings)} and frames of "
                f"{self.card.frame_size} pixels, but {data} has the actions "
                f"{', '.join(episodes.action_meanings)} and frames of "
                f"{episodes.frame_shape[0]} pixels"
            )
        games = {entry.info.env_id for entry in episodes.entries}
        if others := games - {self.card.env_id, f"GenieRedux/{self.card.name}-v0"}:
            raise ValueError(
                f"starts must be a dataset of the world model's own game: {self.card.name} models "
                f"{self.card.env_id}, but {data} has episodes of {', '.join(sorted(others))}"
            )
        for entry in episodes.entries:
            if entry.info.env_id == self.card.env_id:
                check_looks(self.card, entry.info.env_kwargs, str(data))
        return _sampled(data.resolve(), episodes.fingerprint)

    def check_action_set(self, name: str | None) -> None:
        """Raises ValueError unless `name` is None or names the world model's action set."""
        if name is not None and name != self.card.action_set:
            action_set(name)  # raises a more helpful error if the name is misspelt
            raise ValueError(
                f"the world model {self.card.name} was trained with action_set="
                f"{self.card.action_set!r}, got {name!r}: omit action_set"
            )


def open_world(
    world: str | Path, device: str = "auto", dtype: str = "auto", compile: bool = False
) -> LoadedWorld:
    """Loads a world model, or returns it from the cache.

    Args:
        world: Name or path of the world model.
        device: "cpu", "cuda", "cuda:1", ...; "auto" uses a GPU if there is one.
        dtype: "auto", "float32", "bfloat16" or "float16"; see `choose_dtype`.
        compile: Whether to compile the model's `step`.

    Raises:
        WorldNotFoundError: If the world model is not on this machine; the message says how to build
            it.
        BundleError: If the world model's files are damaged.
    """
    on = choose_device(device)
    computed_in = choose_dtype(dtype, on)
    path = find_world(world, _how_to_make(str(world))).resolve()
    keep_freed_memory()
    return _load(path, (path / CARD).stat().st_mtime_ns, on, computed_in, compile)


def check_looks(card: WorldCard, env_kwargs: Mapping[str, Any], what: str) -> None:
    """Raises ValueError if frames of the real env look unlike the world model's training data.

    Args:
        card: The world model's card.
        env_kwargs: Arguments that the real env was made with.
        what: What has these frames, for the error message.
    """
    for name, default in LOOKS.items():
        value, given = card.env_kwargs.get(name, default), env_kwargs.get(name, default)
        if given != value:
            raise ValueError(
                f"the world model {card.name} was trained on frames with {name}={value}, but "
                f"{what} has {name}={given}: make the env with {name}={value}"
            )


def no_outcomes(card: WorldCard, consequence: str) -> str:
    """Returns a message about a world model that predicts no rewards, and how to add them."""
    return (
        f"the world model {card.name} predicts neither rewards nor terminations, so {consequence}. "
        "To add them, run: genie-gym train dynamics RECIPE --from WORLD --outcome-only --data DATA "
        "--out RUN, then genie-gym train bundle"
    )


def real_kwargs(card: WorldCard) -> dict[str, Any]:
    """Returns the arguments that give the real env the frames and actions of a world model."""
    if card.latent_action is not None:
        raise ValueError(
            f"the world model {card.name} takes latent actions, which the real {card.env_id} does "
            "not have: they cannot be played side by side"
        )
    return {"action_set": card.action_set, **card.env_kwargs}


def choose_device(device: str) -> torch.device:
    """Returns the device with this name; "auto" uses a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as fault:
        raise ValueError(
            f"device {device!r} is not available ({fault}): use 'cpu' or 'auto'"
        ) from None
    return chosen


def _how_to_make(world: str) -> str:
    """Returns the commands that build the world model with this name."""
    if world == "CoinRun":
        return "genie-gym build Procgen/CoinRun-v0"
    if world == "CoinRunOfficial":
        return "genie-gym worlds import-genieredux --help   # see docs/official.md"
    game = catalogue.dreamed().get(world)
    if game is None:
        return "genie-gym build ENV"
    steps = [f"genie-gym build {game.env_id}"]
    if not game.playable:
        ale = " (or genie-gym roms import --ale)" if game.platform == "Atari2600" else ""
        steps = [f"genie-gym roms import PATH{ale}   # its ROM is missing", *steps]
    return "\n  ".join(steps)


@lru_cache(maxsize=8)
def _load(
    path: Path, changed: int, device: torch.device, dtype: torch.dtype, compile: bool
) -> LoadedWorld:
    if compile:
        plain = _load(path, changed, device, dtype, False)
        return replace(plain, model=CompiledWorld(plain.model))
    world, name = load_world(path), str(dtype).removeprefix("torch.")
    return LoadedWorld(
        card=world.card,
        model=world.model.to(device, dtype).requires_grad_(False),
        starts=world.starts,
        device=device,
        dtype=name,
        identity=f"{world.card.name}-{_fingerprint(world.card)}-{name}",
    )


@lru_cache(maxsize=2)
def _sampled(data: Path, fingerprint: str) -> StartBank:
    return StartBank.from_episodes(EpisodeDataset(data), num=_NUM_STARTS, beginnings=0.25)


def _fingerprint(card: WorldCard) -> str:
    text = json.dumps([card.tokenizer, card.dynamics, card.files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
