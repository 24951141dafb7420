"""Converts the official tokenizer, latent action model and dynamics model.

Shapes: D token dimension, N tokens per frame, K codes, A actions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.latent_action import LatentActionConfig, LatentActionModel
from world_models.model.transformer import BlockOptions, TransformerConfig
from world_models.tokenizers.vq import VQTokenizer, VQTokenizerConfig
from world_models.weights import load_weights
from world_models.worlds.official import networks
from world_models.worlds.official.checkpoint import OfficialError, PartTensors
from world_models.worlds.official.networks import linear, within

__all__ = ["dynamics", "latent_action", "num_positions", "tokenizer"]

TOKEN_SCALE = 10.0  # factor on the code that is added to the token embedding
BLOCKS = BlockOptions(raw_keys=True, ff_bias=True)
BIAS = "spatial_rel_pos_bias."
NETWORK, PREDICTOR_BIAS = "maskgit.transformer.", "maskgit.continuous_pos_bias."
TOKENS, POSITIONS = "maskgit.token_emb.weight", "maskgit.pos_emb.weight"
EMBEDDINGS = (
    "was trained with use_action_embeddings, the default of 2025: its random action embeddings are "
    "not in the file, so the meaning of its actions is unknown; train with "
    "use_action_embeddings=false, or use a GenieRedux-G with one-hot actions"
)


def tokenizer(source: PartTensors, frame_size: int, window: int) -> VQTokenizer:
    """Build the tokenizer from a file's tensors.

    Args:
        source: The file's tensors.
        frame_size: Height and width of a frame, which cannot be inferred from the tensors.
        window: Number of frames in the longest clip.
    """
    _, num_codes, code_dim = source.shape("vq._codebook.embed", 3)
    config = VQTokenizerConfig(
        **_coder_config(source, frame_size, window), num_codes=num_codes, code_dim=code_dim
    )
    weights = networks.coder(source, config.transformer, config.patch)
    return _loaded(VQTokenizer(config), weights, source)


def latent_action(source: PartTensors, frame_size: int, window: int) -> LatentActionModel:
    """Build the latent action model from a file's tensors; see `tokenizer`."""
    _, num_actions, code_dim = source.shape("vq._codebook.embed", 3)
    config = LatentActionConfig(
        **_coder_config(source, frame_size, window), num_actions=num_actions, code_dim=code_dim
    )
    dim, (h, w) = config.transformer.dim, config.grid
    weights = networks.coder(source, config.transformer, config.patch)
    weights |= within("to_action.1.", linear(source, "to_action_emb.1", h * w * dim, dim))
    for name in ("weight", "bias"):
        weights[f"to_action.2.{name}"] = source.take(f"to_action_emb.2.{name}", dim)
    return _loaded(LatentActionModel(config), weights, source)


