"""World bundles: trained world models as directories of safetensors and JSON files.

A bundle is written atomically. Loading a bundle runs no code from it: it contains no pickle, and
every tensor must have the name and shape that the configuration implies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.files import atomic_directory, replace_text
from world_models.inference.world import WorldModel
from world_models.model.token_space import SamplingConfig
from world_models.parts import build_part, config_from_dict, part_to_dict
from world_models.weights import WeightsError, load_weights, read_tensors, write_tensors
from world_models.worlds.card import (
    CARD,
    README,
    BundleError,
    WorldCard,
    check_files,
    file_record,
)
from world_models.worlds.model_card import model_card
from world_models.worlds.storage import pack, unpack

__all__ = ["StartBank", "World", "load_world", "record_scores", "save_world"]

STARTS = "starts.safetensors"


@dataclass(frozen=True, kw_only=True)
class StartBank:
    """S short windows of real episodes, from which dreams start.

    Attributes:
        frames: The k frames of each window, uint8 ``(S, k, H, W, 3)``.
        actions: The actions between the frames, int64 ``(S, k - 1)``.
    """

    frames: Tensor
    actions: Tensor

    def __post_init__(self) -> None:
        frames, actions = self.frames, self.actions
        if frames.ndim != 5 or frames.dtype != torch.uint8 or not len(frames):
            raise ValueError(
                f"expected frames uint8 (S, k, H, W, 3) with S >= 1, got {frames.dtype} "
                f"{tuple(frames.shape)}"
            )
        if actions.shape != (len(frames), frames.shape[1] - 1) or actions.dtype != torch.int64:
            raise ValueError(
                f"expected actions int64 ({len(frames)}, {frames.shape[1] - 1}), got "
                f"{actions.dtype} {tuple(actions.shape)}"
            )

    @staticmethod
    def from_episodes(
        dataset: EpisodeDataset,
        *,
        num: int = 16,
        length: int = 4,
        seed: int = 0,
        beginnings: float = 0.0,
    ) -> StartBank:
        """Sample `num` random windows of `length` frames.

        A fraction of these windows, `beginnings`, is moved to the beginnings of the episodes.
        """
        sampler = WindowSampler(dataset.num_frames, length=length, batch_size=num, seed=seed)
        places = sampler.batch(0)
        places[: round(beginnings * num), 1] = 0
        windows = dataset.batch(places, length)
        frames, actions = (torch.from_numpy(windows[name]) for name in ("frames", "actions"))
        return StartBank(frames=frames, actions=actions)


@dataclass(frozen=True, kw_only=True)
class World:
    """A loaded bundle; the model is in eval mode and float32."""

    card: WorldCard
    model: WorldModel
    starts: StartBank


def save_world(
    path: Path,
    card: WorldCard,
    model: WorldModel,
    starts: StartBank,
    *,
    storage: str = "float32",
    replace_existing: bool = False,
) -> WorldCard:
    """Write a bundle, and return its card with all configurations, storage and files filled in.

    Args:
        path: Directory of the bundle.
        card: The world model's card.
        model: The trained world model.
        starts: Windows from which dreams start.
        storage: How matrices are stored: "float32", "bfloat16" or "int8". All other tensors
            are stored exactly.
        replace_existing: Overwrite an existing bundle at `path`.
    """
    if model.dynamics.config.num_actions != card.num_actions:
        raise ValueError(
            f"action set {card.action_set!r} has {card.num_actions} actions, but the dynamics "
            f"model has {model.dynamics.config.num_actions}"
        )
    configs: dict[str, Any] = {name: part_to_dict(part) for name, part in _parts(model).items()}
    card = replace(card, **configs, sampling=asdict(model.sampling), storage=storage)
    _check_starts(starts, card)
    with atomic_directory(path, replace=replace_existing) as part:
        for name, module in _parts(model).items():
            write_tensors(part / f"{name}.safetensors", pack(module, storage))
        write_tensors(part / STARTS, {"frames": starts.frames, "actions": starts.actions})
        card = replace(card, files={f.name: file_record(f) for f in sorted(part.iterdir())})
        (part / CARD).write_text(card.to_json())
        (part / README).write_text(model_card(card))
    return card


def load_world(path: Path) -> World:
    """Read and check a bundle.

    Raises:
        BundleError: If a file or tensor is wrong; the message names it.
    """
    path = Path(path)
    card = WorldCard.read(path)
    check_files(path, card.files)
    try:
        with _AtMost(path):
            model = _build(card)
        for file, part in _weight_files(path, card, model).items():
            load_weights(part, unpack(read_tensors(file)), file)
        _check_codes(path, model)
        return World(card=card, model=model.eval(), starts=_read_starts(path, card))
    except BundleError:
        raise
    except WeightsError as fault:
        raise BundleError(str(fault)) from None
    except (TypeError, ValueError, KeyError) as fault:
        raise BundleError(f"{path / CARD} does not describe a valid model: {fault}") from None


def record_scores(path: Path, scores: Mapping[str, float]) -> WorldCard:
    """Add measured scores to a bundle's card and to its README."""
    card = WorldCard.read(path)
    card = replace(card, scores={**card.scores, **scores})
    replace_text(path / CARD, card.to_json())
    replace_text(path / README, model_card(card))
    return card


