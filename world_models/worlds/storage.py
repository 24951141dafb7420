"""Stores weights compactly: matrices as int8 or bfloat16, all other tensors exactly.

Only the weights of linear layers and embeddings are rounded: they take nearly all of a model's
bytes. Code vectors stay exact, because they determine what a token means.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["STORAGES", "pack", "unpack"]

STORAGES = ("float32", "bfloat16", "int8")
_SCALE = ".scale"  # suffix for the scales of an int8 matrix, one float32 per matrix row


def pack(model: nn.Module, storage: str) -> dict[str, Tensor]:
    """Return a model's state dict in the form in which it is stored."""
    if storage not in STORAGES:
        raise ValueError(f"storage must be one of {STORAGES}, got {storage!r}")
    tensors = dict(model.state_dict())
    for name, module in model.named_modules():
        if storage == "float32" or not isinstance(module, nn.Linear | nn.Embedding):
            continue
        key = f"{name}.weight"
        weight = tensors[key].float()
        if storage == "bfloat16":
            tensors[key] = weight.bfloat16()
            continue
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127
        tensors[key] = (weight / scale[:, None]).round().to(torch.int8)
        tensors[key + _SCALE] = scale
    return tensors


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack`, and return a float32 state dict."""
    unpacked = {}
    for name, value in tensors.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in tensors:
            continue
        if value.dtype == torch.int8 and name + _SCALE in tensors:
            value = value.float() * tensors[name + _SCALE][:, None]
        unpacked[name] = value.float() if value.is_floating_point() else value
    return unpacked
