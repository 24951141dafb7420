"""Where a training of Stable-Baselines3 stands, as safetensors and JSON; nothing is pickled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model, save_file, save_model
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

from world_models.files import atomic_directory, remove_leftovers

__all__ = ["load_training", "save_training"]


def save_training(
    folder: Path, model: OnPolicyAlgorithm, learner: Any, state: dict[str, Any]
) -> None:
    """Writes a checkpoint, then deletes those before it.

    Args:
        folder: Where checkpoints are; each is a directory that is complete or not there.
        model: Its policy and optimizer are kept.
        learner: What else learns: kept if it is a module with an optimizer.
        state: Anything JSON can hold, and ``steps`` taken.
    """
    path = folder / f"step-{state['steps']:09}"
    with atomic_directory(path, replace=True) as part:
        save_model(model.policy, str(part / "policy.safetensors"))
        save_file(_moments(model.policy.optimizer), part / "optimizer.safetensors")
        if isinstance(learner, nn.Module):
            save_model(learner, str(part / "learner.safetensors"))
            save_file(_moments(learner.optimizer), part / "learner_optimizer.safetensors")
        (part / "state.json").write_text(json.dumps(state, indent=1) + "\n")
    for other in _checkpoints(folder):
        if other != path:
            shutil.rmtree(other)


def load_training(folder: Path, model: OnPolicyAlgorithm, learner: Any) -> dict[str, Any] | None:
    """Puts everything back as it was; returns the state, or None if there is no checkpoint."""
    remove_leftovers(folder)
    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    load_model(model.policy, newest / "policy.safetensors")
    _restore(model.policy.optimizer, load_file(newest / "optimizer.safetensors"))
    if isinstance(learner, nn.Module):
        load_model(learner, newest / "learner.safetensors")
        _restore(learner.optimizer, load_file(newest / "learner_optimizer.safetensors"))
    return json.loads((newest / "state.json").read_text())


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.name[5:].isdigit())


def _moments(optimizer: Any) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter, by the parameter's place."""
    states = optimizer.state_dict()["state"]
    return {
        f"{place}/{key}": x.contiguous()
        for place, kept in states.items()
        for key, x in kept.items()
    }


def _restore(optimizer: Any, moments: dict[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        place, _, key = name.partition("/")
        states.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
