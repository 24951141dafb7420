"""The dynamics model, which predicts the next frame's tokens, reward and termination.

It sees past frames and the actions taken in them.

Shapes: B batch, T frames, N = h * w tokens per frame, D width, K codes, E code dimension,
A actions; a frame has height H, width W and C channels.
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
    BlockOptions,
    Past,
    SpaceTimeTransformer,
    TransformerConfig,
)
from world_models.noise import RowNoise
from world_models.pixels import to_float

__all__ = ["Derived", "Dynamics", "DynamicsConfig", "StepInputs"]


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """The architecture of a dynamics model.

    Attributes:
        transformer: Size of the transformer. Its ``dim`` includes concatenated action channels.
        num_actions: Number of actions A.
        action_input: "concat" appends the action to every token as one-hot channels (GenieRedux-G,
            with true actions). "add" adds a learned vector to every token (GenieRedux, with latent
            actions).
        objective: "two_stream" predicts a partly masked frame from the clean past, as sampling
            does. "one_pass" predicts the whole next frame in the pass over the last frame; this is
            the fastest objective. "paper" masks most tokens of the past, and predicts the next
            frame at positions that are masked in the current one. See
            `world_models.model.objectives`.
        token_input: Add a projection of each token's code to its learned embedding.
        brightness: Add an embedding of the brightness of the previous frame's patches to every
            token. Requires a token space with a `patch`.
        blocks: Options for the transformer's blocks (only for "paper").
        horizon: Number of frames that have learned position embeddings (only for "paper"). The
            model cannot process longer clips. With 0, it learns only positions within a frame, and
            processes clips of any length.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_actions: int = 5
    action_input: Literal["concat", "add"] = "concat"
    objective: Literal["two_stream", "one_pass", "paper"] = "two_stream"
    token_input: bool = True
    brightness: bool = False
    blocks: BlockOptions = field(default_factory=BlockOptions)
    horizon: int = 0

    def __post_init__(self) -> None:
        choices = {"action_input": ("concat", "add"), "objective": tuple(OBJECTIVES)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.horizon < 0:
            raise ValueError(f"horizon must not be negative, got {self.horizon}")
        if self.objective != "paper" and (self.horizon or self.blocks != BlockOptions()):
            raise ValueError(
                f'blocks and horizon are options of the "paper" objective, not of '
                f"{self.objective!r}; omit them"
            )
        if self.token_dim < 1:
            raise ValueError(
                "transformer.dim must be larger than the number of action channels, "
                f"{self.num_actions}; got {self.transformer.dim}"
            )

    @property
    def token_dim(self) -> int:
        """Number of input channels that represent the token, not the action."""
        concat = self.action_input == "concat"
        return self.transformer.dim - (self.num_actions if concat else 0)


class Derived(NamedTuple):
    """Values that depend only on the weights.

    Attributes:
        table: Input embedding of each token id and of the mask token, ``(K + 1, token_dim)``.
        space_bias: The transformer's spatial bias, ``(heads, N, N)``.
    """

    table: Tensor
    space_bias: Tensor


class StepInputs(NamedTuple):
    """Inputs that all passes over a new frame share; see `Dynamics.inputs`."""

    actions: Tensor
    features: Tensor | None
    table: Tensor
    past: Past
    positions: Tensor | None = None

    def rows(self, rows: Tensor) -> StepInputs:
        """Return a copy of the given rows (batch items), or `self` if `rows` contains all rows."""
        if len(rows) == len(self.actions):
            return self
        features = None if self.features is None else self.features[rows]
        positions = None if self.positions is None else self.positions[rows]
        return StepInputs(self.actions[rows], features, self.table, self.past.rows(rows), positions)


class Dynamics(nn.Module):
    """A space-time transformer that predicts the tokens and the outcome of the next frame.

    Args:
        config: The architecture.
        space: The tokens to predict.
        codes: The result of the tokenizer's ``codes()``, ``(K, E)``. Codes are saved with the
            weights: omit this argument only if you load a state dict next.
    """

    codes: Tensor

    def __init__(self, config: DynamicsConfig, space: TokenSpace, codes: Tensor | None = None):
        super().__init__()
        self.config, self.space = config, space
        if space.patch and config.objective == "paper":
            raise ValueError(
                "these tokens require the previous frame as input, which the "
                '"paper" objective does not use; use another objective, or a "vq" tokenizer'
            )
        if config.brightness and not space.patch:
            raise ValueError(
                "brightness requires a token space with the previous frame as input; use a motion "
                "tokenizer"
            )
        shape = (space.num_codes, space.code_dim)
        if codes is not None and codes.shape != shape:
            raise ValueError(
                f"expected codes of shape {shape} for this token space, got {tuple(codes.shape)}; "
                "pass the codes() of its tokenizer"
            )
        codes = torch.zeros(shape) if codes is None else codes.detach().clone()
        self.register_buffer("codes", codes)
        width = config.token_dim
        self.tokens = nn.Embedding(space.num_codes + 1, width)  # the last one is the mask token
        frames = (config.horizon,) if config.horizon else ()
        self.positions = nn.Parameter(torch.randn(*frames, space.num_tokens, width) * 0.02)
        if config.token_input:
            self.from_code = nn.Linear(space.code_dim, width)
            nn.init.normal_(self.from_code.weight)
        if space.patch:
            self.patches = PatchEmbedding(space.patch, width)
        if config.brightness:
            self.brightness = BrightnessEmbedding(space.num_tokens, space.patch, width)
        if config.action_input == "add":
            self.actions = nn.Embedding(config.num_actions + 1, width)  # the last one: NO_ACTION
        self.transformer = SpaceTimeTransformer(
            config.transformer, space.grid, options=config.blocks
        )
        self.to_logits = nn.Linear(config.transformer.dim, space.num_codes)
        self.outcome = OutcomeHead(config.transformer.dim)

    @property
    def objective(self) -> Objective:
        """The training objective, which also decides how dreams are sampled."""
        return OBJECTIVES[self.config.objective]

    # The input ------------------------------------------------------------------------------

    def derived(self) -> Derived:
        """Compute the values that depend only on the weights."""
        return Derived(self._table(), self.transformer.space_bias())

    def frame_features(self, previous_frames: Tensor | None) -> Tensor | None:
        """Embed previous frames, uint8 ``(..., H, W, C)``, as input features ``(..., N, D)``.

        Returns None if this dynamics model does not take the previous frame as input.
        """
        if not self.space.patch:
            return None
        if previous_frames is None:
            raise ValueError(
                "this dynamics model takes the frame before each frame as input; pass "
                "previous_frames"
            )
        features = self.patches(to_float(previous_frames))
        return features + self.brightness(previous_frames) if self.config.brightness else features

    def embed(
        self,
        tokens: Tensor,
        actions: Tensor,
        features: Tensor | None = None,
        table: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Embed frames as the transformer's input, ``(..., N, D)``.

        Args:
            tokens: Tokens of the frames, ``(..., N)``.
            actions: The action that led to each frame, ``(...)``.
            features: The result of `frame_features` for the frame before each frame, or None.
            table: The table in `Derived`; computed by default.
            positions: Position embeddings of the frames, ``(..., N, token_dim)``. By default, with
                a `horizon`, frames ``(B, T, N)`` get the first T positions.
        """
        positions = self._positions(tokens) if positions is None else positions
        x = F.embedding(tokens, self._table() if table is None else table) + positions
        x = x if features is None else x + features
        num_actions = self.config.num_actions
        if self.config.action_input == "add":
            none = actions == NO_ACTION
            return x + self.actions(actions.masked_fill(none, num_actions)).unsqueeze(-2)
        one_hot = actions[..., None] == torch.arange(num_actions, device=actions.device)
        one_hot = one_hot.to(x.dtype).unsqueeze(-2).expand(*tokens.shape, num_actions)
        return torch.cat((x, one_hot), -1)

    def _positions(self, tokens: Tensor) -> Tensor:
        horizon = self.config.horizon
        if not horizon:
            return self.positions
        if (num_frames := tokens.shape[1]) > horizon:
            raise ValueError(
                f"this dynamics model has positions for {horizon} frames, got {num_frames}: "
                "predict fewer frames at once, or one frame at a time (WorldModel.rollout)"
            )
        return self.positions[:num_frames]

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
            cache: The KV cache of past frames.
            actions: The actions that lead to the next frame, ``(B,)``.
            frames: The last frame, uint8 ``(B, H, W, C)``.
            derived: The result of the method `derived`; computed by default.
        """
        table, space_bias = derived or self.derived()
        past = self.transformer.past(cache, space_bias)
        positions = self.positions[cache.length] if self.config.horizon else None
        return StepInputs(actions, self.frame_features(frames), table, past, positions)

    def step(self, tokens: Tensor, inputs: StepInputs) -> tuple[Tensor, Activations]:
        """Run one new frame, given tokens ``(B, N)``. The cache does not change.

        Returns:
            Logits ``(B, N, K)``, and the activations that `SpaceTimeTransformer.entry` takes.
        """
        x, activations = self._run(tokens, inputs)
        return self.to_logits(x), activations

    def finish(
        self, tokens: Tensor, inputs: StepInputs
    ) -> tuple[CacheEntry | None, Tensor, Tensor]:
        """Run a frame whose tokens ``(B, N)`` are all known.

        Returns:
            The cache entry (None if the transformer is not temporal), the expected reward ``(B,)``
            and the termination probability ``(B,)``.
        """
        _, activations = self._run(tokens, inputs)
        entry = self.transformer.entry(activations)
        return entry, *self.outcome.predict(activations.inputs[-1])

    def predict(
        self, tokens: Tensor, inputs: StepInputs
    ) -> tuple[Tensor, CacheEntry | None, Tensor, Tensor]:
        """Do `step` and `finish` in one pass; return the logits, then what `finish` returns."""
        logits, activations = self.step(tokens, inputs)
        entry = self.transformer.entry(activations)
        return logits, entry, *self.outcome.predict(activations.inputs[-1])

    def _run(self, tokens: Tensor, inputs: StepInputs) -> tuple[Tensor, Activations]:
        actions, features, table, past, positions = inputs
        return self.transformer.step(self.embed(tokens, actions, features, table, positions), past)

    # Training -------------------------------------------------------------------------------

    def loss(
        self, batch: dict[str, Tensor], config: DynamicsLossConfig | None = None
    ) -> tuple[Tensor, Metrics]:
        """Compute the loss for predicting every frame of a clip except the first.

        Args:
            batch: A dict with these entries:

                * "tokens": the clips' tokens, int64 ``(B, T, N)``.
                * "actions": the actions between the frames, int64 ``(B, T - 1)``.
                * "previous_frames", if the token space has a `patch`: the frame before each frame,
                  uint8 ``(B, T, H, W, C)``.
                * "rewards" and "terminated", optional: the outcome of each action, ``(B, T - 1)``.
                * "input_tokens", optional: corrupted tokens for the past, ``(B, T, N)``.
                * "seeds", optional: int64 ``(B,)``. With seeds, a clip's noise depends only on its
                  own seed.
            config: The weights of the loss; None for the default weights.
        """
        self._check(batch)
        return self.objective.loss(self, batch, config or DynamicsLossConfig())

    def outcome_loss(
        self, batch: dict[str, Tensor], config: DynamicsLossConfig | None = None
    ) -> tuple[Tensor, Metrics]:
        """Compute the loss for rewards and terminations only.

        They are predicted as in a dream. Only the outcome head receives gradients.
        """
        self._check(batch)
        config = config or DynamicsLossConfig()
        past = corrupted_past(self.space, batch, config, RowNoise.of(batch))
        with torch.no_grad():
            states = self.objective.outcome_states(self, past)
        loss, metrics = outcome_loss(self, states, batch, config)
        return loss, {"loss": loss.detach(), **metrics}

    def _check(self, batch: dict[str, Tensor]) -> None:
        tokens, actions, num_tokens = batch["tokens"], batch["actions"], self.space.num_tokens
        if tokens.ndim != 3 or tokens.shape[-1] != num_tokens:
            raise ValueError(
                f"expected tokens (B, T, {num_tokens}), got {tuple(tokens.shape)}; encode the "
                "frames with the tokenizer whose token space this dynamics model was built for"
            )
        if tokens.shape[1] < 2 or actions.shape != (len(tokens), tokens.shape[1] - 1):
            raise ValueError(
                f"expected actions ({len(tokens)}, {tokens.shape[1] - 1}) for tokens "
                f"{tuple(tokens.shape)} with at least 2 frames, got {tuple(actions.shape)}"
            )
