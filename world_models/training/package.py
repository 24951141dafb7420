"""Makes a bundle, the directory that stores a world model, from training runs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from world_models.episodes import EpisodeDataset
from world_models.inference.world import WorldModel
from world_models.model.latent_action import LatentActionModel
from world_models.model.token_space import SamplingConfig
from world_models.training.checkpoint import Checkpoints
from world_models.training.run_folder import RunRecord, load_part, load_run, read_run
from world_models.training.run_options import DataOptions
from world_models.training.token_cache import fingerprint
from world_models.worlds.bundle import StartBank, World, load_world, save_world
from world_models.worlds.card import WorldCard
from world_models.worlds.find import find_world

_MAX_REWARDS = 32
_FOLDER = r"(?<![^,=])/[^,=]*/"  # the folder of a saved agent in a policy's name

__all__ = ["BundleOptions", "SamplingOptions", "build_bundle"]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Sampling settings; see `SamplingConfig`.

    None keeps the setting of the world model that was fine-tuned. For a world model that was not
    fine-tuned from another, None keeps the tokenizer's default.

    Attributes:
        steps: Maximum number of sampling passes per frame.
        temperature: Softmax temperature; 0 takes the most likely token.
        threshold: Tokens with at least this probability, in [0, 1], are unmasked ahead of schedule.
    """

    steps: int | None = None
    temperature: float | None = None
    threshold: float | None = None

    def applied(self, usual: SamplingConfig) -> SamplingConfig:
        """Return a copy of `usual` with all settings replaced that are not None here."""
        return replace(usual, **{k: v for k, v in asdict(self).items() if v is not None})


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """Make the bundle of a world model from trained parts.

    Attributes:
        out: The bundle's directory. The name of the directory becomes the world model's name.
        data: The dataset directory. Dreams start from windows of this dataset.
        tokenizer: The tokenizer run, or the world model (name or path) that was fine-tuned.
        dynamics: The dynamics run.
        latent_action: The latent action run, or the world model that was fine-tuned. None unless
            the dynamics model was trained on latent actions.
        env_id: Use only episodes from this env; None requires that all are from one env.
        on_damage: Stop at damaged data ("refuse"), or skip damaged data ("skip").
        storage: Number format of the stored matrices. int8 takes a quarter of the bytes of float32.
        starts: Number of stored windows, from which dreams start.
        start_frames: Number of frames in each of these windows.
        seed: Seed for choosing these windows.
        replace: Overwrite an existing bundle.
        sampling: The world model's default sampling settings.
        rounded_rewards: Whether the world model rounds expected rewards to the game's rewards. None
            keeps the setting of the world model that was fine-tuned; the default is not to round.
    """

    out: Path
    data: Path
    tokenizer: Path
    dynamics: Path
    latent_action: Path | None = None
    env_id: str | None = None
    on_damage: Literal["refuse", "skip"] = "refuse"
    storage: Literal["float32", "bfloat16", "int8"] = "bfloat16"
    starts: int = 16
    start_frames: int = 4
    seed: int = 0
    replace: bool = False
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    rounded_rewards: bool | None = None


def build_bundle(options: BundleOptions) -> Path:
    """Write the bundle and return its directory.

    Raises:
        ValueError: If the parts were not trained together.
    """
    episodes = DataOptions(
        data=options.data, out=options.out, env_id=options.env_id, on_damage=options.on_damage
    ).episodes()
    tokenizer = load_part(str(options.tokenizer), "tokenizer")
    dynamics = load_run(options.dynamics, "dynamics")
    record = read_run(options.dynamics)
    _check(record, "tokenizer", fingerprint(tokenizer), options.tokenizer)
    latent, found = None, None
    if options.latent_action is not None:
        latent = load_part(str(options.latent_action), "latent-action")
        found = fingerprint(latent)
    _check(record, "latent_action", found, options.latent_action)
    starts = StartBank.from_episodes(
        episodes, num=options.starts, length=options.start_frames, seed=options.seed
    )
    if latent is not None:
        starts = StartBank(frames=starts.frames, actions=latent.actions(starts.frames))
    base = record.built_on.get("world")
    tuned = load_world(find_world(base)) if base else None
    world = WorldModel(
        tokenizer, dynamics, tuned.model.sampling if tuned else None, latent_action=latent
    )
    world.sampling = options.sampling.applied(world.sampling)
    save_world(
        options.out,
        _card(options, episodes, record, latent, tuned),
        world,
        starts,
        storage=options.storage,
        replace_existing=options.replace,
    )
    return options.out


