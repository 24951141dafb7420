"""Converts the networks that all official models share: renames and reorders their tensors.

Shapes: D width, H heads, E head dimension, P pixels per patch, K codes, C code dimension.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

from world_models.model.transformer import TransformerConfig
from world_models.worlds.official.checkpoint import OfficialError, PartTensors

__all__ = ["coder", "linear", "position_bias", "transformer", "transformer_config", "within"]

Weights = dict[str, Tensor]
CHANNELS = 3
FF_MULT = 4.0  # value in the published models
AXES = {"space": "spatial", "time": "temporal"}


def transformer_config(
    source: PartTensors, prefix: str, bias: str, window: int
) -> TransformerConfig:
    """Infer the size of a transformer from the shapes of its tensors.

    The tensors' names begin with `prefix`, or with `bias` in the position bias. The transformer
    attends to `window` frames.
    """
    first = f"{prefix}layers.0.0.spatial_"
    (dim,) = source.shape(f"{prefix}norm_out.gamma", 1)
    (head_dim,) = source.shape(f"{first}attention.q_scale", 1)
    inner, _ = source.shape(f"{first}attention.to_q.weight", 2)
    _, gated = source.shape(f"{first}ff.4.weight", 2)
    hidden, _ = source.shape(f"{bias}net.0.0.weight", 2)
    usual = gated == int(FF_MULT * 2 / 3 * dim)
    return TransformerConfig(
        dim=dim,
        num_layers=source.num_blocks(prefix),
        num_heads=inner // head_dim,
        head_dim=head_dim,
        ff_mult=FF_MULT if usual else (gated + 0.5) * 1.5 / dim,
        window=window,
        position_dim=hidden,
    )


def transformer(
    source: PartTensors, prefix: str, config: TransformerConfig, time_first: bool = False
) -> Weights:
    """Return the weights for a `SpaceTimeTransformer`, without its position bias."""
    axes = ["time", "space"] if time_first else ["space", "time"]
    places = [(block, over) for block in range(config.num_layers) for over in axes]
    weights = {"norm.weight": source.take(f"{prefix}norm_out.gamma", config.dim)}
    source.skip(f"{prefix}norm_out.beta")
    for number, (block, over) in enumerate(places):
        layer = _layer(source, f"{prefix}layers.{block}.0.{AXES[over]}_", config)
        weights |= within(f"layers.{number}.", layer)
    return weights


def position_bias(source: PartTensors, prefix: str, config: TransformerConfig) -> Weights:
    """Return the weights for the MLP in a `SpatialBias`."""
    hidden, heads = config.position_dim, config.num_heads
    sizes = {"0.0": (0, 2, hidden), "1.0": (2, hidden, hidden), "2": (4, hidden, heads)}
    weights: Weights = {}
    for name, (number, num_in, num_out) in sizes.items():
        weights |= within(f"mlp.{number}.", linear(source, f"{prefix}net.{name}", num_in, num_out))
    return weights


def coder(source: PartTensors, config: TransformerConfig, patch: int) -> Weights:
    """Return the weights of encoder, decoder, codebook, patch embeddings and pixel heads."""
    bias = position_bias(source, "spatial_rel_pos_bias.", config)
    weights: Weights = {}
    for name in ("encoder", "decoder"):
        network = transformer(source, f"{name}.", config, time_first=name == "decoder")
        weights |= within(f"{name}.", network) | within(f"{name}.space_bias.", bias)
    for place, suffix in (("first", "_first_frame"), ("later", "")):
        embedding = _patch_embedding(source, f"to_patch_emb{suffix}.", config.dim, patch)
        head = linear(source, f"to_pixels{suffix}.0", config.dim, CHANNELS * patch**2)
        weights |= within(f"patches.{place}.", embedding)
        weights |= {f"to_patches.{place}.{k}": _pixels_last(x, patch) for k, x in head.items()}
    return weights | within("quantizer.", _quantizer(source, config))


def _quantizer(source: PartTensors, config: TransformerConfig) -> Weights:
    book = "vq._codebook."
    _, num_codes, code_dim = source.shape(f"{book}embed", 3)
    source.skip(*(f"{book}{name}" for name in ("initted", "cluster_size", "embed_avg")))
    return {
        "codebook": source.take(f"{book}embed", 1, num_codes, code_dim)[0],
        "unused": torch.zeros(num_codes, dtype=torch.int64),
        **within("project_in.", linear(source, "vq.project_in", config.dim, code_dim)),
        **within("project_out.", linear(source, "vq.project_out", code_dim, config.dim)),
    }


def patch_size(source: PartTensors) -> int:
    """Return the height and width of a patch in pixels."""
    _, size = source.shape("to_patch_emb.2.weight", 2)
    patch = math.isqrt(size // CHANNELS)
    if CHANNELS * patch**2 != size:
        raise OfficialError(
            f"{source.source}: patches have {size} values, expected 3 x patch x patch; only models "
            "with square patches of single RGB frames can be imported"
        )
    return patch


def _layer(source: PartTensors, prefix: str, config: TransformerConfig) -> Weights:
    dim, heads, head = config.dim, config.num_heads, config.head_dim
    inner, gated = heads * head, int(config.ff_mult * 2 / 3 * dim)
    attention = f"{prefix}attention."
    source.skip(*(f"{attention}{x}" for x in ("norm.beta", "context_norm.gamma")))
    source.skip(f"{attention}context_norm.beta")
    scales = [source.take(f"{attention}{x}_scale", head) for x in ("q", "k")]
    taps = source.take(f"{prefix}peg.dsconv.weight", dim, 1, 3, 3, 3)
    return {
        "peg.taps": taps.permute(2, 0, 1, 3, 4),  # (3, D, 1, 3, 3), oldest first
        "peg.bias": source.take(f"{prefix}peg.dsconv.bias", dim),
        "attention.norm.weight": source.take(f"{attention}norm.gamma", dim),
        "attention.q.weight": source.take(f"{attention}to_q.weight", inner, dim),
        "attention.kv.weight": source.take(f"{attention}to_kv.weight", 2 * inner, dim),
        "attention.gain": torch.stack(scales)[:, None],  # (2, 1, E)
        "attention.out.weight": source.take(f"{attention}to_out.weight", dim, inner),
        "ff.norm.weight": source.take(f"{prefix}ff.0.weight", dim),
        "ff.norm.bias": source.take(f"{prefix}ff.0.bias", dim),
        "ff.up.weight": source.take(f"{prefix}ff.1.weight", 2 * gated, dim),
        "ff.down.weight": source.take(f"{prefix}ff.4.weight", dim, gated),
    }


def _patch_embedding(source: PartTensors, prefix: str, dim: int, patch: int) -> Weights:
    size = CHANNELS * patch**2
    norm = {k: source.take(f"{prefix}1.{k}", size) for k in ("weight", "bias")}
    embed = linear(source, f"{prefix}2", size, dim)
    out = {f"out.{k}": source.take(f"{prefix}3.{k}", dim) for k in ("weight", "bias")}
    return {
        **{f"norm.{k}": _pixels_last(x, patch) for k, x in norm.items()},
        "linear.weight": _pixels_last(embed["weight"].T, patch).T,
        "linear.bias": embed["bias"],
        **out,
    }


def linear(source: PartTensors, name: str, num_in: int, num_out: int) -> Weights:
    """Return the weights of a linear layer with a bias."""
    return {
        "weight": source.take(f"{name}.weight", num_out, num_in),
        "bias": source.take(f"{name}.bias", num_out),
    }


def _pixels_last(x: Tensor, patch: int) -> Tensor:
    """Permute the values of a patch (the first axis) from channels first to channels last."""
    return rearrange(x, "(c p q) ... -> (p q c) ...", p=patch, q=patch)


def within(prefix: str, weights: Weights) -> Weights:
    """Put a prefix before the names of the weights."""
    return {prefix + name: x for name, x in weights.items()}
