"""Where compiled kernels are used: training on a CPU with ``compile``.

A training step on a CPU waits for memory more than for its matrix products. Compiling the
operations of this package into single loops saves passes over memory; the rest of a step gains
nothing.
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
    """Use the compiled kernels in what is computed, and differentiated, inside."""
    token = FUSED.set(enabled)
    try:
        yield
    finally:
        FUSED.reset(token)


def is_fused() -> bool:
    """Whether `fused_kernels` holds; not within code that is itself compiled."""
    return not torch.compiler.is_compiling() and FUSED.get()


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function when it is first called: loading the compiler takes seconds."""

    @cache
    def ready() -> Callable[..., Any]:
        return compiled(function)

    @wraps(function)
    def call(*args: Any) -> Any:
        return ready()(*args)

    return call
