"""MaskGIT sampling: unmasks tokens over a few passes, the most certain ones first.

Shapes: B batch, R of its rows, M tokens sampled together, K codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from world_models.model.masking import cosine_schedule
from world_models.model.token_space import SamplingConfig, TokenSpace
from world_models.noise import uniform

__all__ = ["MaskedTokens", "Pass", "Predict", "Sample", "entropy", "sample_tokens", "unmask"]

COLD = 1e-3  # a temperature that practically always draws the most likely token


@dataclass(frozen=True)
class Sample:
    """Sampled tokens.

    Attributes:
        tokens: int64 ``(B, M)``.
        entropy: Entropy of each token's distribution when all were masked, in nats, ``(B, M)``.
        passes: Number of passes of each row, ``(B,)``.
    """

    tokens: Tensor
    entropy: Tensor
    passes: Tensor


class MaskedTokens(NamedTuple):
    """Tokens of R rows, some of them masked.

    Attributes:
        tokens: int64 ``(R, M)``.
        masked: Bool, which of them are masked, ``(R, M)``.
        step: Each row's position in the schedule, 0 to steps - 1, ``(R,)``.
        passes: Number of passes of each row so far, ``(R,)``.
    """

    tokens: Tensor
    masked: Tensor
    step: Tensor
    passes: Tensor

    def rows(self, rows: Tensor) -> MaskedTokens:
        """Some of the rows."""
        return MaskedTokens(*(x[rows] for x in self))


Predict = Callable[[Tensor, Tensor], Tensor]
"""Maps tokens ``(R, M)``, some masked, of the rows ``(R,)`` to logits ``(R, M, K)``."""
Pass = Callable[[MaskedTokens, Tensor, Tensor, Tensor], tuple[Tensor, MaskedTokens]]
"""`Predict` and `unmask` in one call: maps tokens, rows, schedule and noise to the logits and the
tokens after the pass."""


def sample_tokens(
    predict: Predict,
    space: TokenSpace,
    config: SamplingConfig,
    seeds: Tensor,
    counters: Tensor,
    num_frames: int = 1,
    fused: Pass | None = None,
) -> Sample:
    """Sample all tokens of B rows.

    Args:
        predict: Returns the logits of tokens.
        space: The token space.
        config: How to sample.
        seeds: ``(B,)`` int64. A row's random numbers depend only on its seed and its counter.
        counters: ``(B,)`` int64.
        num_frames: Number of frames sampled together.
        fused: Used instead of `predict` and `unmask` if given.
    """
    steps, size = config.steps, num_frames * space.num_tokens
    schedule = torch.tensor(cosine_schedule(steps, size), device=seeds.device)
    noise = uniform(seeds, counters, 0, steps * size).unflatten(1, (steps, size))
    tokens = seeds.new_full((len(seeds), size), space.mask_token)
    none = torch.zeros_like(seeds)
    # No two fields share memory: torch would compile another version for arguments that do.
    canvas = MaskedTokens(tokens, torch.ones_like(tokens, dtype=torch.bool), none, none.clone())
    tokens, passes = tokens.clone(), none.clone()
    rows = torch.arange(len(seeds), device=seeds.device)  # the R of B rows still being sampled
    for step in range(steps):
        if fused is None:
            logits = predict(canvas.tokens, rows)
            canvas = unmask(canvas, logits, schedule, noise[:, step], config, space)
        else:
            logits, canvas = fused(canvas, rows, schedule, noise[:, step])
        if step == 0:
            first = entropy(logits)
        if config.threshold < 1:
            unfinished = canvas.masked.any(1)
            if not unfinished.any():
                break
            if (kept := _halved(unfinished)) is not None:
                tokens[rows], passes[rows] = canvas.tokens, canvas.passes
                rows, canvas, noise = rows[kept], canvas.rows(kept), noise[kept]
    tokens[rows], passes[rows] = canvas.tokens, canvas.passes
    return Sample(tokens, first, passes)


def unmask(
    canvas: MaskedTokens,
    logits: Tensor,
    schedule: Tensor,
    noise: Tensor,
    config: SamplingConfig,
    space: TokenSpace,
) -> MaskedTokens:
    """Draw tokens, and unmask those that are certain enough.

    Args:
        canvas: The tokens before the pass.
        logits: Their logits, ``(R, M, K)``.
        schedule: Number of masked tokens before each pass, and after the last.
        noise: Uniform random numbers, ``(R, M)``.
        config: How to sample.
        space: The token space.
    """
    tokens, masked, step, passes = canvas
    logits, steps = logits.float(), config.steps
    if space.neutral is None:  # MaskGIT: the temperature falls linearly to 0
        temperature = config.temperature * ((steps - 1 - step) / steps)  # (R,)
        drawn = _draw(logits, temperature, noise)
        logit = logits.gather(-1, drawn[..., None])[..., 0]
    else:
        # Certainty is the probability of the most likely token, not of the drawn one. Otherwise
        # unlikely draws would be masked again, and things that rarely move would never move.
        temperature = config.temperature * torch.ones_like(step)
        grouped = logits
        if space.group_start is not None:
            grouped = _grouped(logits, temperature, space.group_start)
        drawn = _draw(grouped, temperature, noise)
        logit = logits.amax(-1)
    certainty = (logit - logits.logsumexp(-1)).exp()  # a probability
    stay = _least_certain(certainty, masked, schedule[step + 1])
    if config.threshold < 1:
        stay = stay & (certainty < config.threshold)
    reached = (schedule > stay.sum(1, keepdim=True)).sum(1)  # the step with as few masks
    return MaskedTokens(
        tokens=torch.where(masked & ~stay, drawn, tokens),
        masked=stay,
        step=torch.maximum(step + 1, reached).clamp(max=steps - 1),
        passes=passes + masked.any(1),
    )


def entropy(logits: Tensor) -> Tensor:
    """The entropy ``(...)`` of logits ``(..., K)``, in nats."""
    logits = logits.float().log_softmax(-1)
    return -(logits.exp() * logits).sum(-1)


def _halved(unfinished: Tensor) -> Tensor | None:
    """Select half of the rows, or a quarter and so on, with all unfinished ones; None for all.

    Few different sizes mean few compilations.
    """
    size, num = len(unfinished), int(unfinished.sum())
    while size > num and (half := (size + 1) // 2) >= num:
        size = half
    if size == len(unfinished):
        return None
    return unfinished.argsort(descending=True, stable=True)[:size]


def _draw(logits: Tensor, temperature: Tensor, noise: Tensor) -> Tensor:
    """Draw tokens. Rows at temperature 0 take the most likely ones."""
    most, likeliest = logits.max(-1, keepdim=True)
    cold = (temperature == 0)[:, None]
    if not torch.compiler.is_compiling() and cold.all():  # compiled code cannot branch on data
        return likeliest.squeeze(-1)
    heat = torch.where(cold, 1.0, temperature[:, None])
    cumulative = ((logits - most) / heat[..., None]).exp().cumsum(-1)
    at = noise[..., None] * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, at, right=True).clamp(max=logits.shape[-1] - 1)
    return torch.where(cold[..., None], likeliest, index).squeeze(-1)


def _grouped(logits: Tensor, temperature: Tensor, start: int) -> Tensor:
    """Logits for drawing the ids from `start` on as one group first, then one of its members.

    At the temperature ``(R,)``, the group is as likely as a single id with the group's probability.
    """
    heat = temperature.clamp(min=COLD)[:, None, None]
    others, group = logits[..., :start], logits[..., start:]
    within = heat * (group / heat).log_softmax(-1)
    return torch.cat((others, group.logsumexp(-1, keepdim=True) + within), -1)


def _least_certain(certainty: Tensor, masked: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` ``(R,)`` least certain of the masked tokens of each row."""
    order = certainty.masked_fill(~masked, float("inf")).argsort(dim=-1, stable=True)
    # Sort twice, because torch 2.13 miscompiles scattered ranks.
    return (order.argsort(dim=-1) < count[:, None]) & masked
