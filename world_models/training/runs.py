"""Trains tokenizers, latent action models and dynamics models on a dataset."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from world_models.episodes import EpisodeDataset, sequential_windows
from world_models.episodes.loader import WindowLoader
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics
from world_models.model.latent_action import LatentActionModel
from world_models.parts import build_tokenizer, part_to_dict
from world_models.precision import bfloat16_speedup
from world_models.tokenizers.base import Tokenizer
from world_models.training import strips
from world_models.training.fit import FitResult, Loss, chosen_precision, fit, launch
from world_models.training.recipes import (
    DynamicsRecipe,
    LatentActionRecipe,
    Recipe,
    TokenizerRecipe,
)
from world_models.training.run_folder import RunRecord, begin_run, load_part
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.token_cache import action_encoding, fingerprint, token_encoding
from world_models.training.token_loader import CachedWindows, TokenLoader
from world_models.training.validation import evaluator, evenly_spaced
from world_models.worlds.bundle import World, load_world
from world_models.worlds.find import find_world

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["describe", "train_dynamics", "train_latent_action", "train_tokenizer"]

EVAL_BATCHES = 8  # batches of held-out windows per evaluation
NUM_STRIPS = 4  # windows in a sample image


def train_tokenizer(recipe: TokenizerRecipe, options: DataOptions) -> FitResult:
    """Train a tokenizer, or fine-tune the tokenizer of `from_world`.

    Fine-tuning trains only the decoder, so the tokens stay the same.
    """
    world, episodes = _begin(options)
    if world is None:
        torch.manual_seed(recipe.fit.seed)
        model = build_tokenizer(recipe.model)
    else:
        model = world.model.tokenizer
        _train_only(model, model.decoder_parts)
    loss = partial(Tokenizer.loss, config=recipe.loss, decoder_only=world is not None)
    return _train_on_frames(
        "tokenizer", model, loss, strips.reconstructed, recipe, options, episodes
    )


def train_latent_action(recipe: LatentActionRecipe, options: DataOptions) -> FitResult:
    """Train a latent action model, or fine-tune the latent action model of `from_world`."""
    world, episodes = _begin(options)
    if world is None:
        torch.manual_seed(recipe.fit.seed)
        model = LatentActionModel(recipe.model)
    elif world.model.latent_action is None:
        raise ValueError(
            f"{options.from_world} has no latent action model to fine-tune; omit --from"
        )
    else:
        model = world.model.latent_action
    loss = partial(LatentActionModel.loss, config=recipe.loss)
    return _train_on_frames(
        "latent-action", model, loss, strips.inferred, recipe, options, episodes
    )


def train_dynamics(recipe: DynamicsRecipe, options: DynamicsOptions) -> FitResult:
    """Train a dynamics model on cached tokens, or fine-tune the dynamics model of `from_world`."""
    world, episodes = _begin(options)
    if options.outcome_only and world is None:
        raise ValueError("--outcome-only fine-tunes a world model; add --from WORLD")
    tokenizer, latent = _tokenizer(options, world), _latent_action(options, world)
    _check_frames(episodes, tokenizer.frame_size)
    if world is None:
        torch.manual_seed(recipe.fit.seed)
        model = Dynamics(recipe.model, tokenizer.space, tokenizer.codes())
    else:
        model = world.model.dynamics
    _check_actions(model, episodes, latent)

    fabric = _launch(recipe.fit.precision)
    dreamer = _dreamer(recipe, world, tokenizer, latent)
    for part in (tokenizer, latent, dreamer):
        if part is not None:
            fabric.to_device(part.eval().requires_grad_(False))
    built_on: dict[str, Any] = {
        "tokenizer": fingerprint(tokenizer),
        "latent_action": None if latent is None else fingerprint(latent),
        "world": options.from_world,
        "outcome_only": options.outcome_only,
    }
    record = _record("dynamics", model, recipe, episodes, built_on)
    # Wrong settings fail here, before tokens are computed for what may be hours.
    begin_run(options.out, record, write=False)
    clip = (recipe.frames, recipe.token_stride)
    tokens = token_encoding(tokenizer, *clip, recipe.corruption, dreamer, recipe.self_forcing)
    actions = None if latent is None else action_encoding(latent, *clip)
    train, held_out = _split(episodes, recipe.frames)
    train_windows, windows = (
        CachedWindows(part, recipe.frames, tokens, actions, fabric) for part in (train, held_out)
    )
    loader = TokenLoader(
        train_windows,
        events=recipe.events,
        num_workers=options.workers,
        **_sampling(recipe, fabric),
    )
    places = sequential_windows(windows.num_starts, length=1, stride=1)

    def sample(model: nn.Module) -> Tensor:
        assert isinstance(model, Dynamics)
        batch = windows.batch(evenly_spaced(places, NUM_STRIPS))
        starts = np.stack([batch["episode"].numpy(), batch["start"].numpy()], 1)
        frames = torch.from_numpy(held_out.batch(starts, recipe.frames)["frames"])
        dreamer = WorldModel(tokenizer, model).sampled(steps=recipe.loss.mask_steps)
        return strips.dream(dreamer, *fabric.to_device((frames, batch["actions"])))

    if options.outcome_only:
        _train_only(model, ("outcome.",))
    own = Dynamics.outcome_loss if options.outcome_only else Dynamics.loss
    loss = partial(own, config=recipe.loss)
    return _fit(model, loss, loader, windows.batch, places, sample, record, recipe, options, fabric)


def _launch(precision: str) -> Fabric:
    fabric = launch(precision)
    if fabric.is_global_zero:
        faster = bfloat16_speedup(fabric.device)
        print(
            f"precision {chosen_precision(precision)}: on this {fabric.device.type}, a matrix "
            f"multiplication in bf16 is {faster:.2g} times as fast as in fp32"
        )
    return fabric


def _train_only(model: nn.Module, parts: tuple[str, ...]) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(parts))


def describe(episodes: EpisodeDataset) -> dict[str, object]:
    """Return a summary of a dataset, for the records of training runs and world models."""
    collections = [entry.info.extra.get("collection", {}) for entry in episodes.entries]
    return {
        "path": str(episodes.path),
        "fingerprint": episodes.fingerprint,
        "env_ids": sorted({entry.info.env_id for entry in episodes.entries}),
        "policies": sorted({entry.info.policy for entry in episodes.entries}),
        "action_set": sorted({entry.info.action_set for entry in episodes.entries}),
        "seeds": sorted({c["seed"] for c in collections if c.get("seed") is not None}),
        "episodes": len(episodes),
        "frames": int(episodes.num_frames.sum()),
    }


def _begin(options: DataOptions) -> tuple[World | None, EpisodeDataset]:
    """Return the world model to fine-tune (None without --from) and the episodes to train on.

    Raises ValueError if the world model does not take the actions in the episodes.
    """
    episodes = options.episodes()
    if options.from_world is None:
        return None, episodes
    world = load_world(find_world(options.from_world))
    if world.card.latent_action is None and episodes.action_meanings != world.card.action_meanings:
        raise ValueError(
            f"{options.data} has the actions {', '.join(episodes.action_meanings)}, but the world "
            f"model {world.card.name} takes {', '.join(world.card.action_meanings)}; "
            f"collect episodes with action_set={world.card.action_set}"
        )
    return world, episodes


def _train_on_frames(
    kind: str,
    model: Tokenizer | LatentActionModel,
    loss: Loss,
    picture: Callable[[nn.Module, Tensor], Tensor],
    recipe: Recipe,
    options: DataOptions,
    episodes: EpisodeDataset,
) -> FitResult:
    _check_frames(episodes, model.config.frame_size)
    fabric = _launch(recipe.fit.precision)
    train, held_out = _split(episodes, recipe.frames)
    loader = WindowLoader(train, num_workers=options.workers, **_sampling(recipe, fabric))
    places = sequential_windows(held_out.num_frames, length=recipe.frames, stride=recipe.frames)

    def fetch(rows: np.ndarray) -> dict[str, Tensor]:
        batch = held_out.batch(rows, recipe.frames)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def sample(model: nn.Module) -> Tensor:
        return picture(model, fabric.to_device(fetch(evenly_spaced(places, NUM_STRIPS))["frames"]))

    record = _record(kind, model, recipe, episodes, {"world": options.from_world})
    return _fit(model, loss, loader, fetch, places, sample, record, recipe, options, fabric)


def _record(
    kind: str, model: nn.Module, recipe: Recipe, episodes: EpisodeDataset, built_on: dict[str, Any]
) -> RunRecord:
    return RunRecord(
        kind=kind,
        model=part_to_dict(model),
        loss=asdict(recipe.loss),
        frames=recipe.frames,
        fit=asdict(recipe.fit),
        data=describe(episodes),
        built_on=built_on,
    )


def _fit(
    model: nn.Module,
    loss: Loss,
    loader: WindowLoader | TokenLoader,
    fetch: Callable[[np.ndarray], dict[str, Tensor]],
    places: np.ndarray,
    sample: Callable[[nn.Module], Tensor],
    record: RunRecord,
    recipe: Recipe,
    options: DataOptions,
    fabric: Fabric,
) -> FitResult:
    begin_run(options.out, record, write=fabric.is_global_zero)
    config = recipe.fit
    places = evenly_spaced(places, config.batch_size * EVAL_BATCHES)
    evaluate = evaluator(loss, fetch, places, config.batch_size, fabric.device)
    return fit(
        model,
        loader,
        config,
        options.out,
        loss=loss,
        compile=options.compile,
        fabric=fabric,
        evaluate=evaluate,
        sample=sample,
        wandb_project=options.wandb_project,
    )


def _split(episodes: EpisodeDataset, length: int) -> tuple[EpisodeDataset, EpisodeDataset]:
    """Return the episodes for training and for validation.

    If there are too few episodes to split, all episodes are used for training and for validation.
    """
    train, held_out = episodes.split("train"), episodes.split("val")
    parts = (train, held_out)
    if all(len(part) and part.num_frames.max() >= length for part in parts):
        return train, held_out
    return episodes, episodes


def _sampling(recipe: Recipe, fabric: Fabric) -> dict[str, int]:
    return {
        "length": recipe.frames,
        "batch_size": recipe.fit.batch_size,
        "seed": recipe.fit.seed,
        "rank": fabric.global_rank,
        "world_size": fabric.world_size,
    }


def _tokenizer(options: DynamicsOptions, world: World | None) -> Tokenizer:
    own = None if world is None else world.model.tokenizer
    if options.tokenizer is None:
        if own is None:
            raise ValueError(
                "a dynamics model needs a tokenizer; add --tokenizer RUN (or a world model's name)"
            )
        return own
    tokenizer = load_part(options.tokenizer, "tokenizer")
    if own is not None and fingerprint(tokenizer) != fingerprint(own):
        raise ValueError(
            f"{options.tokenizer} produces other tokens than the tokenizer of "
            f"{options.from_world}: fine-tune the dynamics model with the world model's own "
            "tokenizer, or with one that was fine-tuned from it (train tokenizer --from)"
        )
    return tokenizer


def _latent_action(options: DynamicsOptions, world: World | None) -> LatentActionModel | None:
    if options.latent_action is None:
        return None if world is None else world.model.latent_action
    return load_part(options.latent_action, "latent-action")


def _dreamer(
    recipe: DynamicsRecipe,
    world: World | None,
    tokenizer: Tokenizer,
    latent: LatentActionModel | None,
) -> WorldModel | None:
    """Return the copy of the world model that dreams for self-forcing; None without self-forcing.

    The copy stays as it is while the dynamics model is trained.
    """
    if not recipe.self_forcing:
        return None
    if world is None or latent is not None:
        raise ValueError(
            "self-forcing needs a trained world model without latent actions: set --self-forcing "
            "to 0, or fine-tune such a world model (--from WORLD)"
        )
    return WorldModel(tokenizer, copy.deepcopy(world.model.dynamics), world.model.sampling)


def _check_frames(episodes: EpisodeDataset, size: int) -> None:
    if episodes.frame_shape != (size, size, 3):
        raise ValueError(
            f"{episodes.path} has frames {episodes.frame_shape}, but the model takes "
            f"{(size, size, 3)}; collect frames of that size, or train a model with "
            f"--model.frame-size {episodes.frame_shape[0]}"
        )


def _check_actions(
    model: Dynamics, episodes: EpisodeDataset, latent: LatentActionModel | None
) -> None:
    expected = model.config.num_actions
    if latent is not None:
        found, what = latent.config.num_actions, "latent actions"
    else:
        names = ", ".join(episodes.action_meanings)
        found, what = episodes.num_actions, f"actions in {episodes.path} ({names})"
    if found != expected:
        raise ValueError(
            f"there are {found} {what}, but the dynamics model takes {expected}; add "
            f"--model.num-actions {found}, or choose episodes with --env-id"
        )
