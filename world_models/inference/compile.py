"""Steps of a model, compiled for the machine at hand.

On a CPU, weights of half precision become constants of what is compiled: they are laid out once as
its matrix units take them, in whole tiles, and of the matrix products that the compiler can write
the fastest is found out by trying.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["check_compiler", "compiled", "compiled_methods", "settled", "twin"]

M = TypeVar("M", bound=nn.Module)

TILE = 32  # numbers that a matrix unit takes from a row
MOST = 256  # versions of a function: one per number of rows
TUNED = {
    "cpp_wrapper": True,
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "max_autotune_report_choices_stats": False,
    "autotune_num_choices_displayed": 0,
}


def check_compiler(device: torch.device) -> None:
    """Raises RuntimeError where nothing can be compiled for a device."""
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
    """The function, compiled when it first meets shapes; it never shares that with another."""
    return torch.compile(  # type: ignore[call-overload]
        function,
        dynamic=False,
        fullgraph=True,  # pieces of it would share code, whatever module they are of
        isolate_recompiles=True,
        recompile_limit=MOST,
        options={"guard_filter_fn": _of_arguments, **options},
    )


def _of_arguments(guards: Sequence[Any]) -> list[bool]:
    """Which guards are on arguments: one function, one module, and neither changes."""
    modules = torch.compiler.skip_guard_on_all_nn_modules_unsafe(guards)
    return [of and not guard.is_global for of, guard in zip(modules, guards, strict=True)]


def compiled_methods(part: nn.Module, *names: str) -> dict[str, Callable[..., Any]]:
    """Methods of a module as it is now, compiled, for use without gradients."""
    weight = next(part.parameters())
    if weight.device.type != "cpu" or weight.element_size() != 2:
        return {name: compiled(getattr(type(part), name).__get__(part)) for name in names}
    own = _in_tiles(copy.deepcopy(part))
    return {name: _frozen(getattr(type(own), name).__get__(own)) for name in names}


def _frozen(function: Callable[..., Any]) -> Callable[..., Any]:
    from torch._inductor import config

    run, freezing = compiled(function, **TUNED), config.patch(freezing=True)

    def frozen(*args: Any) -> Any:
        with freezing:  # while the function is traced
            return run(*args)

    return frozen


def twin(part: M) -> M:
    """A module of the same weights that can be given other parts and methods."""
    own = copy.copy(part)
    own._modules = part._modules.copy()
    return own


@torch.no_grad()
def settled(part: M, name: str) -> M:
    """A `twin` in which what some part or method makes of the weights alone is made for good."""
    own, value = twin(part), getattr(part, name)()
    own._modules.pop(name, None)
    setattr(own, name, lambda: value)
    return own


class _Tiled(nn.Module):
    """A linear layer, filled up with zeros to whole tiles."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.num_out, num_in = layer.weight.shape
        self.more_in, more_out = -num_in % TILE, -self.num_out % TILE
        self.weight = nn.Parameter(F.pad(layer.weight.detach(), (0, self.more_in, 0, more_out)))
        bias = layer.bias
        self.bias = None if bias is None else nn.Parameter(F.pad(bias.detach(), (0, more_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return F.linear(F.pad(x, (0, self.more_in)), self.weight, self.bias)[..., : self.num_out]


def _in_tiles(part: M) -> M:
    """Replace the linear layers of a module that do not fill their tiles."""
    for name, child in part.named_children():
        if not isinstance(child, nn.Linear):
            _in_tiles(child)
        elif any(size % TILE for size in child.weight.shape):
            setattr(part, name, _Tiled(child))
    return part
