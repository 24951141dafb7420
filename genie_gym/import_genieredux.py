"""`genie-gym worlds import-genieredux`: makes a world model from GenieRedux checkpoints."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym

from genie_gym.actions import ActionSet, action_set

if TYPE_CHECKING:
    from world_models.episodes import EpisodeDataset
    from world_models.model.latent_action import LatentActionModel
    from world_models.worlds.bundle import StartBank

__all__ = ["ImportGenieredux", "import_genieredux"]

COINRUN = "Procgen/CoinRun-v0"
ACTION_SETS = {7: "coinrun-7", 5: "retroact-5"}  # of the published models, by number of actions
NUM_STARTS, START_FRAMES = 16, 4
NUM_LATENT_STARTS = 4  # few: inferring their actions takes most of an import's time
EPISODES, MAX_STEPS = 8, 100  # played to get starts


@dataclass(frozen=True, kw_only=True)
class ImportGenieredux:
    """Makes a world model from checkpoints of the official GenieRedux code; see docs/official.md.

    Reads GenieRedux-G and GenieRedux models from 2024 and 2025, except those with action
    embeddings. No code in the files is run: only tensors and plain values are read.
    """

    tokenizer: Path
    """Checkpoint file of the tokenizer."""
    dynamics: Path
    """Checkpoint file of GenieRedux-G, or of GenieRedux including its latent action model."""
    out: Path
    """Directory to write the world model to."""
    name: str | None = None
    """Name of the world model; by default the name of the directory."""
    latent_action: bool = False
    """Require `dynamics` to be a GenieRedux, the model whose actions are latent codes."""
    frame_size: int | None = None
    """Height and width of a frame; by default the value in the config.yaml next to the dynamics
    checkpoint, or 64."""
    token_input: bool = False
    """The dynamics model was trained with use_token. Needed only for a GenieRedux-G from 2025 whose
    config.yaml is missing."""
    action_set: str | None = None
    """Action set; by default coinrun-7 for 7 actions and retroact-5 for 5."""
    starts: str = COINRUN
    """Source of the real frames that dreams start from: a dataset, or the id of a real env in which
    some episodes are played."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Further arguments for the env in `starts`, as KEY VALUE pairs."""
    storage: Literal["float32", "bfloat16"] = "float32"
    """Data type of stored matrices. bfloat16 takes half the space, but rounding may change tokens.
    """
    carried_frames: int = 4
    """Number of recent frames to continue from when a dream has used all position embeddings."""
    replace: bool = False
    """Overwrite an existing world model."""


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Clips of real episodes, a note on their origin, and the real env's id and arguments."""

    bank: StartBank
    origin: str
    env_id: str
    env_kwargs: dict[str, Any]


def import_genieredux(command: ImportGenieredux) -> str:
    """Writes the world model and returns a one-line summary."""
    from world_models.worlds.bundle import save_world
    from world_models.worlds.card import WorldCard
    from world_models.worlds.official.world import official_world

    if command.out.exists() and not command.replace:
        raise ValueError(f"{command.out} already exists: choose another --out, or add --replace")
    official = official_world(
        command.tokenizer,
        command.dynamics,
        frame_size=command.frame_size,
        token_input=command.token_input,
    )
    model = official.model
    if command.latent_action and model.latent_action is None:
        raise ValueError(
            f"{command.dynamics} has no latent action model, so it is a GenieRedux-G: omit "
            "--latent-action"
        )
    model.sampling = replace(model.sampling, carried_frames=command.carried_frames)
    actions = _actions(command, model.dynamics.config.num_actions, model.latent_action is not None)
    starts = _starts(command, actions, model.latent_action, model.tokenizer.frame_size)
    card = WorldCard(
        name=command.name or command.out.name,
        action_set=actions.name,
        action_meanings=actions.meanings,
        env_id=starts.env_id,
        env_kwargs=starts.env_kwargs,
        provenance={**official.provenance, "starts": starts.origin},
        outcomes=False,
    )
    card = save_world(
        command.out,
        card,
        model,
        starts.bank,
        storage=command.storage,
        replace_existing=command.replace,
    )
    token_input = "with" if model.dynamics.config.token_input else "without"
    return (
        f"wrote {command.out}: {official.provenance['source']}, {len(actions)} actions "
        f"({actions.name}), frames of {card.frame_size} pixels, {model.dynamics.config.horizon} "
        f"positions, {token_input} token input, no rewards or terminations"
    )


def _actions(command: ImportGenieredux, num: int, latent: bool) -> ActionSet:
    if latent:
        if command.action_set is not None:
            raise ValueError(
                f"the actions of a GenieRedux are its {num} latent codes, got --action-set "
                f"{command.action_set}: omit it"
            )
        return ActionSet(name=f"latent-{num}", meanings=tuple(f"LATENT-{i}" for i in range(num)))
    name = command.action_set or ACTION_SETS.get(num)
    if name is None:
        raise ValueError(f"{command.dynamics} has {num} actions: pass a matching --action-set")
    if len(actions := action_set(name)) != num:
        raise ValueError(
            f"{command.dynamics} has {num} actions, but the action set {name} has {len(actions)}: "
            "choose another --action-set"
        )
    return actions


def _starts(
    command: ImportGenieredux,
    actions: ActionSet,
    latent: LatentActionModel | None,
    frame_size: int,
) -> Starts:
    import torch

    from world_models.episodes import EpisodeDataset
    from world_models.worlds.bundle import StartBank

    with tempfile.TemporaryDirectory() as folder:
        if command.starts in gym.registry:
            kwargs = {} if latent else {"action_set": actions.name}
            data = _played(command.starts, Path(folder) / "starts", kwargs | command.env_kwargs)
            origin = f"{command.starts}, played by the policy sticky"
        else:
            data = EpisodeDataset(command.starts)
            origin = f"dataset {Path(command.starts).name}"
        _check(command, data, actions, latent, frame_size)
        num = NUM_STARTS if latent is None else NUM_LATENT_STARTS
        starts = StartBank.from_episodes(data, num=num, length=START_FRAMES)
        if latent is not None:
            # One window at a time: large temporary tensors take longer to allocate than to compute.
            inferred = [latent.actions(window) for window in starts.frames.split(1)]
            starts = StartBank(frames=starts.frames, actions=torch.cat(inferred))
        info = data.entries[0].info
        return Starts(bank=starts, origin=origin, env_id=info.env_id, env_kwargs=info.env_kwargs)


def _played(env_id: str, folder: Path, env_kwargs: dict[str, str]) -> EpisodeDataset:
    from genie_gym.collect.command import CollectConfig, collect
    from world_models.episodes import EpisodeDataset

    config = CollectConfig(
        env=env_id,
        out=folder,
        policy="sticky",
        episodes=EPISODES,
        max_steps=MAX_STEPS,
        env_kwargs=env_kwargs,
    )
    if collect(config):
        raise KeyboardInterrupt
    return EpisodeDataset(folder)


def _check(
    command: ImportGenieredux,
    data: EpisodeDataset,
    actions: ActionSet,
    latent: LatentActionModel | None,
    frame_size: int,
) -> None:
    if data.frame_shape != (frame_size, frame_size, 3):
        raise ValueError(
            f"{command.starts} has frames of shape {data.frame_shape}, but the world model has "
            f"{(frame_size, frame_size, 3)}: use other --starts, or set --frame-size"
        )
    if latent is None and data.action_meanings != actions.meanings:
        raise ValueError(
            f"{command.starts} has the actions {', '.join(data.action_meanings)}, but the world "
            f"model has {', '.join(actions.meanings)}: use starts with action_set={actions.name}"
        )
