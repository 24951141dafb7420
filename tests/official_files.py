"""Small checkpoints in the format of the official GenieRedux code, and what that code gave.

``official/checkpoints.safetensors.xz`` holds the models of five files, 24 x 24 pixels, without the
optimiser: the four bytes of all numbers as four rows, which compress better. Positions after the
seventh frame are zero. ``official/expected.safetensors.xz`` holds inputs and outputs of one row:
``YEAR/NAME``, videos as uint8, logits of the last three frames. ``official/config.yaml`` is what a
run of 2025 leaves beside its dynamics.
"""

from __future__ import annotations

import json
import lzma
import struct
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

FOLDER = Path(__file__).parent / "official"
FILES = {
    "2024/tokenizer": "GenieRedux_Tokenizer_CoinRun_100mln_v1.0/model.pt",
    "2024/guided": "GenieRedux_Guided_CoinRun_80mln_v1.0/model.pt",
    "2024/latent": "GenieRedux_CoinRun_250mln_v1.0/model.pt",
    "2025/tokenizer": "tokenizer/tokenizer/model-3.pt",
    "2025/guided": "genie_redux_guided/genie_redux_guided/model-3.pt",
}
FRAME_SIZE, STEP = 24, 4


@cache
def tensors() -> dict[str, dict[str, dict[str, Tensor]]]:
    """File -> model ("" for a tokenizer) -> tensors by name."""
    raw = lzma.decompress((FOLDER / "checkpoints.safetensors.xz").read_bytes())
    (size,) = struct.unpack("<Q", raw[:8])
    names = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["tensors"])
    planes = load(raw)["planes"].numpy()
    numbers = torch.from_numpy(np.ascontiguousarray(planes.T).view(np.float32)[:, 0])
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    sizes = [int(np.prod(shape)) for _, shape in names]
    for (name, shape), values in zip(names, numbers.split(sizes), strict=True):
        file, part, tensor = name.split("|")
        found.setdefault(file, {}).setdefault(part, {})[tensor] = values.view(shape).clone()
    return found


@cache
def expected(year: int) -> dict[str, Tensor]:
    """Inputs and outputs of the official code; tokens and actions as int64."""
    every = load(lzma.decompress((FOLDER / "expected.safetensors.xz").read_bytes()))
    mine = {k.removeprefix(f"{year}/"): x for k, x in every.items() if k.startswith(str(year))}
    pixels = {k for k in mine if k == "frames" or k.endswith("_video")}
    return {k: x if k in pixels or x.is_floating_point() else x.long() for k, x in mine.items()}


def model(file: str) -> dict:
    """The "model" of a checkpoint, to be changed at will."""
    parts = {name: dict(part) for name, part in tensors()[file].items()}
    return parts.get("") or parts


def write(path: Path, model: dict) -> Path:
    """Write a checkpoint with this model, with the moments of its optimiser as zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = model if any(isinstance(x, dict) for x in model.values()) else {"": model}
    every = [x for part in parts.values() for x in part.values()]
    moments = {i: {"exp_avg": torch.zeros_like(x)} for i, x in enumerate(every)}
    content = {"step": STEP, "model": model, "optim": {"state": moments}, "scaler": None}
    torch.save(content, path)
    return path


def write_all(folder: Path) -> dict[str, Path]:
    """Write all five files; those of 2025 with ``config.yaml``."""
    paths = {file: write(folder / name, model(file)) for file, name in FILES.items()}
    config = paths["2025/guided"].with_name("config.yaml")
    config.write_bytes((FOLDER / "config.yaml").read_bytes())
    return paths
