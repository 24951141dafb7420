"""The space-time transformer under every model: causal in time, trained in one pass, streamed.

One code path serves training and two-stream training; `step` is the same computation for one new
frame against a `StreamCache`.

Shapes: B batch, F frames of a pass, N = h * w tokens per frame, D width, H heads, E width of a
head, W window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from world_models import fused
from world_models.attention import Attention, SpatialBias, alibi_slopes, narrow, temporal_bias
from world_models.cache import StreamCache, Trace
from world_models.peg import Peg, convolve

__all__ = [
    "FeedForward",
    "LayerTrace",
    "SpaceTimeTransformer",
    "StepPlan",
    "TransformerConfig",
    "geglu",
]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Size of a space-time transformer.

    Attributes:
        dim: Width D.
        num_layers: Number of blocks; each attends over space, then over time.
        num_heads: Attention heads H.
        head_dim: Width E of a head.
        ff_mult: Feed-forward width as a multiple of ``dim``, before GEGLU's 2/3.
        ff_per_block: 2 has a feed-forward after each attention (GenieRedux), 1 only after the
            second (Genie).
        window: Temporal attention sees this many frames, the current one included.
        position_dim: Hidden width of the spatial position bias.
        temporal: Without it every frame stands alone: no temporal attention, no mixing in PEG.
    """

    dim: int = 512
    num_layers: int = 8
    num_heads: int = 8
    head_dim: int = 64
    ff_mult: float = 4.0
    ff_per_block: int = 2
    window: int = 16
    position_dim: int = 512
    temporal: bool = True

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "head_dim", "window", "position_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.ff_per_block not in (1, 2):
            raise ValueError(f"ff_per_block must be 1 or 2, got {self.ff_per_block}")


