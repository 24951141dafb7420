"""The space-time transformer that all models use. It is causal in time.

`forward` runs whole sequences in one pass. `step` runs one new frame, with the past in a
`KVCache`, and gives the same result.

Shapes: B batch, F frames in a pass, N = h * w tokens per frame, D width, H heads, E head dimension,
W past frames in the window, L temporal layers, P convolutions (PEG).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from world_models.kernels.geglu import geglu, geglu_plain
from world_models.kernels.neighbours import convolve
from world_models.kernels.qk_norm import qk_norm_plain
from world_models.model.attention import Attention, SpatialBias, temporal_bias
from world_models.model.kv_cache import CacheEntry, KVCache
from world_models.model.peg import Peg

__all__ = ["Activations", "BlockOptions", "Past", "SpaceTimeTransformer", "TransformerConfig"]


# Permutations of the axes ``(B, F, N, 3, H, E)``, without F in a step; see `Attention.project`.
SPACE, TIME = (3, 0, 1, 4, 2, 5), (3, 0, 2, 4, 1, 5)
SPACE_STEP, TIME_STEP = (2, 0, 3, 1, 4), (2, 0, 1, 3, 4)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Size of a space-time transformer.

    Attributes:
        dim: Width D.
        num_layers: Number of blocks. Each attends over space, then over time.
        num_heads: Number of attention heads H.
        head_dim: Head dimension E.
        ff_mult: Feed-forward width as a multiple of ``dim``, before GEGLU's factor of 2/3.
        ff_per_block: 2 puts a feed-forward layer after each attention layer, as in GenieRedux; 1
            only after the second one, as in Genie.
        window: Number of frames that temporal attention sees, including the current one.
        position_dim: Hidden width of the MLP that computes the spatial position bias.
        temporal: If False, frames are processed independently: there is no temporal attention, and
            PEG is only spatial.
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


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """Options that make the blocks like those in the published code; see docs/official.md.

    They are off by default.

    Attributes:
        raw_keys: Compute keys and values from the tokens before normalisation. Queries are still
            computed from the normalised tokens.
        ff_bias: Give the LayerNorm in feed-forward layers a bias.
    """

    raw_keys: bool = False
    ff_bias: bool = False


class Past(NamedTuple):
    """Inputs that all passes over a new frame share. They are computed before the first pass.

    Attributes:
        space_bias: Bias for spatial attention, ``(H, N, N)``.
        time_bias: Bias for temporal attention to past frames, ``(B, 1, H, W)``.
        keys: Keys of past frames, ``(L, B, N, H, W, E)``.
        values: Values of past frames, ``(L, B, N, H, W, E)``.
        tails: Contributions of past frames' convolutions to the new frame, ``(P, B, N, D)``.
    """

    space_bias: Tensor
    time_bias: Tensor
    keys: Tensor
    values: Tensor
    tails: Tensor

    def rows(self, rows: Tensor) -> Past:
        """Return a copy of the given rows (batch items)."""
        return Past(
            self.space_bias,
            self.time_bias[rows],
            self.keys[:, rows],
            self.values[:, rows],
            self.tails[:, rows],
        )


class Activations(NamedTuple):
    """Inputs, keys and values that the layers computed for one new frame.

    Attributes:
        inputs: Input of each layer, ``(B, N, D)``.
        keys: Keys of each temporal layer, ``(B, N, H, E)``.
        values: Values of each temporal layer, ``(B, N, H, E)``.
    """

    inputs: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]


class FeedForward(nn.Module):
    """A LayerNorm, GEGLU and a linear layer. Only the LayerNorm can have a bias (`norm_bias`)."""

    def __init__(self, dim: int, mult: float, norm_bias: bool = False):
        super().__init__()
        inner = int(mult * 2 / 3 * dim)
        self.norm = nn.LayerNorm(dim, bias=norm_bias)
        self.up = nn.Linear(dim, 2 * inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, gate: Callable[[Tensor], Tensor] = geglu) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``; the caller adds the residual.

        `gate` is `geglu`, or `geglu_plain` if no gradients are needed.
        """
        return self.down(gate(self.up(self.norm(x))))


