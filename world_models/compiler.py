"""Calls `torch.compile` as this package needs it: whole functions, fixed shapes, few guards."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["check_compiler", "compiled", "uncompiled"]

P = ParamSpec("P")
R = TypeVar("R")
MAX_VERSIONS = 256  # limit on a function's compiled versions, one per combination of shapes


def check_compiler(device: torch.device) -> None:
    """Raise RuntimeError if functions cannot be compiled for a device."""
    if "isolate_recompiles" not in signature(torch.compile).parameters:
        raise RuntimeError(
            f"compiling needs torch 2.13, but torch {torch.__version__} is installed; "
            "run: pip install -U torch"
        )
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise RuntimeError(
            f"compiling for a CPU needs a C++ compiler, but {compiler} was not found: install it "
            "(for example, run: apt-get install g++), or do not compile"
        )


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a compiled version of a function. Each new combination of shapes recompiles it."""
    return torch.compile(  # type: ignore[call-overload]
        function,
        dynamic=False,
        fullgraph=True,
        isolate_recompiles=True,  # otherwise methods of two modules would share compiled code
        recompile_limit=MAX_VERSIONS,
        options={"guard_filter_fn": _on_arguments, **options},
    )


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Exclude a function from compilation.

    It is excluded on the first call, because `torch.compiler.disable` takes seconds to load.
    """
    excluded: list[Callable[P, R]] = []

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not excluded:
            excluded.append(torch.compiler.disable(function))
        return excluded[0](*args, **kwargs)

    return call


def _on_arguments(guards: Sequence[Any]) -> list[bool]:
    """Keep only the guards on arguments, because the function and its module never change."""
    modules = torch.compiler.skip_guard_on_all_nn_modules_unsafe(guards)
    return [of and not guard.is_global for of, guard in zip(modules, guards, strict=True)]
