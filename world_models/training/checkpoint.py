"""Checkpoints: everything needed to resume exactly, as safetensors and JSON, written atomically.

A checkpoint is a directory such as ``step-00001000``. It contains ``state.json`` and one
``.safetensors`` file per module and optimizer. It contains no random generator state: everything
random must be a function of the seed and the step (see `world_models.training.fit`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from world_models.files import atomic_directory, remove_directory, remove_leftovers
from world_models.weights import WeightsError, load_weights, read_tensors, write_tensors

__all__ = ["CheckpointState", "Checkpoints", "Parts"]

Parts: TypeAlias = Mapping[str, nn.Module | Optimizer]
"""Modules and optimizers, keyed by the names of the files that store them."""


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """The contents of a checkpoint except its tensors.

    Attributes:
        step: Number of optimiser steps taken so far.
        data: Other training state as JSON values, such as the loader's position.
        scores: Validation metrics for the averaged weights; empty if there was no evaluation.
        seconds: Training time so far, in seconds.
    """

    step: int
    data: Mapping[str, Any]
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run in one directory, which keeps the `keep` newest and the best."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """Return the paths of all checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def newest(self) -> Path | None:
        """Return the newest checkpoint, from which a run resumes; None if there is none."""
        paths = self.paths()
        return paths[-1] if paths else None

    def best(self) -> Path | None:
        """Return the checkpoint with the lowest validation loss.

        If no checkpoint has a validation loss, return the newest; None if there is none.
        """
        scored = [(path, _judged(self.state(path).scores)) for path in self.paths()]
        losses = [(loss, path) for path, loss in scored if loss is not None and isfinite(loss)]
        return min(losses)[1] if losses else self.newest()

    def state(self, path: Path) -> CheckpointState:
        """Read the state of the checkpoint at `path`."""
        try:
            return CheckpointState(**json.loads((path / "state.json").read_text()))
        except (OSError, TypeError, json.JSONDecodeError) as fault:
            raise _damaged(path, f"state.json cannot be read: {fault}") from None

    def save(self, parts: Parts, state: CheckpointState) -> Path:
        """Write a checkpoint, and delete all but the `keep` newest and the best."""
        path = self.folder / f"step-{state.step:08}"
        with atomic_directory(path, replace=True) as folder:
            for name, part in parts.items():
                write_tensors(folder / f"{name}.safetensors", _tensors(part))
            (folder / "state.json").write_text(json.dumps(asdict(state), indent=1) + "\n")
        needed = {*self.paths()[-self.keep :], self.best()}
        for old in self.paths():
            if old not in needed:
                remove_directory(old)
        return path

    def clean(self) -> None:
        """Delete half-written checkpoints that a killed run left behind."""
        remove_leftovers(self.folder)

    def resume(self, parts: Parts) -> CheckpointState | None:
        """Load the newest checkpoint into `parts`, and return its state; None if there is none."""
        path = self.newest()
        if path is None:
            return None
        try:
            for name, part in parts.items():
                file = path / f"{name}.safetensors"
                _restore(part, read_tensors(file), file)
        except WeightsError as fault:
            raise _damaged(path, str(fault)) from None
        return self.state(path)


def _judged(scores: Mapping[str, float]) -> float | None:
    """Return the validation loss that determines the best checkpoint; None if there is none.

    For a dynamics model this is the token loss alone: rewards and terminations are so rare in the
    few validation windows that a single one would decide which checkpoint is the best.
    """
    return scores.get("token_loss", scores.get("loss"))


def _tensors(part: nn.Module | Optimizer) -> dict[str, Tensor]:
    """Return a module's state dict, or the state that an optimizer holds for each parameter."""
    if isinstance(part, nn.Module):
        return part.state_dict()
    remembered = part.state_dict()["state"]  # keyed by parameter index
    return {f"{place}/{key}": x for place, kept in remembered.items() for key, x in kept.items()}


def _restore(part: nn.Module | Optimizer, tensors: Mapping[str, Tensor], source: Path) -> None:
    if isinstance(part, nn.Module):
        load_weights(part, tensors, source)
        return
    remembered: dict[int, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        place, _, key = name.partition("/")
        remembered.setdefault(int(place), {})[key] = x
    part.load_state_dict({**part.state_dict(), "state": remembered})


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"checkpoint {path} cannot be used: {reason}. Delete that directory to resume from the "
        "previous checkpoint"
    )