class Layer(nn.Module):
    """Half a block: PEG, attention over one axis and feed-forward, all with skip connections."""

    def __init__(
        self,
        config: TransformerConfig,
        grid: tuple[int, int],
        over: str,
        ff: bool,
        options: BlockOptions,
    ):
        super().__init__()
        self.over = over
        self.peg = Peg(config.dim, grid, config.temporal)
        self.attention = Attention(
            config.dim, config.num_heads, config.head_dim, norm_all=not options.raw_keys
        )
        self.ff = FeedForward(config.dim, config.ff_mult, options.ff_bias) if ff else None

    def forward(self, x: Tensor, bias: Tensor, num_clean: int, skip: int = 0) -> Tensor:
        """Process all frames ``(B, F, N, D)``, and return all but the first `skip` frames.

        For `num_clean` see `SpaceTimeTransformer.all_but_last`.
        """
        x = self.peg(x, _autocast(x), num_clean)
        if self.over == "space":
            x = x[:, skip:]
            q, k, v = self.attention.project(_autocast(x), SPACE)  # (B, F, H, N, E)
            out = self.attention.attend(q, k, v, bias).transpose(2, 3)
        else:
            q, k, v = self.attention.project(_autocast(x), TIME)  # (B, N, H, F, E)
            x, q, bias = x[:, skip:], q[..., skip:, :], bias[..., skip:, :]
            out = self.attention.attend(q, k, v, bias).permute(0, 3, 1, 2, 4)
        x = _add(x, self.attention.out(out.flatten(-2)))
        return x if self.ff is None else _add(x, self.ff(_autocast(x)))

    def step(
        self,
        x: Tensor,
        tail: Tensor | None,
        bias: Tensor,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Process one new frame ``(B, N, D)``, without gradients.

        Args:
            x: The frame.
            tail: Contribution of past frames' convolutions to the frame; None if not `temporal`.
            bias: The spatial bias, or the temporal bias to past frames.
            past: Keys and values of past frames, ``(B, N, H, W, E)``; None in a spatial layer.

        Returns:
            The processed frame, its keys and its values.
        """
        x = x + self.peg.now(x)
        if tail is not None:
            x = x + tail
        if past is None:
            q, k, v = self.attention.project(x, SPACE_STEP, qk_norm_plain)  # (B, H, N, E)
            out = self.attention.attend(q, k, v, bias).transpose(1, 2)
        else:
            q, k, v = self.attention.project(x, TIME_STEP, qk_norm_plain)  # (B, N, H, E)
            out = self.attention.attend_past(q, k, v, *past, bias)
        x = x + self.attention.out(out.flatten(-2))
        return (x if self.ff is None else x + self.ff(x, geglu_plain)), k, v


class SpaceTimeTransformer(nn.Module):
    """Blocks of spatial and temporal attention, then a LayerNorm.

    Args:
        config: Size of the transformer.
        grid: Number of tokens along the height and width of a frame, (h, w).
        time_first: Attend over time before space in every block, as decoders do.
        options: See `BlockOptions`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        grid: tuple[int, int],
        time_first: bool = False,
        options: BlockOptions | None = None,
    ):
        super().__init__()
        options = options or BlockOptions()
        self.config, self.grid = config, grid
        axes = ["time", "space"] if time_first else ["space", "time"]
        axes = axes if config.temporal else ["space"]
        self.layers = nn.ModuleList(
            Layer(config, grid, over, config.ff_per_block == 2 or over == axes[-1], options)
            for _ in range(config.num_layers)
            for over in axes
        )
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.space_bias = SpatialBias(grid, config.num_heads, config.position_dim)

    # Whole sequences ------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Run a sequence of frames ``(B, F, N, D)`` at once."""
        return self.last_layer(self.all_but_last(x))

    def all_but_last(self, x: Tensor, num_clean: int | None = None, num_frozen: int = 0) -> Tensor:
        """Run all layers but the last one.

        With ``num_clean=T``, the first T frames of the pass are clean. The other F - T frames are
        *masked copies* of the last F - T clean frames: copies in which some tokens are masked. A
        masked copy attends to the *clean* frames before it and to itself, never to another masked
        copy. So in one pass, every frame sees what it would see while it is sampled.

        Args:
            x: The frames, ``(B, F, N, D)``.
            num_clean: Number of clean frames T; by default F, which makes a plain causal pass.
            num_frozen: In this many layers, counted from the first, no gradient flows back into the
                clean frames. This saves two thirds of the time for clean frames. Masked copies
                still learn what to attend to.
        """
        num_clean = x.shape[1] if num_clean is None else num_clean
        bias = {"space": self.space_bias(), "time": self._time_bias(x, num_clean)}
        if num_frozen:
            x = self._frozen(x, num_clean, bias, num_frozen)
        for layer in self.layers[num_frozen:-1]:
            x = layer(x, bias[layer.over], num_clean)  # type: ignore[index]
        return x

    def last_layer(self, x: Tensor, num_clean: int | None = None) -> Tensor:
        """Run the last layer and the final norm on ``(B, F, N, D)``.

        With `num_clean`, only the masked copies, which follow the first `num_clean` frames, are
        computed and returned; see `all_but_last`.
        """
        last, skip = self.layers[-1], num_clean or 0
        num_clean = x.shape[1] if num_clean is None else num_clean
        bias = self.space_bias() if last.over == "space" else self._time_bias(x, num_clean)
        return self.norm(last(x, bias, num_clean, skip))

    def _frozen(
        self, x: Tensor, num_clean: int, bias: dict[str, Tensor], num_layers: int
    ) -> Tensor:
        """Run the first `num_layers` layers, without gradients into clean frames."""
        clean, second = x[:, :num_clean], x[:, num_clean:]
        alone = {**bias, "time": bias["time"][..., :num_clean, :num_clean]}
        for layer in self.layers[:num_layers]:
            over = layer.over
            both = torch.cat((clean.detach(), second), 1)
            second = layer(both, bias[over], num_clean, skip=num_clean)  # type: ignore[index]
            with torch.no_grad():
                clean = layer(clean, alone[over], num_clean)  # type: ignore[index]
        return torch.cat((clean, second), 1)

    def _time_bias(self, x: Tensor, num_clean: int) -> Tensor:
        frames = torch.arange(x.shape[1], device=x.device)
        time = torch.where(frames < num_clean, frames, frames - (x.shape[1] - num_clean))
        ages = time[:, None] - time[None]  # (F, F)
        itself = frames[:, None] == frames[None]
        past = (ages > 0) & (ages < self.config.window) & (frames < num_clean)[None]
        return temporal_bias(ages, itself | past, self.config.num_heads)

    # One new frame --------------------------------------------------------------------------

    def empty_cache(self, batch: int) -> KVCache:
        """Create the cache for a batch of sequences that have not seen any frame."""
        c, num_tokens = self.config, self.grid[0] * self.grid[1]
        num_time = sum(layer.over == "time" for layer in self.layers)
        return KVCache.empty(
            self.norm.weight,
            batch,
            ring=(num_time, num_tokens, c.num_heads, c.window - 1, c.head_dim),
            tails=(len(self.layers) if c.temporal else 0, num_tokens, c.dim),
        )

    def past(self, cache: KVCache, space_bias: Tensor | None = None) -> Past:
        """Prepare the passes over the next frame. The spatial bias is computed by default."""
        space_bias = self.space_bias() if space_bias is None else space_bias
        if not self.config.temporal:
            return self.spatial_past(space_bias)
        ages = cache.ages()  # (B, W)
        visible = ages <= cache.length[:, None]
        bias = temporal_bias(ages[:, None], visible[:, None], self.config.num_heads)
        bias = bias.transpose(1, 2).to(cache.keys.dtype)  # (B, 1, H, W)
        return Past(space_bias, bias, cache.keys, cache.values, cache.tails[:, 0])

    @staticmethod
    def spatial_past(space_bias: Tensor) -> Past:
        """Return the `Past` for a transformer that is not temporal: only the spatial bias."""
        nothing = space_bias[:0]
        return Past(space_bias, nothing, nothing, nothing, nothing)

    def step(self, x: Tensor, past: Past) -> tuple[Tensor, Activations]:
        """Run one new frame ``(B, N, D)``, given the past, which does not change.

        Returns:
            What `forward` would return for this frame, and the activations that `entry` takes.
        """
        activations, ring = Activations([], [], []), 0
        for i, layer in enumerate(self.layers):
            activations.inputs.append(x)
            tail = past.tails[i] if self.config.temporal else None
            if layer.over == "space":
                x, _, _ = layer.step(x, tail, past.space_bias)  # type: ignore[operator]
                continue
            known = past.keys[ring], past.values[ring]
            x, keys, values = layer.step(x, tail, past.time_bias, known)  # type: ignore[operator]
            ring += 1
            activations.keys.append(keys)
            activations.values.append(values)
        return self.norm(x), activations

    def entry(self, activations: Activations) -> CacheEntry | None:
        """Return the cache entry for a frame that `step` has run, or None if not `temporal`."""
        if not self.config.temporal:
            return None
        # One convolution over P * D channels does the work of all layers' convolutions.
        frames = torch.cat(activations.inputs, -1)  # (B, N, P * D)
        taps = torch.cat([layer.peg.taps for layer in self.layers], 1)  # type: ignore[union-attr, misc]
        tails = torch.stack([convolve(frames, self.grid, tap) for tap in (taps[1], taps[0])])
        return CacheEntry(
            torch.stack(activations.keys),
            torch.stack(activations.values),
            tails.unflatten(-1, (len(self.layers), -1)).movedim(-2, 0),
        )


def _add(x: Tensor, more: Tensor) -> Tensor:
    """Return the sum in the dtype of ``x``, written over ``more`` if possible."""
    more = more.to(x.dtype)
    # torch 2.13 cannot compile in-place sums into a matrix multiplication.
    return x + more if torch.compiler.is_compiling() else more.add_(x)


def _autocast(x: Tensor) -> Tensor:
    """Cast to autocast's dtype, so that the operations that follow move half as much memory."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
