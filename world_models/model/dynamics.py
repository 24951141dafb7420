"""The dynamics: predicts the tokens, reward and termination of the next frame from the past.

Shapes: B batch, T frames, N = h * w tokens per frame, D width, K codes, E width of a code,
A actions, H height, W width, C channels of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.model.brightness import BrightnessEmbedding
from world_models.model.kv_cache import CacheEntry, KVCache
from world_models.model.losses import DynamicsLossConfig, Metrics, corrupted_past, outcome_loss
from world_models.model.objectives import OBJECTIVES, Objective
from world_models.model.outcome import OutcomeHead
from world_models.model.patches import PatchEmbedding
from world_models.model.token_space import NO_ACTION, TokenSpace
from world_models.model.transformer import (
    Activations,
    Past,
    SpaceTimeTransformer,
    TransformerConfig,
)
from world_models.noise import RowNoise
from world_models.pixels import to_float

__all__ = ["Derived", "Dynamics", "DynamicsConfig", "StepInputs"]


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """A dynamics model.

    Attributes:
        transformer: Its size; ``dim`` includes the channels of concatenated actions.
        num_actions: A.
        action_input: "concat" adds one-hot channels (true actions: GenieRedux-G), "add" adds a
            learned vector to every token (latent actions: GenieRedux).
        objective: "two_stream" predicts a partly masked frame from the clean past, as sampling
            does; "paper" masks most of the whole past and predicts the next frame where the
            present one is masked. See `world_models.model.objectives`.
        token_input: Feed each token's code beside its learned embedding.
        brightness: Tell all tokens how bright each patch of the previous frame is. Only for tokens
            with which the dynamics sees the previous frame.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_actions: int = 5
    action_input: Literal["concat", "add"] = "concat"
    objective: Literal["two_stream", "paper"] = "two_stream"
    token_input: bool = True
    brightness: bool = False

    def __post_init__(self) -> None:
        choices = {"action_input": ("concat", "add"), "objective": tuple(OBJECTIVES)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.token_dim < 1:
            raise ValueError(
                f"transformer.dim {self.transformer.dim} leaves no room beside the "
                f"{self.num_actions} action channels; make dim larger"
            )

    @property
    def token_dim(self) -> int:
        """Channels of the input that carry the token."""
        concat = self.action_input == "concat"
        return self.transformer.dim - (self.num_actions if concat else 0)


class Derived(NamedTuple):
    """What depends on the weights alone.

    Attributes:
        table: What each token id, the mask token included, becomes at the input,
            ``(K + 1, token_dim)``.
        space_bias: ``(heads, N, N)``.
    """

    table: Tensor
    space_bias: Tensor


class StepInputs(NamedTuple):
    """What all passes over one new frame share; see `Dynamics.inputs`."""

    actions: Tensor
    features: Tensor | None
    table: Tensor
    past: Past

    def rows(self, rows: Tensor) -> StepInputs:
        """Those of some rows, copied; themselves where these are all."""
        if len(rows) == len(self.actions):
            return self
        features = None if self.features is None else self.features[rows]
        return StepInputs(self.actions[rows], features, self.table, self.past.rows(rows))


class Dynamics(nn.Module):
    """A masked token predictor over a space-time transformer.

    Args:
        config: Its configuration.
        space: The tokens that it predicts.
        codes: The tokenizer's ``codes()``, ``(K, E)``. They are saved with the weights: leave them
            out only where a state dict is loaded next.
    """

    codes: Tensor

    def __init__(self, config: DynamicsConfig, space: TokenSpace, codes: Tensor | None = None):
        super().__init__()
        self.config, self.space = config, space
        if space.patch and config.objective == "paper":
            raise ValueError(
                'the "paper" objective does not see the previous frame, which these tokens need; '
                'take "two_stream", or a "vq" tokenizer'
            )
        if config.brightness and not space.patch:
            raise ValueError("brightness needs tokens with which the previous frame is seen")
        shape = (space.num_codes, space.code_dim)
        if codes is not None and codes.shape != shape:
            raise ValueError(
                f"expected codes {shape}, as the token space has, got {tuple(codes.shape)}"
            )
        codes = torch.zeros(shape) if codes is None else codes.detach().clone()
        self.register_buffer("codes", codes)
        width = config.token_dim
        self.tokens = nn.Embedding(space.num_codes + 1, width)  # the last one: masked
        self.positions = nn.Parameter(torch.randn(space.num_tokens, width) * 0.02)
        if config.token_input:
            self.from_code = nn.Linear(space.code_dim, width)
            nn.init.normal_(self.from_code.weight)
        if space.patch:
            self.patches = PatchEmbedding(space.patch, width)
        if config.brightness:
            self.brightness = BrightnessEmbedding(space.num_tokens, space.patch, width)
        if config.action_input == "add":
            self.actions = nn.Embedding(config.num_actions + 1, width)  # the last one: none
        self.transformer = SpaceTimeTransformer(config.transformer, space.grid)
        self.to_logits = nn.Linear(config.transformer.dim, space.num_codes)
        self.outcome = OutcomeHead(config.transformer.dim)

    @property
    def objective(self) -> Objective:
        """How it is trained, and how it dreams."""
        return OBJECTIVES[self.config.objective]

    # The input ------------------------------------------------------------------------------

    def derived(self) -> Derived:
        """Compute what depends on the weights alone."""
        return Derived(self._table(), self.transformer.space_bias())

    def frame_features(self, previous_frames: Tensor | None) -> Tensor | None:
        """What frames, uint8 ``(..., H, W, C)``, tell of the ones after them: ``(..., N, D)``.

        None where the dynamics sees tokens alone.
        """
        if not self.space.patch:
            return None
        if previous_frames is None:
            raise ValueError("these tokens need the previous frame of each: give previous_frames")
        features = self.patches(to_float(previous_frames))
        return features + self.brightness(previous_frames) if self.config.brightness else features

    def embed(
        self,
        tokens: Tensor,
        actions: Tensor,
        features: Tensor | None = None,
        table: Tensor | None = None,
    ) -> Tensor:
        """Embed frames ``(..., N, D)``.

        Args:
            tokens: Of the frames ``(..., N)``.
            actions: What led to each, ``(...)``.
            features: `frame_features` of the frame before each.
            table: See `Derived`.
        """
        x = F.embedding(tokens, self._table() if table is None else table) + self.positions
        x = x if features is None else x + features
        num_actions = self.config.num_actions
        if self.config.action_input == "add":
            none = actions == NO_ACTION
            return x + self.actions(actions.masked_fill(none, num_actions)).unsqueeze(-2)
        one_hot = actions[..., None] == torch.arange(num_actions, device=actions.device)
        one_hot = one_hot.to(x.dtype).unsqueeze(-2).expand(*tokens.shape, num_actions)
        return torch.cat((x, one_hot), -1)

    def _table(self) -> Tensor:
        if not self.config.token_input:
            return self.tokens.weight
        content = self.from_code(self.codes.to(self.tokens.weight.dtype))
        return self.tokens.weight + F.pad(content, (0, 0, 0, 1))

    # A new frame ----------------------------------------------------------------------------

    def inputs(
        self, cache: KVCache, actions: Tensor, frames: Tensor, derived: Derived | None = None
    ) -> StepInputs:
        """Prepare the passes over the next frame.

        Args:
            cache: Its past.
            actions: Lead to the frame, ``(B,)``.
            frames: The last frame, uint8 ``(B, H, W, C)``.
            derived: `derived`, where it is at hand.
        """
        table, space_bias = derived or self.derived()
        past = self.transformer.past(cache, space_bias)
        return StepInputs(actions, self.frame_features(frames), table, past)

    def step(self, tokens: Tensor, inputs: StepInputs) -> tuple[Tensor, Activations]:
        """Run one new frame with tokens ``(B, N)``, and change nothing.

        Returns:
            Logits ``(B, N, K)``, and what the layers computed.
        """
        x = self.embed(tokens, inputs.actions, inputs.features, inputs.table)
        x, activations = self.transformer.step(x, inputs.past)
        return self.to_logits(x), activations

    def finish(
        self, tokens: Tensor, inputs: StepInputs
    ) -> tuple[CacheEntry | None, Tensor, Tensor]:
        """Run a finished frame.

        Returns:
            What it adds to the cache, its reward and its probability of termination ``(B,)``.
        """
        x = self.embed(tokens, inputs.actions, inputs.features, inputs.table)
        _, activations = self.transformer.step(x, inputs.past)
        entry = self.transformer.entry(activations)
        return entry, *self.outcome.predict(activations.inputs[-1])

    def predict(
        self, tokens: Tensor, inputs: StepInputs
    ) -> tuple[Tensor, CacheEntry | None, Tensor, Tensor]:
        """`step` and `finish` in one pass: the logits, and what `finish` returns."""
        logits, activations = self.step(tokens, inputs)
        entry = self.transformer.entry(activations)
        return logits, entry, *self.outcome.predict(activations.inputs[-1])

    # Training -------------------------------------------------------------------------------

    def loss(
        self, batch: dict[str, Tensor], config: DynamicsLossConfig | None = None
    ) -> tuple[Tensor, Metrics]:
        """Score the prediction of frames 1.. of every row.

        Args:
            batch: "tokens" ``(B, T, N)`` and "actions" ``(B, T - 1)`` between them, int64.
                "previous_frames", the frame before each, uint8 ``(B, T, H, W, C)``, where the
                tokens need it. Optional: "rewards" and "terminated" ``(B, T - 1)`` of the same
                transitions; "input_tokens" ``(B, T, N)``, the tokens that the past is made of
                where they are not the right ones; "seeds" ``(B,)``, int64, which make each row's
                noise depend on its own seed alone.
            config: The weights of the loss.
        """
        self._check(batch)
        return self.objective.loss(self, batch, config or DynamicsLossConfig())

    def outcome_loss(
        self, batch: dict[str, Tensor], config: DynamicsLossConfig | None = None
    ) -> tuple[Tensor, Metrics]:
        """Score rewards and ends alone, as they are read in a dream. Only the head learns."""
        self._check(batch)
        config = config or DynamicsLossConfig()
        tokens, previous = corrupted_past(self.space, batch, config, RowNoise.of(batch))
        with torch.no_grad():
            states = self.objective.outcome_states(self, tokens, batch["actions"], previous)
        loss, metrics = outcome_loss(self, states, batch, config)
        return loss, {"loss": loss.detach(), **metrics}

    def _check(self, batch: dict[str, Tensor]) -> None:
        tokens, actions, num_tokens = batch["tokens"], batch["actions"], self.space.num_tokens
        if tokens.ndim != 3 or tokens.shape[-1] != num_tokens:
            raise ValueError(
                f"expected tokens (B, T, {num_tokens}), got {tuple(tokens.shape)}; encode the "
                "frames with the tokenizer whose token space this dynamics was built for"
            )
        if tokens.shape[1] < 2 or actions.shape != (len(tokens), tokens.shape[1] - 1):
            raise ValueError(
                f"expected actions ({len(tokens)}, {tokens.shape[1] - 1}) for tokens "
                f"{tuple(tokens.shape)} with at least 2 frames, got {tuple(actions.shape)}"
            )