class FeedForward(nn.Module):
    """LayerNorm, GEGLU, linear; no biases."""

    def __init__(self, dim: int, mult: float):
        super().__init__()
        inner = int(mult * 2 / 3 * dim)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.up = nn.Linear(dim, 2 * inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``; the caller adds the residual."""
        return self.down(geglu(self.up(self.norm(narrow(x)))))


def geglu(x: Tensor) -> Tensor:
    """Map ``(..., 2 I)``, values and gates, to ``(..., I)``."""
    if fused.is_fusing():
        return fused.geglu(x)
    if torch.is_grad_enabled():
        return _Geglu.apply(x)
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate.contiguous())  # twice as fast as in strides


class _Geglu(torch.autograd.Function):
    """Written out because the composed gradient is put together once more than needed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        gate = gate.contiguous()
        opened = F.gelu(gate)
        ctx.save_for_backward(value, gate, opened)
        return value * opened

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Tensor:
        value, gate, opened = ctx.saved_tensors
        inner = outer.new_empty(*outer.shape[:-1], 2 * outer.shape[-1])
        of_value, of_gate = inner.chunk(2, dim=-1)
        torch.mul(outer, opened, out=of_value)
        of_gate.copy_(torch.ops.aten.gelu_backward(outer * value, gate))
        return inner


class Layer(nn.Module):
    """Half a block: PEG, attention over one axis, feed-forward, each as a residual."""

    def __init__(self, config: TransformerConfig, grid: tuple[int, int], over: str, ff: bool):
        super().__init__()
        self.over = over
        self.peg = Peg(config.dim, grid, config.temporal)
        self.attention = Attention(config.dim, config.num_heads, config.head_dim)
        self.ff = FeedForward(config.dim, config.ff_mult) if ff else None

    def forward(self, x: Tensor, bias: Tensor, num_context: int, skip: int = 0) -> Tensor:
        """Run all frames ``(B, F, N, D)``, and return those from the `skip`-th on.

        See `SpaceTimeTransformer.enter`.
        """
        x = self.peg(x, num_context)
        if self.over == "space":
            x = x[:, skip:]
            q, k, v = self.attention.project(x, (0, 1, 3, 2, 4))  # (B, F, H, N, E)
            out = self.attention.attend(q, k, v, bias).transpose(2, 3)
        else:
            q, k, v = self.attention.project(x, (0, 2, 3, 1, 4))  # (B, N, H, F, E)
            x, q, bias = x[:, skip:], q[..., skip:, :], bias[..., skip:, :]
            out = self.attention.attend(q, k, v, bias).permute(0, 3, 1, 2, 4)
        return self._finish(x, out)

    def step(
        self, x: Tensor, bias: Tensor, tail: Tensor | None, past: Past | None
    ) -> tuple[Tensor, LayerTrace]:
        """Run one new frame ``(B, N, D)`` against the past."""
        frame = x
        x = x + self.peg.now(x)
        if tail is not None:
            x = x + tail
        if past is None:
            q, k, v = self.attention.project(x, (0, 2, 1, 3))  # (B, H, N, E)
            out = self.attention.attend(q, k, v, bias).transpose(1, 2)
        else:
            q, k, v = self.attention.project(x, (0, 1, 2, 3))  # (B, N, H, E)
            out = self.attention.attend_past(q, k, v, past.keys, past.values, bias)
        return self._finish(x, out), LayerTrace(frame, k, v)

    def _finish(self, x: Tensor, out: Tensor) -> Tensor:
        x = _sum(x, self.attention.merge(out))
        return x if self.ff is None else _sum(x, self.ff(x))


def _sum(x: Tensor, more: Tensor) -> Tensor:
    """Their sum as ``x`` is typed, written over ``more`` where that may be."""
    more = more.to(x.dtype)
    # Sums in place are more than torch 2.13 can compile into a matrix product.
    return x + more if torch.compiler.is_compiling() else more.add_(x)


class Past(NamedTuple):
    """Keys and values of one temporal layer, ``(B, N, H, W, E)`` each."""

    keys: Tensor
    values: Tensor


class LayerTrace(NamedTuple):
    """What a layer knows of a new frame: what entered it ``(B, N, D)``, keys and values."""

    frame: Tensor
    keys: Tensor
    values: Tensor


class StepPlan(NamedTuple):
    """What all passes over one new frame share: computed once, before the first pass.

    Attributes:
        space_bias: ``(H, N, N)``.
        time_bias: Towards the past, ``(B, 1, H, W)``.
        keys: Those of the cache, ``(L, B, N, H, W, E)``, as they are.
        values: The same.
        tails: What the convolutions of the past add to the new frame, ``(P, B, N, D)``.
    """

    space_bias: Tensor
    time_bias: Tensor
    keys: Tensor
    values: Tensor
    tails: Tensor

    def rows(self, rows: Tensor) -> StepPlan:
        """That of some rows, copied."""
        return StepPlan(
            self.space_bias,
            self.time_bias[rows],
            *(x[:, rows] for x in (self.keys, self.values, self.tails)),
        )


class SpaceTimeTransformer(nn.Module):
    """Blocks of spatial and temporal attention, then a LayerNorm.

    Args:
        config: Its size.
        grid: Tokens of a frame as (h, w).
        time_first: Attend over time before space in every block, as the decoders do.
    """

    def __init__(self, config: TransformerConfig, grid: tuple[int, int], time_first: bool = False):
        super().__init__()
        self.config, self.grid = config, grid
        axes = ["time", "space"] if time_first else ["space", "time"]
        axes = axes if config.temporal else ["space"]
        self.layers = nn.ModuleList(
            Layer(config, grid, over, ff=config.ff_per_block == 2 or over == axes[-1])
            for _ in range(config.num_layers)
            for over in axes
        )
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.space_bias = SpatialBias(grid, config.num_heads, config.position_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Run a sequence of frames ``(B, F, N, D)`` at once."""
        return self.leave(self.enter(x))

    def enter(self, x: Tensor, num_context: int | None = None, num_apart: int = 0) -> Tensor:
        """Run all layers but the last.

        With ``num_context=T`` the first T frames of the pass are the context and the other F - T
        are second versions of the last F - T of them: each sees the *context* frames before it,
        and itself, never another second version. That is what a frame under generation sees, for
        all frames in one pass.

        Args:
            x: ``(B, F, N, D)``.
            num_context: T; by default F, a plain causal pass.
            num_apart: In so many of the first layers no gradient flows back into the context,
                which saves two thirds of its time there; second versions still learn how to look
                at it.
        """
        num_context = x.shape[1] if num_context is None else num_context
        bias = {"space": self.space_bias(), "time": self._time_bias(x, num_context)}
        if num_apart:
            x = self._enter_apart(x, num_context, bias, self.layers[:num_apart])
        for layer in self.layers[num_apart:-1]:
            x = layer(x, bias[layer.over], num_context)  # type: ignore[index]
        return x

    def _enter_apart(
        self, x: Tensor, num_context: int, bias: dict[str, Tensor], layers: Iterable[nn.Module]
    ) -> Tensor:
        """The layers whose context is computed without gradients, beside its second versions."""
        context, second = x[:, :num_context], x[:, num_context:]
        alone = {**bias, "time": bias["time"][..., :num_context, :num_context]}
        for layer in layers:
            over = layer.over
            both = torch.cat((context.detach(), second), 1)
            second = layer(both, bias[over], num_context, skip=num_context)  # type: ignore[index]
            with torch.no_grad():
                context = layer(context, alone[over], num_context)  # type: ignore[index]
        return torch.cat((context, second), 1)

    def leave(self, x: Tensor, num_context: int | None = None) -> Tensor:
        """Run the last layer on what `enter` returns; of second versions, return these alone.

        What only others look at there need not be finished itself.
        """
        last, skip = self.layers[-1], num_context or 0
        num_context = x.shape[1] if num_context is None else num_context
        bias = self.space_bias() if last.over == "space" else self._time_bias(x, num_context)
        return self.norm(last(x, bias, num_context, skip))

    def open(self, batch: int) -> StreamCache:
        """Return the cache of rows that have seen no frame."""
        c, tokens = self.config, self.grid[0] * self.grid[1]
        num_time = sum(layer.over == "time" for layer in self.layers)
        like = self.norm.weight
        ring = (num_time, batch, tokens, c.num_heads, c.window - 1, c.head_dim)
        num_pegs = len(self.layers) if c.temporal else 0
        return StreamCache(
            keys=like.new_zeros(ring),
            values=like.new_zeros(ring),
            tails=like.new_zeros(num_pegs, 2, batch, tokens, c.dim),
            length=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def plan(self, cache: StreamCache) -> StepPlan:
        """Prepare the passes over the next frame."""
        ages = cache.ages()  # (B, W)
        visible = ages <= cache.length[:, None]
        slopes = alibi_slopes(self.config.num_heads, ages.device)
        bias = temporal_bias(ages[:, None], visible[:, None], slopes)
        bias = bias.transpose(1, 2).to(cache.keys.dtype)  # (B, 1, H, W)
        return StepPlan(self.space_bias(), bias, cache.keys, cache.values, cache.tails[:, 0])

    def step(self, x: Tensor, plan: StepPlan) -> tuple[Tensor, list[LayerTrace]]:
        """Run one new frame ``(B, N, D)`` against the past, and change nothing.

        Returns:
            What `forward` would return for this frame, and what `trace` takes.
        """
        rings, traces = iter(range(len(plan.keys))), []
        for i, layer in enumerate(self.layers):
            bias, past = plan.space_bias, None
            if layer.over == "time":
                ring = next(rings)
                bias, past = plan.time_bias, Past(plan.keys[ring], plan.values[ring])
            tail = plan.tails[i] if self.config.temporal else None
            x, trace = layer.step(x, bias, tail, past)  # type: ignore[operator]
            traces.append(trace)
        return self.norm(x), traces

    def trace(self, traces: list[LayerTrace]) -> Trace | None:
        """What the frame of a step leaves behind; None if frames stand alone."""
        if not self.config.temporal:
            return None
        timed = [t for layer, t in zip(self.layers, traces, strict=True) if layer.over == "time"]
        # All layers' convolutions at once, as one over P * D channels.
        frames = torch.cat([trace.frame for trace in traces], -1)  # (B, N, P * D)
        taps = torch.cat([layer.peg.taps for layer in self.layers], 1)  # type: ignore[union-attr, misc]
        tails = torch.stack([convolve(frames, self.grid, tap) for tap in (taps[1], taps[0])])
        return Trace(
            torch.stack([t.keys for t in timed]),
            torch.stack([t.values for t in timed]),
            tails.unflatten(-1, (len(traces), -1)).movedim(-2, 0),
        )

    def _time_bias(self, x: Tensor, num_context: int) -> Tensor:
        frames = torch.arange(x.shape[1], device=x.device)
        extra = x.shape[1] - num_context
        time = torch.where(frames < num_context, frames, frames - extra)
        ages = time[:, None] - time[None]  # (F, F)
        itself = frames[:, None] == frames[None]
        past = (ages > 0) & (ages < self.config.window) & (frames < num_context)[None]
        return temporal_bias(ages, itself | past, alibi_slopes(self.config.num_heads, x.device))
