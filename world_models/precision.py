"""Chooses the floating-point type: bfloat16 if the device computes faster in bfloat16."""

from __future__ import annotations

import time
import warnings
from functools import cache

import torch

__all__ = ["bfloat16_speedup", "choose_dtype"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIN_SPEEDUP = 1.1  # for a smaller speedup, bfloat16 is not worth its rounding error
SLOW = 1.5  # a dtype that is slower by this factor causes a warning
# Rows, inputs and outputs of the timed matrix multiplication, as in a layer of a small model.
SHAPE = (1024, 128, 512)
REPEATS, MAX_SECONDS = 12, 0.5  # limits for timing a matrix multiplication


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the torch dtype for a name.

    Args:
        wanted: "float32", "bfloat16", "float16" or "auto". "auto" means bfloat16 if the device
            supports it natively and, on a CPU, a matrix multiplication is faster in bfloat16 than
            in float32; otherwise float32.
        device: The device to compute on.

    Raises:
        ValueError: If there is no such dtype.

    Warns:
        UserWarning: If "bfloat16" is much slower than float32 on this device. The warning states
            the factor.
    """
    if wanted == "auto":
        return torch.bfloat16 if _is_faster(device) else torch.float32
    if wanted not in DTYPES:
        raise ValueError(f'dtype must be "auto" or one of {sorted(DTYPES)}, got {wanted!r}')
    slow = wanted == "bfloat16" and not _is_faster(device)
    if slow and (speedup := bfloat16_speedup(device)) < 1 / SLOW:
        warnings.warn(
            f"on this {device.type}, bfloat16 is {1 / speedup:.1f} times as slow as float32: "
            'choose "auto" or float32',
            stacklevel=3,
        )
    return DTYPES[wanted]


@cache
def bfloat16_speedup(device: torch.device) -> float:
    """Return the time of a matrix multiplication in float32 divided by the time in bfloat16.

    It is measured once per device. The result is at most 1 if the device does not support bfloat16
    natively.
    """
    x, weight = (torch.randn(shape, device=device) for shape in (SHAPE[:2], SHAPE[1:]))
    speedup = _seconds(x, weight) / _seconds(x.bfloat16(), weight.bfloat16())
    return speedup if _is_native(device) else min(1.0, speedup)


def _is_faster(device: torch.device) -> bool:
    if device.type == "cuda":  # not measured, so that all processes of a run agree
        return _is_native(device)
    return _is_native(device) and bfloat16_speedup(device) >= MIN_SPEEDUP


def _is_native(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    """Repeat a matrix multiplication several times; return the shortest time in seconds."""
    best, begin = float("inf"), time.perf_counter()
    for _ in range(REPEATS):
        start = time.perf_counter()
        x @ weight
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        now = time.perf_counter()
        best = min(best, now - start)
        if now - begin > MAX_SECONDS:  # a CPU without bfloat16 can be a hundred times as slow
            break
    return best
