"""Builds a world model's parts from configurations, and converts configurations to JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from torch import nn

from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.latent_action import LatentActionConfig, LatentActionModel
from world_models.model.token_space import TokenSpace
from world_models.tokenizers.base import Tokenizer
from world_models.tokenizers.motion.patch_codebook import PatchCodebook, PatchCodebookConfig
from world_models.tokenizers.motion.residual_vq import ResidualVQ, ResidualVQConfig
from world_models.tokenizers.motion.tokenizer import MotionTokenizer
from world_models.tokenizers.vq import VQTokenizer, VQTokenizerConfig

__all__ = ["TokenizerConfig", "build_part", "build_tokenizer", "config_from_dict", "part_to_dict"]

T = TypeVar("T")

TokenizerConfig = VQTokenizerConfig | ResidualVQConfig | PatchCodebookConfig

TOKENIZERS: dict[str, tuple[type[Any], Callable[[Any], Tokenizer]]] = {
    "vq": (VQTokenizerConfig, VQTokenizer),
    "residual-vq": (ResidualVQConfig, lambda c: MotionTokenizer(c, ResidualVQ(c))),
    "patch-codebook": (PatchCodebookConfig, lambda c: MotionTokenizer(c, PatchCodebook(c))),
}


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """Build an untrained tokenizer."""
    return TOKENIZERS[_kind(config)][1](config)


def part_to_dict(part: nn.Module) -> dict[str, Any]:
    """Return the configuration of a part as JSON values, from which `build_part` builds it."""
    config: Any = part.config
    if isinstance(part, Tokenizer):
        return {"kind": _kind(config), **asdict(config)}
    if isinstance(part, Dynamics):
        return {**asdict(config), "space": asdict(part.space)}
    return asdict(config)


def build_part(name: str, values: Mapping[str, Any]) -> nn.Module:
    """Build an untrained part from the values that `part_to_dict` returned.

    `name` is "tokenizer", "latent-action" or "dynamics".
    """
    values = dict(values)
    if name == "tokenizer":
        kind = values.pop("kind", None)
        if kind not in TOKENIZERS:
            known = ", ".join(TOKENIZERS)
            raise ValueError(f"unknown tokenizer kind {kind!r}: expected one of {known}")
        config_class, build = TOKENIZERS[kind]
        return build(config_from_dict(config_class, values))
    if name == "latent-action":
        return LatentActionModel(config_from_dict(LatentActionConfig, values))
    space = config_from_dict(TokenSpace, values.pop("space"))
    return Dynamics(config_from_dict(DynamicsConfig, values), space)


def config_from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration from the values that `asdict` returned for it.

    Raises ValueError if a key or value is invalid.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{cls.__name__} has no fields {unknown}; its fields are {names}")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint):
            value = config_from_dict(hint, value)  # type: ignore[arg-type]
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return cls(**built)


def _kind(config: TokenizerConfig) -> str:
    return next(kind for kind, (cls, _) in TOKENIZERS.items() if type(config) is cls)
