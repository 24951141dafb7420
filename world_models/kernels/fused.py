"""Switches on the compiled kernels, for training on a CPU with ``compile``.

A training step on a CPU spends more time on memory access than on matrix multiplications. Compiling
the operations of this package into single loops saves passes over memory. Compiling the rest of a
step does not make the step faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import torch

from world_models.compiler import compiled

__all__ = ["compiled_once", "fused_kernels", "is_fused"]

FUSED = ContextVar("fused", default=False)


@contextmanager
def fused_kernels(enabled: bool = True) -> Iterator[None]:
    """Use the compiled kernels for all forward and backward passes inside the context."""
    token = FUSED.set(enabled)
    try:
        yield
    finally:
        FUSED.reset(token)


def is_fused() -> bool:
    """Return whether `fused_kernels` is on. In code that is being compiled, the result is False."""
    return not torch.compiler.is_compiling() and FUSED.get()


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on its first call, because loading the compiler takes seconds."""
    ready = cache(lambda: compiled(function))

    @wraps(function)
    def call(*args: Any) -> Any:
        return ready()(*args)

    return call
