"""Reads and writes tensors, only as safetensors, and checks that they fit the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

__all__ = ["WeightsError", "load_weights", "read_tensors", "write_tensors"]


class WeightsError(ValueError):
    """A file of tensors is damaged or does not fit the model."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors from any device. The write is not atomic."""
    # Tensors are copied, because safetensors refuses tensors that share memory. The file is not
    # written by safetensors, because only its owner could then read it.
    copies = {name: x.detach().cpu().clone().contiguous() for name, x in tensors.items()}
    path.write_bytes(save(copies))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors onto the CPU. Raises WeightsError if the file is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing") from None
    except SafetensorError as fault:
        raise WeightsError(f"{path} is incomplete or not a safetensors file: {fault}") from None


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load `tensors` into a model; `source` is named in error messages.

    Raises:
        WeightsError: If a name or shape does not match, or a value is not finite.
    """
    expected = model.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise WeightsError(f"{source}: tensor {name!r} {tuple(value.shape)} is missing")
        if tensors[name].shape != value.shape:
            raise WeightsError(
                f"{source}: tensor {name!r} has shape {tuple(tensors[name].shape)}, expected "
                f"{tuple(value.shape)}"
            )
        if tensors[name].is_floating_point() and not torch.isfinite(tensors[name]).all():
            raise WeightsError(f"{source}: tensor {name!r} holds NaN or infinity")
    for name in tensors:
        if name not in expected:
            raise WeightsError(f"{source}: tensor {name!r} is not part of the model")
    model.load_state_dict(dict(tensors))