def num_positions(source: PartTensors, num_tokens: int) -> int:
    """Return how many whole frames of N tokens fit into a dynamics model's position table."""
    rows, _ = source.shape(POSITIONS, 2)
    if (frames := rows // num_tokens) < 2:
        raise OfficialError(
            f"{source.source}: its {rows} positions are {frames} frames of {num_tokens} tokens, "
            "expected 15 or 31 frames; set the frame size with --frame-size"
        )
    return frames


def dynamics(
    source: PartTensors, tokenizer: VQTokenizer, latent: LatentActionModel | None, token_input: bool
) -> Dynamics:
    """Build the dynamics model from a file's tensors.

    Args:
        source: The file's tensors.
        tokenizer: The tokenizer whose tokens the model predicts.
        latent: The latent action model from the same file; None for a GenieRedux-G.
        token_input: Whether tokens are also embedded by their codes.
    """
    space = tokenizer.space
    horizon = num_positions(source, space.num_tokens)
    rows, width = source.shape(TOKENS, 2)
    if rows != space.num_codes + 1:
        raise OfficialError(
            f"{source.source}: the model predicts {rows - 1} codes, but the tokenizer has "
            f"{space.num_codes}; use the tokenizer that the model was trained with"
        )
    size = networks.transformer_config(source, NETWORK, PREDICTOR_BIAS, horizon)
    config = DynamicsConfig(
        transformer=size,
        num_actions=_num_actions(source, size.dim, width, latent),
        action_input="add" if latent else "concat",
        objective="paper",
        token_input=token_input,
        blocks=BLOCKS,
        horizon=horizon,
    )
    weights = _predictor(source, tokenizer, size, horizon)
    if token_input:
        weights |= _code_input(source, tokenizer, width)
    if latent:
        weights["actions.weight"] = _action_vectors(source, latent, width)
    return _loaded(Dynamics(config, space, tokenizer.codes()), weights, source)


def _predictor(
    source: PartTensors, tokenizer: VQTokenizer, size: TransformerConfig, horizon: int
) -> dict[str, Tensor]:
    """Return the weights for a `Dynamics`, except weights for token input and latent actions."""
    num_codes, num_tokens = tokenizer.space.num_codes, tokenizer.space.num_tokens
    count, width = source.shape(POSITIONS, 2)
    positions = source.take(POSITIONS, count, width)
    bias = networks.position_bias(source, PREDICTOR_BIAS, size)
    return {
        **within("transformer.", networks.transformer(source, NETWORK, size)),
        **within("transformer.space_bias.", bias),
        "tokens.weight": source.take(TOKENS, num_codes + 1, width),
        "positions": positions[: horizon * num_tokens].unflatten(0, (horizon, -1)),
        "to_logits.weight": source.take("maskgit.to_logits.weight", num_codes, size.dim),
        "to_logits.bias": source.take("maskgit.to_logits.bias", num_codes),
    }


def _coder_config(source: PartTensors, frame_size: int, window: int) -> dict[str, Any]:
    return {
        "frame_size": frame_size,
        "patch": networks.patch_size(source),
        "transformer": networks.transformer_config(source, "encoder.", BIAS, window),
        "blocks": BLOCKS,
        "own_first_frame": True,
        "raw_codes": True,
    }


def _num_actions(
    source: PartTensors, dim: int, width: int, latent: LatentActionModel | None
) -> int:
    channels = dim - width
    if latent is not None:
        if channels:
            raise OfficialError(
                f"{source.source}: expected no action channels, because the file has a latent "
                f"action model, got {channels}; use a file that the official code wrote"
            )
        return latent.config.num_actions
    if channels == width:
        raise OfficialError(f"{source.source} {EMBEDDINGS}")
    if channels < 1:
        raise OfficialError(
            f"{source.source}: it has no action channels, and the file has no latent action model; "
            "use a file with a latent action model (GenieRedux), or a GenieRedux-G file"
        )
    return channels


def _code_input(source: PartTensors, tokenizer: VQTokenizer, width: int) -> dict[str, Tensor]:
    project = tokenizer.quantizer.project_out
    _check_width(source, project, width, "tokenizer")
    return {
        "from_code.weight": TOKEN_SCALE * project.weight.detach(),
        "from_code.bias": TOKEN_SCALE * project.bias.detach(),
    }


def _action_vectors(source: PartTensors, latent: LatentActionModel, width: int) -> Tensor:
    """Return the latent actions' vectors, ``(A + 1, D)``; the last vector means no action."""
    quantizer = latent.quantizer
    _check_width(source, quantizer.project_out, width, "latent action model")
    vectors = quantizer.project_out(quantizer.codes()).detach()
    return torch.cat((vectors, torch.zeros_like(vectors[:1])))


def _check_width(source: PartTensors, project: nn.Linear, width: int, what: str) -> None:
    if project.out_features != width:
        raise OfficialError(
            f"{source.source}: its tokens have dimension {width}, but the {what}'s vectors have "
            f"dimension {project.out_features}; use models that were trained together"
        )


def _loaded(model: Any, weights: dict[str, Tensor], source: PartTensors) -> Any:
    """Load the weights; parameters that no official model has keep their initial values."""
    source.finish()
    with torch.no_grad():
        load_weights(model, {**model.state_dict(), **weights}, source.source)
    return model.eval().requires_grad_(False)
