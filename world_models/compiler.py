"""`torch.compile` as this package uses it: one function, fixed shapes, no recompiled guards."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import torch

__all__ = ["check_compiler", "compiled"]

MAX_VERSIONS = 256  # of a function: one for each combination of shapes


def check_compiler(device: torch.device) -> None:
    """Raise RuntimeError where nothing can be compiled for a device."""
    if "isolate_recompiles" not in signature(torch.compile).parameters:
        raise RuntimeError(
            f"compiling needs a newer torch, such as 2.13, and this is {torch.__version__}"
        )
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise RuntimeError(
            f"compiling for a CPU needs a C++ compiler, and {compiler} was not found: install it "
            "(such as apt-get install g++), or do not compile"
        )


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the function, compiled anew for each combination of shapes it is called with."""
    return torch.compile(  # type: ignore[call-overload]
        function,
        dynamic=False,
        fullgraph=True,
        isolate_recompiles=True,  # or methods of two modules would share code
        recompile_limit=MAX_VERSIONS,
        options={"guard_filter_fn": _on_arguments, **options},
    )


def _on_arguments(guards: Sequence[Any]) -> list[bool]:
    """Keep the guards on arguments only: the function and its module never change."""
    modules = torch.compiler.skip_guard_on_all_nn_modules_unsafe(guards)
    return [of and not guard.is_global for of, guard in zip(modules, guards, strict=True)]
