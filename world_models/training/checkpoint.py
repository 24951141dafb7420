"""Checkpoints: everything needed to go on exactly, as safetensors and JSON, written atomically.

A checkpoint is a directory ``step-00001000`` with ``model``, ``average`` and ``optimizer``
``.safetensors`` and ``state.json``. No generator state is in it: the order of the data and all
noise are functions of the seed and the step (see `world_models.training.fit`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from world_models.files import atomic_directory, remove_leftovers
from world_models.weights import WeightsError, load_weights, read_tensors, write_tensors

__all__ = ["CheckpointState", "Checkpoints"]


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """What a checkpoint holds besides tensors.

    Attributes:
        step: Steps taken.
        data: State of the loader: which data, and how far in it.
        scores: Evaluation of the averaged weights.
    """

    step: int
    data: Mapping[str, Any]
    scores: Mapping[str, float]


class Checkpoints:
    """The checkpoints of one run, in one directory.

    Args:
        folder: Where they are.
        keep: How many of the newest survive `prune`, besides the best.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """All of them, oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if path.name[5:].isdigit())

    def newest(self) -> Path | None:
        """The one to go on from."""
        paths = self.paths()
        return paths[-1] if paths else None

    def best(self) -> Path | None:
        """The one with the lowest validation loss; the newest where none was evaluated."""
        scored = [(path, _judged(self.state(path).scores)) for path in self.paths()]
        losses = [(loss, path) for path, loss in scored if loss is not None and isfinite(loss)]
        return min(losses)[1] if losses else self.newest()

    def state(self, path: Path) -> CheckpointState:
        """What `path` says about itself."""
        try:
            return CheckpointState(**json.loads((path / "state.json").read_text()))
        except (OSError, TypeError, json.JSONDecodeError) as fault:
            raise _damaged(path, f"state.json cannot be read: {fault}") from None

    def save(
        self, model: nn.Module, average: nn.Module, optimizer: Optimizer, state: CheckpointState
    ) -> Path:
        """Write one, then delete those no longer needed."""
        path = self.folder / f"step-{state.step:08}"
        with atomic_directory(path, replace=True) as part:
            write_tensors(part / "model.safetensors", model.state_dict())
            write_tensors(part / "average.safetensors", average.state_dict())
            write_tensors(part / "optimizer.safetensors", _optimizer_tensors(model, optimizer))
            (part / "state.json").write_text(json.dumps(asdict(state), indent=1) + "\n")
        self.prune()
        return path

    def load(
        self, path: Path, model: nn.Module, average: nn.Module, optimizer: Optimizer
    ) -> CheckpointState:
        """Put everything back as it was."""
        try:
            for name, module in (("model", model), ("average", average)):
                file = path / f"{name}.safetensors"
                load_weights(module, read_tensors(file), file)
            tensors = read_tensors(path / "optimizer.safetensors")
        except WeightsError as fault:
            raise _damaged(path, str(fault)) from None
        for name, parameter in model.named_parameters():
            prefix = f"{name}/"
            kept = {key[len(prefix) :]: x for key, x in tensors.items() if key.startswith(prefix)}
            if kept:
                device = parameter.device
                optimizer.state[parameter] = {key: x.to(device) for key, x in kept.items()}
        return self.state(path)

    def prune(self) -> None:
        """Delete all but the newest few and the best."""
        needed = {*self.paths()[-self.keep :], self.best()}
        for path in self.paths():
            if path not in needed:
                shutil.rmtree(path)

    def clean(self) -> None:
        """Delete what a killed run left half-written."""
        remove_leftovers(self.folder)


def _judged(scores: Mapping[str, float]) -> float | None:
    """The loss that says which is best.

    Where there is one of tokens, that: rewards and ends are so rare in the few windows it is
    measured on that a single one would decide.
    """
    return scores.get("token_loss", scores.get("loss"))


def _optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"checkpoint {path} cannot be used: {reason}. Delete that directory to go on from the "
        "checkpoint before it"
    )
