"""What a dynamics model is, and how it is trained: checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from world_models.blocks import TransformerConfig

__all__ = ["DynamicsConfig"]

_TRAINING = (
    "tdce_weight",
    "changed_weight",
    "context_noise",
    "schedule_steps",
    "reward_weight",
    "termination_weight",
    "event_weight",
    "outcome_only",
    "learn_past",
)
"""What a configuration says of training, and not of the model."""


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """A dynamics model.

    Attributes:
        grid: Tokens of a frame as (h, w).
        transformer: Its size; ``dim`` includes the channels of concatenated actions.
        num_codes: Codebook size K of the tokenizer.
        code_dim: Width of the tokenizer's codes.
        num_actions: A.
        action_input: "concat" adds one-hot channels (true actions: GenieRedux-G), "add" adds a
            learned vector to every token (latent actions: GenieRedux).
        objective: "two_stream" predicts a partly hidden frame from the clean past, as sampling
            does; "paper" hides most of the whole past and predicts the next frame where the
            present one is hidden.
        token_input: Feed each token's code beside its learned embedding.
        frame_patch: Also feed the frame before, as it was decoded, in patches of so many pixels:
            for tokens that say what changes. 0 feeds tokens alone.
        glance: With it, also tell all tokens how bright each patch of that frame is.
        tdce_weight: Weight of the token distance beside cross-entropy; 0 switches it off.
        changed_weight: Extra weight of tokens that differ from the frame before, or say that the
            picture does.
        context_noise: Up to this share of the past's tokens is replaced at random in training, so
            that a dream survives its own mistakes.
        schedule_steps: Passes of the sampling schedule that training masks follow.
        reward_weight: Weight of the reward loss.
        termination_weight: Weight of the termination loss.
        event_weight: Weight in both of steps with a reward, or that terminate. They are rare: more
            finds them sooner, and thinks them likelier than they are.
        learn_past: With two streams, gradients flow back into the clean frames through this share
            of the layers, the last ones. Less is faster: 1 takes a tenth longer than 0.5, 0 a
            tenth less, but then rewards and ends are read from what tokens alone taught.
        outcome_only: Train the head of rewards and ends alone; what is dreamed stays as it is.
    """

    grid: tuple[int, int] = (16, 16)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_codes: int = 1024
    code_dim: int = 32
    num_actions: int = 5
    action_input: Literal["concat", "add"] = "concat"
    objective: Literal["two_stream", "paper"] = "two_stream"
    token_input: bool = True
    frame_patch: int = 0
    glance: bool = False
    tdce_weight: float = 1.0
    changed_weight: float = 0.0
    context_noise: float = 0.0
    schedule_steps: int = 8
    reward_weight: float = 1.0
    termination_weight: float = 1.0
    event_weight: float = 1.0
    learn_past: float = 0.5
    outcome_only: bool = False

    def __post_init__(self) -> None:
        choices = {"action_input": ("concat", "add"), "objective": ("two_stream", "paper")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.frame_patch and self.objective == "paper":
            raise ValueError(
                'the "paper" objective has no frame before at hand; take "two_stream", or a '
                "tokenizer without context (frame_patch 0)"
            )
        if self.glance and not self.frame_patch:
            raise ValueError("glance looks at the frame before: it needs frame_patch")
        if not 0 <= self.learn_past <= 1:
            raise ValueError(f"learn_past must lie in [0, 1], got {self.learn_past}")
        if not 0 <= self.context_noise < 1:
            raise ValueError(f"context_noise must lie in [0, 1), got {self.context_noise}")
        if self.token_dim < 1:
            raise ValueError(
                f"transformer.dim {self.transformer.dim} leaves no room beside the "
                f"{self.num_actions} action channels; make dim larger"
            )

    def trained_as(self, other: DynamicsConfig) -> DynamicsConfig:
        """A model of this shape, trained as `other` is."""
        return replace(self, **{name: getattr(other, name) for name in _TRAINING})

    @property
    def token_dim(self) -> int:
        """Channels of the input that carry the token."""
        concat = self.action_input == "concat"
        return self.transformer.dim - (self.num_actions if concat else 0)
