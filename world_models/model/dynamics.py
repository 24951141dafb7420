"""The dynamics: predicts the tokens, reward and termination of the next frame from the past.

Shapes: B batch, T frames, F frames of a pass, N = h * w tokens per frame, D width, K codes,
E width of a code, A actions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.blocks import LayerTrace, SpaceTimeTransformer, StepPlan
from world_models.cache import Trace
from world_models.dynamics_config import DynamicsConfig
from world_models.glance import Glance
from world_models.masking import misread, sample_bernoulli_masks, sample_schedule_masks
from world_models.motion import STILL
from world_models.noise import RowNoise
from world_models.outcome import OutcomeHead
from world_models.pixels import to_float
from world_models.sampling import Draft, SamplingConfig, reveal
from world_models.tdce import token_distance_cross_entropy
from world_models.tokenizer import PatchEmbedding

__all__ = ["NO_ACTION", "Dynamics"]

NO_ACTION = -1  # what led to the first frame


class Dynamics(nn.Module):
    """A masked token predictor over space-time blocks.

    Args:
        config: Its configuration.
        codes: The tokenizer's ``codes()``, ``(K, E)``; they are kept with the weights, so leave
            them out only when a state dict is loaded next.
    """

    codes: Tensor

    def __init__(self, config: DynamicsConfig, codes: Tensor | None = None):
        super().__init__()
        self.config = config
        shape = (config.num_codes, config.code_dim)
        if codes is not None and codes.shape != shape:
            raise ValueError(
                f"expected codes {shape}, got {tuple(codes.shape)}; set num_codes and code_dim to "
                f"those of the tokenizer"
            )
        codes = torch.zeros(shape) if codes is None else codes.detach().clone()
        self.register_buffer("codes", codes)
        width, num_tokens = config.token_dim, config.grid[0] * config.grid[1]
        self.tokens = nn.Embedding(config.num_codes + 1, width)  # the last one: hidden
        self.positions = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        if config.token_input:
            self.from_code = nn.Linear(config.code_dim, width)
            nn.init.normal_(self.from_code.weight)
        if config.frame_patch:
            self.patches = PatchEmbedding(config.frame_patch, width)
        if config.glance:
            self.glance = Glance(num_tokens, config.frame_patch, width)
        if config.action_input == "add":
            self.actions = nn.Embedding(config.num_actions + 1, width)  # the last one: none
        self.transformer = SpaceTimeTransformer(config.transformer, config.grid)
        self.to_logits = nn.Linear(config.transformer.dim, config.num_codes)
        self.outcome = OutcomeHead(config.transformer.dim)
        if config.outcome_only:
            self.requires_grad_(False)
            self.outcome.requires_grad_(True)

    @property
    def mask_token(self) -> int:
        """The id that stands for a hidden token."""
        return self.config.num_codes

    def token_table(self) -> Tensor:
        """What each token id, hidden included, becomes at the input: ``(K + 1, token_dim)``."""
        if not self.config.token_input:
            return self.tokens.weight
        content = self.from_code(self.codes.to(self.tokens.weight.dtype))
        return self.tokens.weight + F.pad(content, (0, 0, 0, 1))

    def see(self, before: Tensor | None) -> Tensor | None:
        """What frames ``(..., H, W, C)``, uint8, tell of the ones after them: ``(..., N, E)``."""
        if not self.config.frame_patch:
            return None
        if before is None:
            raise ValueError("this dynamics needs the frame before each (frame_patch): give it")
        seen = self.patches(to_float(before))
        return seen + self.glance(before) if self.config.glance else seen

    def embed(
        self,
        tokens: Tensor,
        actions: Tensor,
        table: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Embed frames ``(..., N, D)``.

        Args:
            tokens: Of the frames ``(..., N)``.
            actions: What led to each, ``(...)``.
            table: `token_table`, where it is at hand.
            seen: `see` of the frame before each.
        """
        x = F.embedding(tokens, self.token_table() if table is None else table) + self.positions
        x = x if seen is None else x + seen
        num_actions = self.config.num_actions
        if self.config.action_input == "add":
            none = actions == NO_ACTION
            return x + self.actions(actions.masked_fill(none, num_actions)).unsqueeze(-2)
        one_hot = actions[..., None] == torch.arange(num_actions, device=actions.device)
        one_hot = one_hot.to(x.dtype).unsqueeze(-2).expand(*tokens.shape, num_actions)
        return torch.cat((x, one_hot), -1)

    def step(
        self, tokens: Tensor, actions: Tensor, plan: StepPlan, *known: Tensor | None
    ) -> tuple[Tensor, list[LayerTrace]]:
        """Run one new frame ``(B, N)``, as `embed` takes it, and change nothing.

        Returns:
            Logits ``(B, N, K)``, and what `finish` takes.
        """
        x, traces = self.transformer.step(self.embed(tokens, actions, *known), plan)
        return self.to_logits(x), traces

    def finish(self, traces: list[LayerTrace]) -> tuple[Trace | None, Tensor, Tensor]:
        """What the frame of a step leaves behind, its reward and its termination ``(B,)``."""
        return self.transformer.trace(traces), *self.outcome.predict(traces[-1].frame)

    def reveal(
        self,
        draft: Draft,
        schedule: Tensor,
        drawn: Tensor,
        config: SamplingConfig,
        *given: Any,
    ) -> tuple[Tensor, Draft]:
        """A pass of sampling: the logits, and the draft after it; `given` as in `step`."""
        logits, _ = self.step(draft.tokens, *given)
        return logits, reveal(draft, logits, schedule, drawn, config)

    def remember(
        self, tokens: Tensor, actions: Tensor, plan: StepPlan, *known: Tensor | None
    ) -> tuple[Trace | None, Tensor, Tensor]:
        """What `finish` says of a frame, given as `step` takes it."""
        _, traces = self.transformer.step(self.embed(tokens, actions, *known), plan)
        return self.finish(traces)

    def predict_two_stream(
        self, tokens: Tensor, actions: Tensor, masked: Tensor, before: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of all frames, each seen clean by those after it, in one pass.

        Args:
            tokens: The clean frames ``(B, T, N)``.
            actions: ``(B, T - 1)``; ``actions[:, t]`` leads from frame t to t + 1.
            masked: Frames 1.. with tokens hidden, ``(B, T - 1, N)``.
            before: The frame before each, uint8 ``(B, T, H, W, C)``, for ``frame_patch``.

        Returns:
            Of the clean frames what enters the last layer, ``(B, T, N, D)``, which knows the
            outcome, and of the masked ones what leaves it, ``(B, T - 1, N, D)``, which knows the
            hidden tokens.
        """
        first = torch.full_like(actions[:, :1], NO_ACTION)
        seen = self.see(before)
        if seen is not None:
            seen = torch.cat((seen, seen[:, 1:]), 1)
        actions = torch.cat((first, actions, actions), 1)
        x = self.embed(torch.cat((tokens, masked), 1), actions, seen=seen)
        num_frames = tokens.shape[1]
        num_apart = round((1 - self.config.learn_past) * (len(self.transformer.layers) - 1))
        x = self.transformer.enter(x, num_frames, num_apart)
        return x[:, :num_frames], self.transformer.leave(x, num_frames)

    def predict_plain(
        self, tokens: Tensor, actions: Tensor, before: Tensor | None = None
    ) -> Tensor:
        """Hidden states ``(B, T, N, D)`` of frames that see each other as they are.

        Args:
            tokens: ``(B, T, N)``, possibly hidden.
            actions: ``(B, T - 1)`` between them.
            before: The frame before each, uint8 ``(B, T, H, W, C)``, for ``frame_patch``.
        """
        return self.transformer.leave(self._enter_plain(tokens, actions, before))

    def predict_shifted(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Hidden states ``(B, T, N, D)`` that know the frame *after* each of ``(B, T, N)``.

        Frames may be partly hidden; the actions ``(B, T)`` are those taken at each.
        """
        return self.transformer(self.embed(tokens, actions))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Score the prediction of frames 1.. of every row.

        Args:
            batch: "tokens" ``(B, T, N)`` and "actions" ``(B, T - 1)``, int64; "before", uint8
                ``(B, T, H, W, C)``, for ``frame_patch``; optionally "rewards" and "terminated",
                ``(B, T - 1)``, of the same transitions, "shown", the tokens that the past was made
                of where they are not the right ones, and "seeds" ``(B,)``, int64: each row's noise
                then depends on its own seed alone.
        """
        tokens, actions = batch["tokens"], batch["actions"]
        self._check(tokens, actions)
        noise = RowNoise(batch["seeds"]) if "seeds" in batch else RowNoise.like(tokens)
        shown = batch.get("shown", tokens)
        if self.config.outcome_only:
            past, seen = self._begun(self._misread(shown, noise), batch.get("before"))
            finished = self.finished(past, actions, seen)
            return _scored(*self._outcome_loss(finished, batch))
        before, target = tokens[:, :-1], tokens[:, 1:]
        if self.config.objective == "two_stream":
            hidden = sample_schedule_masks(target, self.config.schedule_steps, noise)
            masked = target.masked_fill(hidden, self.mask_token)
            past, seen = self._begun(self._misread(shown, noise), batch.get("before"))
            clean, x = self.predict_two_stream(past, actions, masked, seen)
            outcome_input = clean[:, 1:]
        else:
            hidden = sample_bernoulli_masks(before, noise)
            masked = before.masked_fill(hidden, self.mask_token)
            outcome_input = self.transformer.enter(self.embed(masked, actions))
            x = self.transformer.leave(outcome_input)
        changed = before != target
        if self.config.frame_patch:
            changed |= target != STILL
        loss, metrics = self._token_loss(x, target, changed, hidden)
        if "rewards" in batch:
            outcome_loss, outcome_metrics = self._outcome_loss(outcome_input, batch)
            loss, metrics = loss + outcome_loss, metrics | outcome_metrics
        return _scored(loss, metrics)

    @torch.no_grad()
    def finished(self, tokens: Tensor, actions: Tensor, before: Tensor | None = None) -> Tensor:
        """Hidden states ``(B, T - 1, N, D)`` of frames 1.., as `outcome` reads them in a dream.

        Args:
            tokens: ``(B, T, N)``, nothing hidden.
            actions: ``(B, T - 1)`` between them.
            before: The frame before each, uint8 ``(B, T, H, W, C)``, for ``frame_patch``.
        """
        if self.config.objective == "two_stream":
            return self._enter_plain(tokens, actions, before)[:, 1:]
        return self.transformer.enter(self.embed(tokens[:, :-1], actions))

    def _enter_plain(self, tokens: Tensor, actions: Tensor, before: Tensor | None) -> Tensor:
        first = torch.full_like(actions[:, :1], NO_ACTION)
        actions = torch.cat((first, actions), 1)
        return self.transformer.enter(self.embed(tokens, actions, seen=self.see(before)))

    def _outcome_loss(
        self, x: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        reward, termination = self.outcome.losses(
            x, batch["rewards"], batch["terminated"], self.config.event_weight
        )
        loss = self.config.reward_weight * reward + self.config.termination_weight * termination
        return loss, {"reward_loss": reward, "termination_loss": termination}

    @torch.compiler.disable  # how many tokens are hidden differs from batch to batch
    def _token_loss(
        self, x: Tensor, target: Tensor, changed: Tensor, hidden: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over rows of each row's weighted mean over its hidden tokens."""
        num_rows, row = len(hidden), hidden.nonzero()[:, 0]  # (M,)
        target, changed = target[hidden], changed[hidden]
        logits = self.to_logits(x[hidden])  # (M, K)
        cost, cross_entropy = token_distance_cross_entropy(
            logits, target, self.codes, self.config.tdce_weight
        )
        weight = 1 + self.config.changed_weight * changed
        logits = logits.detach()
        correct = (logits.gather(1, target[:, None]).squeeze(1) == logits.amax(-1)).float()
        share = weight / weight.new_zeros(num_rows).index_add(0, row, weight)[row]
        loss = (cost * share).sum() / num_rows
        return loss, {
            "token_loss": loss,
            "cross_entropy": cross_entropy.mean(),
            "perplexity": cross_entropy.mean().exp(),
            "accuracy": correct.mean(),
            "changed_accuracy": (correct * changed).sum() / changed.sum().clamp(min=1),
        }

    def _begun(self, tokens: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The same window as a dream begins: what its first frame changed is not known there.

        Else a dream after one frame, of which nothing is said to move, would take it for standing
        still.
        """
        if before is None:
            return tokens, None
        tokens = torch.cat((torch.full_like(tokens[:, :1], STILL), tokens[:, 1:]), 1)
        return tokens, torch.cat((before[:, 1:2], before[:, 1:]), 1)

    def _misread(self, tokens: Tensor, noise: RowNoise) -> Tensor:
        return misread(tokens, self.config.context_noise, self.config.num_codes, noise)

    def _check(self, tokens: Tensor, actions: Tensor) -> None:
        num_tokens = len(self.positions)
        if tokens.ndim != 3 or tokens.shape[-1] != num_tokens:
            raise ValueError(
                f"expected tokens (B, T, {num_tokens}), got {tuple(tokens.shape)}; "
                "encode the frames with the tokenizer this dynamics was configured for"
            )
        if tokens.shape[1] < 2 or actions.shape != (len(tokens), tokens.shape[1] - 1):
            raise ValueError(
                f"expected actions ({len(tokens)}, {tokens.shape[1] - 1}) for tokens "
                f"{tuple(tokens.shape)} with at least 2 frames, got {tuple(actions.shape)}"
            )


def _scored(loss: Tensor, metrics: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return loss, {name: x.detach() for name, x in {"loss": loss, **metrics}.items()}
