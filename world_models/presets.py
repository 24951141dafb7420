"""Named architectures: a preset returns a configuration, from which `build` makes a world model.

For a variant, call a preset and change its result with `dataclasses.replace`. For training, see
`world_models.training.recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.latent_action import LatentActionConfig, LatentActionModel
from world_models.model.token_space import SamplingConfig
from world_models.model.transformer import TransformerConfig
from world_models.parts import TokenizerConfig, build_tokenizer
from world_models.tokenizers.motion.patch_codebook import PatchCodebookConfig
from world_models.tokenizers.motion.residual_vq import ResidualVQConfig
from world_models.tokenizers.vq import VQTokenizerConfig

__all__ = ["WorldConfig", "atari", "atari_many", "build", "coinrun", "paper", "small", "tiny"]


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The architecture of a world model.

    Attributes:
        tokenizer: Configuration of the tokenizer.
        dynamics: Configuration of the dynamics model.
        latent_action: Configuration of the latent action model.
        sampling: How tokens are sampled; None uses the tokenizer's default.
    """

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    latent_action: LatentActionConfig
    sampling: SamplingConfig | None = None


def paper(num_actions: int = 5) -> WorldConfig:
    """GenieRedux-G as published.

    The tokenizer has 101.6M weights, the dynamics model has 80.2M, and the latent action model has
    168.7M.
    """
    coder = TransformerConfig(dim=512, num_layers=8, num_heads=8, position_dim=512)
    width = 512 + num_actions
    return WorldConfig(
        tokenizer=VQTokenizerConfig(transformer=coder),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(dim=width, num_layers=12, num_heads=8, position_dim=64),
            num_actions=num_actions,
            objective="paper",
        ),
        latent_action=LatentActionConfig(transformer=coder, num_actions=7),
        sampling=SamplingConfig(steps=25),
    )


def small(num_actions: int = 5, frame_size: int = 64) -> WorldConfig:
    """Width 256 and patches of 8 x 8 pixels: runs in real time on two CPU cores."""
    coder = TransformerConfig(
        dim=256, num_layers=4, num_heads=4, ff_mult=3.0, ff_per_block=1, position_dim=64
    )
    return WorldConfig(
        tokenizer=VQTokenizerConfig(frame_size=frame_size, patch=8, transformer=coder),
        dynamics=DynamicsConfig(transformer=replace(coder, num_layers=6), num_actions=num_actions),
        latent_action=LatentActionConfig(frame_size=frame_size, patch=8, transformer=coder),
    )


def coinrun() -> WorldConfig:
    """CoinRun with 7 actions, on frames that show the player's velocity: 3.0M parameters.

    A bundle in int8 takes 4 MiB.
    """
    tokenizer = ResidualVQConfig(transformer=_motion_coder(), threshold=3e-3, overlay=True)
    return _motion_world(tokenizer, num_actions=7, num_layers=4, brightness=True)


def atari(num_actions: int = 5) -> WorldConfig:
    """One Atari 2600 game: few sprites on still backgrounds, and one pass per frame."""
    world = _motion_world(PatchCodebookConfig(threshold=2e-4), num_actions, num_layers=5)
    return replace(world, dynamics=replace(world.dynamics, objective="one_pass"))


def atari_many(num_actions: int = 5) -> WorldConfig:
    """Many Atari 2600 games at once: 2.7M parameters, 3 MiB in int8."""
    tokenizer = ResidualVQConfig(transformer=_motion_coder(), num_codes=512, threshold=2e-4)
    return _motion_world(tokenizer, num_actions, num_layers=5)


def tiny(num_actions: int = 5, frame_size: int = 16) -> WorldConfig:
    """A tiny architecture for tests, which trains in seconds."""
    coder = TransformerConfig(
        dim=48, num_layers=1, num_heads=2, head_dim=16, ff_mult=3.0, position_dim=16, window=8
    )
    return WorldConfig(
        tokenizer=VQTokenizerConfig(
            frame_size=frame_size, patch=4, transformer=coder, num_codes=32, code_dim=8
        ),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(
                dim=64, num_layers=2, num_heads=2, head_dim=16, position_dim=16, window=8
            ),
            num_actions=num_actions,
        ),
        latent_action=LatentActionConfig(
            frame_size=frame_size, patch=4, transformer=coder, num_actions=4, code_dim=8
        ),
        sampling=SamplingConfig(steps=4),
    )


def build(config: WorldConfig, latent_action: bool = False) -> WorldModel:
    """Build an untrained world model; ``latent_action`` adds a latent action model."""
    tokenizer = build_tokenizer(config.tokenizer)
    return WorldModel(
        tokenizer,
        Dynamics(config.dynamics, tokenizer.space, tokenizer.codes()),
        config.sampling,
        LatentActionModel(config.latent_action) if latent_action else None,
    )


def _motion_coder() -> TransformerConfig:
    """Return the configuration of a motion tokenizer's encoder and decoder.

    They are narrower than in `small`, and process one frame at a time.
    """
    coder = small().latent_action.transformer
    return replace(coder, dim=128, num_layers=3, num_heads=2, ff_mult=4.0, temporal=False)


def _motion_world(
    tokenizer: TokenizerConfig, num_actions: int, num_layers: int, brightness: bool = False
) -> WorldConfig:
    base = small(num_actions)
    size = replace(base.dynamics.transformer, dim=128, num_layers=num_layers, num_heads=2)
    dynamics = DynamicsConfig(
        transformer=size,
        num_actions=num_actions,
        action_input="add",  # actions are learned sooner than with "concat"
        brightness=brightness,
    )
    return replace(base, tokenizer=tokenizer, dynamics=dynamics)