def _card(
    options: BundleOptions,
    episodes: EpisodeDataset,
    record: RunRecord,
    latent: LatentActionModel | None,
    tuned: World | None,
) -> WorldCard:
    env_ids = sorted({entry.info.env_id for entry in episodes.entries})
    if len(env_ids) > 1:
        raise ValueError(
            f"{options.data} has episodes from several envs ({', '.join(env_ids)}); choose one env "
            "with --env-id"
        )
    info = episodes.entries[0].info
    meanings = episodes.action_meanings
    if latent is not None:
        meanings = tuple(f"LATENT-{i}" for i in range(latent.config.num_actions))
    rewards, rounded = _rewards(episodes, tuned), options.rounded_rewards
    if rounded is None:
        rounded = tuned is not None and tuned.card.rounded_rewards
    if rounded and not rewards:
        raise ValueError(
            f"rewards cannot be rounded: {options.data} has more than {_MAX_REWARDS} different "
            "ones, or those of the world model that was fine-tuned are unknown"
        )
    return WorldCard(
        name=options.out.name,
        action_set=info.action_set if latent is None else f"latent-{len(meanings)}",
        action_meanings=meanings,
        env_id=info.env_id,
        env_kwargs=info.env_kwargs,
        rewards=rewards,
        rounded_rewards=rounded,
        provenance={
            **_imported(tuned),
            "data": _data(record, tuned),
            "tokenizer": _tokenizer_training(options.tokenizer),
            "dynamics": _training(options.dynamics),
            "versions": record.versions,
        },
    )


def _data(record: RunRecord, tuned: World | None) -> dict[str, Any]:
    """Describe the data that a world model was trained on, without naming folders on this machine.

    If it was fine-tuned from another world model, the seeds, the policies and the numbers of
    episodes and frames include the data of that model. Episodes that were collected with the same
    seeds count once.
    """
    data = {**record.data, "path": Path(str(record.data["path"])).name}
    data["policies"] = [re.sub(_FOLDER, "", policy) for policy in data.get("policies", ())]
    earlier = {} if tuned is None else tuned.card.provenance.get("data", {})
    known, own = set(earlier.get("seeds", ())), set(data.get("seeds", ()))
    contained = known and own and (known <= own or own <= known)
    same = contained or earlier.get("fingerprint") == data["fingerprint"]
    for name in ("episodes", "frames"):
        both = data[name], earlier.get(name, 0)
        data[name] = max(both) if same else sum(both)
    for name in ("seeds", "policies"):
        data[name] = list(dict.fromkeys([*earlier.get(name, ()), *data.get(name, ())]))
    return data


def _rewards(episodes: EpisodeDataset, tuned: World | None) -> tuple[float, ...]:
    """Return the distinct rewards in the training data; empty if there are too many or unknown.

    If the world model was fine-tuned from another one, this includes the rewards of that model.
    """
    found = set() if tuned is None else set(tuned.card.rewards)
    if tuned is not None and tuned.card.outcomes and not found:
        return ()
    for index, entry in enumerate(episodes.entries):
        with episodes.skipping():
            rewards = episodes.transitions(index, 0, entry.num_frames)["rewards"]
            found.update(np.unique(rewards).tolist())
        if len(found) > _MAX_REWARDS:
            return ()
    return tuple(sorted(found))


def _imported(tuned: World | None) -> dict[str, Any]:
    """Return the provenance entries that name the files a fine-tuned world was imported from."""
    known = {} if tuned is None else tuned.card.provenance
    return {name: known[name] for name in ("source", "files", "verified") if name in known}


def _training(run: Path) -> str:
    record, checkpoints = read_run(run), Checkpoints(run / "checkpoints")
    base, packed = record.built_on.get("world"), checkpoints.best()
    origin = f", from {Path(base).name}" if base else ""
    steps = record.fit["steps"] if packed is None else checkpoints.state(packed).step
    return f"{steps} steps, batch {record.fit['batch_size']} per process{origin}"


def _tokenizer_training(source: Path) -> object:
    if (source / "run.json").is_file():
        return _training(source)
    return load_world(find_world(str(source))).card.provenance.get("tokenizer", "")


def _check(record: RunRecord, name: str, found: str | None, source: Path | None) -> None:
    wanted = record.built_on[name]
    if found != wanted:
        if wanted is None:
            raise ValueError(f"the dynamics model was trained without a {name}: omit its run")
        given = "none was given" if source is None else f"{source} has the fingerprint {found}"
        raise ValueError(
            f"the dynamics model was trained with a {name} that has the fingerprint {wanted}, but "
            f"{given}; pass the {name} run that it was trained with (a tokenizer whose decoder was "
            "fine-tuned later with train tokenizer --from also works)"
        )
