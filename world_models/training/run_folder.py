"""What a run is: ``run.json`` in its directory, written at its start, read by what builds on it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from world_models.episodes.episode import code_version
from world_models.parts import build_part
from world_models.settings import begin
from world_models.training.checkpoint import Checkpoints
from world_models.weights import load_weights, read_tensors
from world_models.worlds.bundle import load_world
from world_models.worlds.find import find_world

__all__ = ["RunRecord", "begin_run", "load_part", "load_run", "read_run"]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What was trained, on what.

    Attributes:
        kind: "tokenizer", "latent-action" or "dynamics".
        model: The model's configuration; see `part_to_dict`.
        loss: What it is trained for.
        frames: Frames of a training window.
        fit: The optimisation.
        data: The dataset: path, fingerprint, env ids, action set, number of episodes and frames.
        built_on: Fingerprints of the tokenizer and latent action model behind a dynamics, and the
            world that was fine-tuned.
        command: How it was started.
        versions: Of this package, of torch.
    """

    kind: str
    model: dict[str, Any]
    loss: dict[str, Any]
    frames: int
    fit: dict[str, Any]
    data: dict[str, Any]
    built_on: dict[str, Any] = field(default_factory=dict)
    command: str = field(default_factory=lambda: " ".join(sys.argv))
    versions: dict[str, str] = field(
        default_factory=lambda: {"genie-gym": code_version(), "torch": torch.__version__}
    )


def begin_run(out: Path, record: RunRecord, write: bool) -> None:
    """Write a new run's record, or check that the run in `out` is the same and can go on.

    Raises:
        ValueError: If `out` holds a run of another model.
    """
    may_change = ("fit", "data", "command", "versions")
    changes = begin(out / "run.json", asdict(record), may_change, write=write)
    if write and "fit" in changes:
        print(f"going on with what was begun with {changes['fit']}", file=sys.stderr)


def read_run(out: Path) -> RunRecord:
    """The record of the run in `out`."""
    path = out / "run.json"
    try:
        return RunRecord(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise ValueError(f"{out} is no training run: it has no run.json") from None
    except (TypeError, json.JSONDecodeError) as fault:
        raise ValueError(f"{path} cannot be read: {fault}") from None


def load_run(out: Path, kind: str) -> nn.Module:
    """The averaged weights of a run's best checkpoint.

    Raises:
        ValueError: If `out` is a run of another kind, or has no checkpoint yet.
    """
    record = read_run(out)
    if record.kind != kind:
        raise ValueError(f"{out} is a {record.kind} run, expected a {kind} run")
    best = Checkpoints(out / "checkpoints").best()
    if best is None:
        raise ValueError(f"{out} has no checkpoint yet; let its training run to the first one")
    model = build_part(kind, record.model)
    file = best / "average.safetensors"
    load_weights(model, read_tensors(file), file)
    return model.eval()


def load_part(source: str, kind: str) -> nn.Module:
    """The tokenizer, latent action model or dynamics of a run or of a world."""
    if (Path(source) / "run.json").is_file():
        return load_run(Path(source), kind)
    part = getattr(load_world(find_world(source)).model, kind.replace("-", "_"))
    if part is None:
        raise ValueError(f"the world {source} has no {kind} model")
    assert isinstance(part, nn.Module)
    return part
