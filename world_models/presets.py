"""Complete worlds by name: a preset returns the configuration, `build` the untrained model.

A variant calls a preset and uses `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

from world_models.blocks import TransformerConfig
from world_models.dynamics import Dynamics
from world_models.dynamics_config import DynamicsConfig
from world_models.latent_action import LatentActionConfig, LatentActionModel
from world_models.reconstruction import ReconstructionConfig
from world_models.sampling import FOR_CHANGES, SamplingConfig
from world_models.tokenizer import TokenizerConfig
from world_models.tokenizers import build_tokenizer
from world_models.world import WorldModel

__all__ = [
    "WorldConfig",
    "atari",
    "atari_many",
    "build",
    "coinrun",
    "config_from_dict",
    "config_to_dict",
    "paper",
    "small",
    "tiny",
]

T = TypeVar("T")
SPRITES = ReconstructionConfig(changed_weight=20.0, l1_weight=0.05)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Everything that makes a world; see the parts."""

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    latent_action: LatentActionConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def paper(num_actions: int = 5) -> WorldConfig:
    """GenieRedux-G as published: 101.6M tokenizer, 80.2M dynamics, 168.7M latent actions."""
    coder = TransformerConfig(dim=512, num_layers=8, num_heads=8, position_dim=512)
    width = 512 + num_actions
    return WorldConfig(
        tokenizer=TokenizerConfig(transformer=coder),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(dim=width, num_layers=12, num_heads=8, position_dim=64),
            num_actions=num_actions,
        ),
        latent_action=LatentActionConfig(transformer=coder, num_actions=7),
        sampling=SamplingConfig(steps=25),
    )


def small(num_actions: int = 5, frame_size: int = 64) -> WorldConfig:
    """Width 256, patches of 8: real time on two CPU cores."""
    coder = TransformerConfig(
        dim=256, num_layers=4, num_heads=4, ff_mult=3.0, ff_per_block=1, position_dim=64
    )
    tokenizer = TokenizerConfig(
        frame_size=frame_size,
        patch=8,
        transformer=coder,
        revive_after=100,
        reconstruction=SPRITES,
    )
    return WorldConfig(
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(
            grid=tokenizer.grid,
            transformer=TransformerConfig(
                dim=256, num_layers=6, num_heads=4, ff_mult=3.0, ff_per_block=1, position_dim=64
            ),
            num_actions=num_actions,
            changed_weight=4.0,
            context_noise=0.1,
        ),
        latent_action=LatentActionConfig(
            frame_size=frame_size,
            patch=8,
            transformer=coder,
            revive_after=100,
            reconstruction=SPRITES,
        ),
    )


def coinrun() -> WorldConfig:
    """CoinRun, 7 actions, its velocity map painted: 3.0M weights, 4 MiB in int8."""
    world = _light(
        small(num_actions=7),
        coder_dim=128,
        dim=128,
        num_layers=4,
        num_codes=1024,
        repaint=3e-3,
        changed_weight=4.0,
    )
    return replace(
        world,
        tokenizer=replace(world.tokenizer, overlay=True),
        dynamics=replace(world.dynamics, glance=True, schedule_steps=2),
    )


def atari(num_actions: int = 5) -> WorldConfig:
    """One Atari 2600 game, few sprites on still backgrounds."""
    world = atari_many(num_actions)
    num_codes = 1024
    return replace(
        world,
        tokenizer=replace(world.tokenizer, painter="exemplars", num_codes=num_codes),
        dynamics=replace(world.dynamics, num_codes=num_codes),
    )


def atari_many(num_actions: int = 5) -> WorldConfig:
    """Many Atari 2600 games at once: 2.7M weights, 3 MiB in int8."""
    return _light(
        small(num_actions),
        coder_dim=128,
        dim=128,
        num_layers=5,
        num_codes=512,
        repaint=2e-4,
        changed_weight=20.0,
    )


def tiny(num_actions: int = 5, frame_size: int = 16) -> WorldConfig:
    """For tests: trains in seconds."""
    coder = TransformerConfig(
        dim=48, num_layers=1, num_heads=2, head_dim=16, ff_mult=3.0, position_dim=16, window=8
    )
    tokenizer = TokenizerConfig(
        frame_size=frame_size,
        patch=4,
        transformer=coder,
        num_codes=32,
        code_dim=8,
        revive_after=20,
        reconstruction=SPRITES,
    )
    return WorldConfig(
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(
            grid=tokenizer.grid,
            transformer=TransformerConfig(
                dim=64, num_layers=2, num_heads=2, head_dim=16, position_dim=16, window=8
            ),
            num_codes=32,
            code_dim=8,
            num_actions=num_actions,
        ),
        latent_action=LatentActionConfig(
            frame_size=frame_size, patch=4, transformer=coder, num_actions=4, code_dim=8
        ),
        sampling=SamplingConfig(steps=4),
    )


def _light(
    world: WorldConfig,
    coder_dim: int,
    dim: int,
    num_layers: int,
    num_codes: int,
    repaint: float,
    changed_weight: float,
) -> WorldConfig:
    """Lighter than `small`; tokens say what changes since the frame before."""
    coder = replace(
        world.tokenizer.transformer,
        dim=coder_dim,
        num_layers=3,
        num_heads=coder_dim // 64,
        ff_mult=4.0,
        temporal=False,
    )
    thinker = replace(
        world.dynamics.transformer, dim=dim, num_layers=num_layers, num_heads=dim // 64
    )
    return replace(
        world,
        tokenizer=replace(
            world.tokenizer,
            transformer=coder,
            num_codes=num_codes,
            context=True,
            repaint=repaint,
        ),
        dynamics=replace(
            world.dynamics,
            transformer=thinker,
            num_codes=num_codes,
            frame_patch=world.tokenizer.patch,
            action_input="add",  # heard at once; a channel among many is learned late
            schedule_steps=4,  # most is decided in the first pass, so that is what is trained
            changed_weight=changed_weight,
            event_weight=5.0,
        ),
        sampling=FOR_CHANGES,
    )


def build(config: WorldConfig, latent_action: bool = False) -> WorldModel:
    """Build an untrained world; with ``latent_action`` also the model that names actions."""
    tokenizer = build_tokenizer(config.tokenizer)
    return WorldModel(
        tokenizer,
        Dynamics(config.dynamics, tokenizer.codes()),
        config.sampling,
        LatentActionModel(config.latent_action) if latent_action else None,
    )


def config_to_dict(config: Any) -> dict[str, Any]:
    """Turn any configuration into plain dicts, as JSON holds it."""
    return asdict(config)


def config_from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Undo `config_to_dict`; every key must be known, and every value is checked again."""
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{cls.__name__} has no {unknown}; it has {names}")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint):
            value = config_from_dict(hint, value)  # type: ignore[arg-type]
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return cls(**built)