def _parts(model: WorldModel) -> dict[str, Any]:
    parts = {"tokenizer": model.tokenizer, "dynamics": model.dynamics}
    return parts | ({} if model.latent_action is None else {"latent_action": model.latent_action})


def _build(card: WorldCard) -> WorldModel:
    parts: dict[str, Any] = {
        "tokenizer": build_part("tokenizer", card.tokenizer),
        "dynamics": build_part("dynamics", card.dynamics),
    }
    if (num_actions := parts["dynamics"].config.num_actions) != card.num_actions:
        raise ValueError(
            f"the card has {card.num_actions} action_meanings, but the dynamics model has "
            f"{num_actions} actions"
        )
    if card.latent_action is not None:
        parts["latent_action"] = build_part("latent-action", card.latent_action)
    return WorldModel(
        **parts,
        sampling=config_from_dict(SamplingConfig, card.sampling),
        rewards=card.rewards if card.rounded_rewards else (),
    )


class _AtMost(TorchFunctionMode):
    """Raises BundleError as soon as a model has more weights than its bundle's files can hold.

    It is active while the model is built, so a tampered card cannot make a model fill the memory.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._card, self._built = path / CARD, 0
        self._num_bytes = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        if not self._num_bytes:
            raise BundleError(f"{path} has no weights (*.safetensors); copy the bundle again")

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.empty:  # torch's layers create their weights with it
            self._built += math.prod(args if isinstance(args[0], int) else args[0])
        # The files may store one byte per weight, and need not contain the buffers.
        if self._built > 2 * self._num_bytes:
            raise BundleError(
                f"{self._card} describes {self._built:,} weights or more, but the bundle's files "
                f"have {self._num_bytes:,} bytes: the card or a file was changed; copy the "
                "bundle again"
            )
        return func(*args, **(kwargs or {}))


def _weight_files(path: Path, card: WorldCard, model: WorldModel) -> dict[Path, nn.Module]:
    """Return the weight files, each with the module whose weights it stores."""
    files = {path / f"{name}.safetensors": part for name, part in _parts(model).items()}
    for file in files:
        if file.name not in card.files:
            raise BundleError(f"{path / CARD} does not list {file.name}; copy the bundle again")
    return files


def _check_codes(path: Path, model: WorldModel) -> None:
    if not torch.allclose(model.tokenizer.codes(), model.dynamics.codes, atol=1e-3):
        raise BundleError(
            f"{path}: the dynamics model was trained on another tokenizer's tokens (the codes "
            "differ); make the bundle again with the tokenizer that the model was trained with"
        )


def _read_starts(path: Path, card: WorldCard) -> StartBank:
    file = path / STARTS
    tensors = read_tensors(file)
    if tensors.keys() != {"frames", "actions"}:
        raise BundleError(f"{file} must contain frames and actions, but contains {sorted(tensors)}")
    try:
        starts = StartBank(**tensors)
        _check_starts(starts, card)
    except ValueError as fault:
        raise BundleError(f"{file}: {fault}") from None
    return starts


def _check_starts(starts: StartBank, card: WorldCard) -> None:
    size, actions = card.frame_size, starts.actions
    if starts.frames.shape[2:] != (size, size, 3):
        found = tuple(starts.frames.shape[2:])
        raise ValueError(f"expected frames of shape {(size, size, 3)}, got {found}")
    if actions.numel() and not 0 <= actions.min() <= actions.max() < card.num_actions:
        raise ValueError(f"actions are not all in 0..{card.num_actions - 1}")
