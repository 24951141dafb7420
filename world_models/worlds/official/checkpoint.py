"""Reads checkpoint files from the official GenieRedux code.

Such a file is a zip that ``torch.save`` wrote. It contains a dict with "step", "model" and the
optimiser state, which is not read. "model" is a dict of tensors by name, or, in a dynamics file,
one such dict per model. Only tensors and plain values are unpickled, so a file cannot run code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from world_models.worlds.card import file_record

__all__ = ["Checkpoint", "OfficialError", "PartTensors", "read_checkpoint", "read_config"]

CONFIG = "config.yaml"
WHOLE = ""  # name of the only model in a tokenizer's file


class OfficialError(ValueError):
    """A file is not a checkpoint from the official code, or does not match the other files."""


class PartTensors:
    """The tensors of one model in a file. Each tensor must be taken with its shape, or skipped.

    Args:
        tensors: Tensors by name.
        source: Names the file and the model in error messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str):
        self._tensors, self.source = dict(tensors), source
        self._left = set(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str, num_axes: int) -> tuple[int, ...]:
        """Return the shape of a tensor, without taking it."""
        shape = tuple(self._get(name).shape)
        if len(shape) != num_axes:
            raise OfficialError(
                f"{self.source}: tensor {name!r} has shape {shape}, expected {num_axes} axes; "
                "this is not a model from the official code"
            )
        return shape

    def take(self, name: str, *shape: int) -> Tensor:
        """Take a tensor, which must have this shape, and return it."""
        value = self._get(name)
        if tuple(value.shape) != shape:
            raise OfficialError(
                f"{self.source}: tensor {name!r} has shape {tuple(value.shape)}, expected {shape} "
                "to match the other tensors and the frame size; check --frame-size, or download "
                "the file again"
            )
        self._left.discard(name)
        return value

    def skip(self, *names: str) -> None:
        """Mark tensors as unused by the official code, so that `finish` accepts them."""
        self._left.difference_update(names)

    def num_blocks(self, prefix: str) -> int:
        """Return the number of blocks in the transformer whose tensor names have this prefix."""
        start = f"{prefix}layers."
        numbers = {n[len(start) :].split(".")[0] for n in self._tensors if n.startswith(start)}
        return len(numbers)

    def finish(self) -> None:
        """Raise OfficialError if a tensor was neither taken nor skipped."""
        if self._left:
            raise OfficialError(
                f"{self.source}: tensor {min(self._left)!r} is not part of the published model, "
                f"nor are {len(self._left) - 1} other tensors; only models from the published code "
                "can be imported"
            )

    def _get(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise OfficialError(
                f"{self.source}: tensor {name!r} is missing; download the file again, or use "
                "another model's file"
            )
        return self._tensors[name]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint file.

    Attributes:
        path: The file.
        step: Training step.
        parts: The models in the file by name, each as tensors by name. A tokenizer's name is "".
        config: Settings of the training run by section, from the ``config.yaml`` beside the file;
            may be empty.
    """

    path: Path
    step: int
    parts: dict[str, Mapping[str, Tensor]]
    config: dict[str, dict[str, str]] = field(default_factory=dict)

    def part(self, name: str) -> PartTensors:
        """Return the tensors of the model with this name. Raises OfficialError if there is none."""
        if name not in self.parts:
            found = " and ".join(part or "a tokenizer" for part in self.parts)
            raise OfficialError(
                f"{self.path} holds {found}, expected {name or 'a tokenizer'}; pass the "
                "tokenizer's file as --tokenizer and the dynamics model's file as --dynamics"
            )
        return PartTensors(self.parts[name], f"{self.path}" + (f" ({name})" if name else ""))

    def record(self) -> dict[str, Any]:
        """Return the name, size, checksum and training step of the file."""
        return {"name": self.path.name, **file_record(self.path), "step": self.step}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file. Tensors stay on disk until they are used.

    Raises:
        OfficialError: If the file is not a checkpoint, is damaged, or holds more than tensors and
            plain values.
    """
    path = Path(path)
    _check_zip(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise OfficialError(
            f"{path} holds more than tensors, so loading it could run code: it was not loaded; "
            "download the authors' file again"
        ) from None
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as fault:
        raise OfficialError(
            f"{path} is damaged or not a checkpoint ({str(fault).splitlines()[0]}); download it "
            "again"
        ) from None
    return Checkpoint(
        path=path, step=_step(path, content), parts=_parts(path, content), config=read_config(path)
    )


def read_config(path: Path) -> dict[str, dict[str, str]]:
    """Return the settings by section from the ``config.yaml`` beside a file, if there is one.

    Only plain values in sections are read, because a model depends on nothing else. Without a
    ``config.yaml``, the result is empty.
    """
    file = path.parent / CONFIG
    sections: dict[str, dict[str, str]] = {}
    if not file.is_file():
        return sections
    section: dict[str, str] = {}
    for line in file.read_text().splitlines():
        name, colon, value = line.partition(":")
        if not colon or line.lstrip().startswith(("#", "-")):
            continue
        if not name.startswith(" "):
            section = sections.setdefault(name.strip(), {})
        elif value.strip():
            section[name.strip()] = value.strip().strip("\"'")
    return sections


def _check_zip(path: Path) -> None:
    if not path.is_file():
        raise OfficialError(f"{path} is not a file; pass the path of a checkpoint (model.pt)")
    if zipfile.is_zipfile(path):
        return
    with path.open("rb") as file:
        begins = file.read(4)
    if begins.startswith(b"PK"):
        raise OfficialError(
            f"{path} is truncated: it has {path.stat().st_size:,} bytes and no end-of-zip record; "
            "download it again"
        )
    raise OfficialError(
        f"{path} is not a checkpoint: expected the zip that torch.save writes, got a file that "
        f"begins with {begins!r}, which was not loaded; use the authors' model.pt"
    )


def _step(path: Path, content: Any) -> int:
    step = content.get("step") if isinstance(content, dict) else None
    if not isinstance(step, int) or not isinstance(content.get("model"), dict):
        found = sorted(map(str, content))[:4] if isinstance(content, dict) else type(content)
        raise OfficialError(
            f'{path} is not a checkpoint from the official code: expected "step" and "model", got '
            f"{found}; use a file that the official training wrote"
        )
    return step


def _parts(path: Path, content: Any) -> dict[str, Mapping[str, Tensor]]:
    model = content["model"]
    parts = {WHOLE: model} if any(isinstance(x, Tensor) for x in model.values()) else model
    for name, part in parts.items():
        wrong = not isinstance(part, dict) or not part
        if wrong or not all(isinstance(x, Tensor) for x in part.values()):
            raise OfficialError(
                f"{path}: expected tensors by name in {name or 'model'!r}, got something else; "
                "use a file that the official training wrote"
            )
    return parts
