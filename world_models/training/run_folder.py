"""The directory of a training run, and the record of the run's settings in ``run.json``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

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
    """The settings of a run, which are written to ``run.json`` when the run starts.

    Attributes:
        kind: "tokenizer", "latent-action" or "dynamics".
        model: The model's configuration; see `part_to_dict`.
        loss: The weights of the loss.
        frames: Number of frames per training window.
        fit: The optimisation settings.
        data: A summary of the dataset; see `world_models.training.runs.describe`.
        built_on: What the run starts from. ``"world"`` is the name or path of the world model that
            it fine-tunes, or None. For a dynamics model, ``"tokenizer"`` and ``"latent_action"``
            are the fingerprints (hashes) of these models, with None if actions are not latent, and
            ``"outcome_only"`` says whether only the outcome head is trained.
        command: Command line that started the run.
        versions: Versions of genie-gym and torch.
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
    """Record the settings of a new run in `out`, or check that a resumed run has the same settings.

    If the run has several processes, only one of them should set `write`.

    Raises:
        ValueError: If a setting differs that must stay the same.
    """
    may_change = ("fit", "data", "command", "versions")
    changes = begin(out / "run.json", asdict(record), may_change, write=write)
    if write and "fit" in changes:
        print(f"resuming with other settings: the run began with {changes['fit']}", file=sys.stderr)


def read_run(out: Path) -> RunRecord:
    """Read the record of the run in `out`."""
    path = out / "run.json"
    try:
        return RunRecord(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise ValueError(f"{out} is not a training run: it has no run.json") from None
    except (TypeError, json.JSONDecodeError) as fault:
        raise ValueError(f"{path} cannot be read: {fault}") from None


def load_run(out: Path, kind: str) -> Any:
    """Load a run's model, with the averaged weights from the best checkpoint.

    Raises:
        ValueError: If the run trained another kind of model, or has no checkpoint yet.
    """
    record = read_run(out)
    if record.kind != kind:
        raise ValueError(
            f"{out} is a {record.kind} run, expected a {kind} run; pass the folder of such a run"
        )
    best = Checkpoints(out / "checkpoints").best()
    if best is None:
        raise ValueError(f"{out} has no checkpoint yet; resume the run until it saves one")
    model = build_part(kind, record.model)
    file = best / "average.safetensors"
    load_weights(model, read_tensors(file), file)
    return model.eval()


def load_part(source: str, kind: str) -> Any:
    """Load one part of a world model from a run (path) or from a world model (name or path).

    `kind` is "tokenizer", "latent-action" or "dynamics".
    """
    if (Path(source) / "run.json").is_file():
        return load_run(Path(source), kind)
    part = getattr(load_world(find_world(source)).model, kind.replace("-", "_"))
    if part is None:
        raise ValueError(
            f"the world model {source} has no {kind} model; pass a {kind} run, or another world "
            "model"
        )
    return part
