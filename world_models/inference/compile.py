"""Compiled dreams: `torch.compile` applied to the few functions that make up a step.

The compiled functions cover:

* a sampling pass, including the unmasking of tokens;
* the pass over the finished frame, which computes the cache entry, the reward and the termination;
* the decoding of tokens to pixels.

On a CPU, half-precision weights become constants in the compiled code. They are padded to whole
tiles of the CPU's matrix units, and autotuning chooses the fastest implementation of each matrix
multiplication.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.compiler import check_compiler, compiled
from world_models.inference.sampling import MaskedTokens, Pass, unmask
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics, StepInputs
from world_models.model.kv_cache import KVCache
from world_models.model.objectives import NextFrame
from world_models.model.objectives.two_stream import TwoStreamFrame
from world_models.model.token_space import SamplingConfig

__all__ = ["CompiledWorld", "Compiler"]

M = TypeVar("M", bound=nn.Module)

TILE = 32  # a tile of the CPU's matrix units holds this many numbers per row
TUNED = {  # options for torch.compile
    "cpp_wrapper": True,
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "max_autotune_report_choices_stats": False,
    "autotune_num_choices_displayed": 0,
}


class CompiledWorld(WorldModel):
    """A world model with a compiled `step`, built from the current weights of another world model.

    The compiled `step` is faster, especially for small batches. The first steps at each new batch
    size take up to several minutes, so compiling pays off for long dreams with few different batch
    sizes. The order in which numbers are summed, and so the rounding, may depend on the batch size.

    Raises:
        RuntimeError: If no compiler is available. Compiling for a CPU requires a C++ compiler.
    """

    def __init__(self, world: WorldModel):
        check_compiler(next(world.parameters()).device)
        super().__init__(
            world.tokenizer, world.dynamics, world.sampling, world.latent_action, world.rewards
        )
        self.train(world.training)
        self._compiled: Any = CompiledDynamics(world.dynamics)
        self._decode_frame: Callable[..., Any] = world.tokenizer.decode_frame
        with torch.no_grad():
            self._derived = world.tokenizer.derived()
        if world.tokenizer.has_network:
            compiler = Compiler(world.tokenizer)
            self._decode_frame = compiler(compiler.part.decode_frame)

    @property
    def _runner(self) -> Any:
        return self._compiled

    def _fused(self, frame: NextFrame) -> Pass | None:
        if not isinstance(frame, TwoStreamFrame):
            return None

        def fused(
            canvas: MaskedTokens, rows: Tensor, schedule: Tensor, noise: Tensor
        ) -> tuple[MaskedTokens, Tensor]:
            inputs = frame.inputs.rows(rows)
            return self._compiled.sampling_pass(canvas, inputs, schedule, noise, self.sampling)

        return fused

    def _decode(self, tokens: Tensor, cache: KVCache, previous: Tensor) -> tuple[Tensor, KVCache]:
        inputs = self.tokenizer.decode_inputs(cache, self._derived)
        frames, entry = self._decode_frame(tokens, inputs, previous)
        return frames, cache.write(entry)


class CompiledDynamics:
    """Compiled versions of the `Dynamics` methods that dreams call."""

    def __init__(self, dynamics: Dynamics):
        compiler = Compiler(dynamics)
        own = compiler.part
        self._dynamics = dynamics
        with torch.no_grad():
            self._derived = dynamics.derived()
        self.step, self.finish = compiler(own.step), compiler(own.finish)
        self.predict = compiler(own.predict)

        def sampling_pass(
            canvas: MaskedTokens,
            inputs: StepInputs,
            schedule: Tensor,
            noise: Tensor,
            config: SamplingConfig,
        ) -> tuple[MaskedTokens, Tensor]:
            logits, _ = own.step(canvas.tokens, inputs)
            return unmask(canvas, logits, schedule, noise, config, own.space)

        self.sampling_pass = compiler(sampling_pass)

    def inputs(self, cache: KVCache, actions: Tensor, frames: Tensor) -> StepInputs:
        """See `Dynamics.inputs`."""
        return self._dynamics.inputs(cache, actions, frames, self._derived)


class Compiler:
    """Compiles functions of one module with its current weights, for use without gradients.

    Attributes:
        part: The module whose methods are compiled: the given module or, for half precision on a
            CPU, a copy of it with padded layers.
    """

    def __init__(self, part: Any):
        weight = next(part.parameters())
        self._freezing = weight.device.type == "cpu" and weight.element_size() == 2
        self.part = _in_tiles(copy.deepcopy(part)) if self._freezing else part

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile a function, and return the compiled version."""
        if not self._freezing:
            return compiled(function)
        from torch._inductor import config

        run, freezing = compiled(function, **TUNED), config.patch(freezing=True)

        def frozen(*args: Any) -> Any:
            with freezing:  # takes effect when the first call traces the function
                return run(*args)

        return frozen


class _Tiled(nn.Module):
    """A linear layer whose weight is padded with zeros to whole tiles."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.num_out, num_in = layer.weight.shape
        self.more_in, more_out = -num_in % TILE, -self.num_out % TILE
        self.weight = nn.Parameter(F.pad(layer.weight.detach(), (0, self.more_in, 0, more_out)))
        bias = layer.bias
        self.bias = None if bias is None else nn.Parameter(F.pad(bias.detach(), (0, more_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs ``(..., in)`` to outputs ``(..., out)``."""
        return F.linear(F.pad(x, (0, self.more_in)), self.weight, self.bias)[..., : self.num_out]


def _in_tiles(part: M) -> M:
    """Pad a module's linear layers that do not fill whole tiles, and return the module."""
    for name, child in part.named_children():
        if not isinstance(child, nn.Linear):
            _in_tiles(child)
        elif any(size % TILE for size in child.weight.shape):
            setattr(part, name, _Tiled(child))
    return part
