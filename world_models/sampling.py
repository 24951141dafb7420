"""MaskGIT sampling: hidden tokens are revealed over a few passes, the surest first.

Shapes: B batch, M tokens sampled together, K codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from world_models.masking import num_masked
from world_models.motion import DISPLACEMENTS
from world_models.noise import uniform

__all__ = ["FOR_CHANGES", "Sample", "SamplingConfig", "reveal", "sample_tokens"]

COLD = 1e-3  # a temperature at which the likeliest is drawn


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How tokens are sampled.

    Attributes:
        steps: Passes per frame, on a cosine schedule.
        temperature: Of the first pass; it falls linearly to 0, so the last pass takes the best.
        unbiased: Draw what is rare as often as the dynamics says: the temperature stays, and the
            places that are surest come first, whatever was drawn there. Else what was drawn
            against the odds is drawn again, and what may move one way or the other stands still.
        together_from: If not 0, the ids from this one on are drawn as one, and which of them after
            that. Where one id says that a patch moved, and hundreds how else it may look, each of
            those is else the less likely, and at a low temperature never drawn.
        adaptive: Also reveal every token at least as sure as ``threshold``, go on where the
            schedule hides no more than are left, and stop when none is: easy frames take one or
            two passes.
        threshold: Probability from which a sampled token counts as decided.
    """

    steps: int = 8
    temperature: float = 1.0
    unbiased: bool = False
    together_from: int = 0
    adaptive: bool = False
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for name in ("temperature", "together_from"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


FOR_CHANGES = SamplingConfig(
    temperature=0.2, unbiased=True, together_from=DISPLACEMENTS, adaptive=True, threshold=0.4
)
"""How tokens that say what changes are best sampled: else what may move stands still."""


@dataclass(frozen=True)
class Sample:
    """What sampling returns.

    Attributes:
        tokens: ``(B, M)`` int64.
        entropy: Of each token's distribution before any was revealed, in nats, ``(B, M)``.
        passes: How many passes each row needed, ``(B,)``.
    """

    tokens: Tensor
    entropy: Tensor
    passes: Tensor


def reveal(
    logits: Tensor,
    tokens: Tensor,
    hidden: Tensor,
    place: Tensor,
    schedule: Tensor,
    drawn: Tensor,
    config: SamplingConfig,
) -> tuple[Tensor, Tensor]:
    """Take what one pass says of the tokens for true where it is sure.

    Args:
        logits: Of the pass, ``(R, M, K)``.
        tokens: Those it saw, ``(R, M)``.
        hidden: What a row of hidden tokens looks like, ``(1, M)``.
        place: Where in the schedule each row is, ``(R,)``.
        schedule: How many tokens are hidden before each pass, and after the last.
        drawn: Random numbers, ``(R, M)``.
        config: How to sample.

    Returns:
        The tokens, and which of them stay hidden, ``(R, M)`` each.
    """
    logits, steps = logits.float(), config.steps
    probabilities = logits.softmax(-1)
    left = torch.ones_like(place) if config.unbiased else (steps - 1 - place) / steps
    temperature = config.temperature * left  # (R,)
    if 0 < config.together_from < logits.shape[-1]:
        logits = _as_one(logits, temperature, config.together_from)
    picked = _pick(logits, probabilities, temperature, drawn)
    if config.unbiased:
        sure = probabilities.amax(-1)
    else:
        sure = probabilities.gather(-1, picked[..., None]).squeeze(-1)
    open_ = tokens == hidden
    stay = _least_sure(sure, open_, schedule[place + 1])
    if config.adaptive:
        stay = stay & (sure < config.threshold)
    return torch.where(open_ & ~stay, picked, tokens), stay


def sample_tokens(
    predict: Callable[[Tensor, Tensor], Tensor],
    hidden: Tensor,
    seeds: Tensor,
    counters: Tensor,
    config: SamplingConfig,
    reveal: Callable[..., tuple[Tensor, Tensor]] = reveal,
) -> Sample:
    """Sample M tokens per row.

    Args:
        predict: From tokens ``(R, M)``, some hidden, of the rows ``(R,)`` to logits ``(R, M, K)``.
        hidden: All-hidden tokens ``(B, M)``: the mask id everywhere.
        seeds: ``(B,)`` int64 and
        counters: ``(B,)`` int64: which random numbers each row uses.
        config: How.
        reveal: The function of this name; or that, compiled.
    """
    steps, size, nothing = config.steps, hidden.shape[1], hidden[:1]
    schedule = torch.tensor([num_masked(step, steps, size) for step in range(steps + 1)])
    schedule = schedule.to(hidden.device)
    entropy = torch.zeros(hidden.shape, device=hidden.device)
    done = Sample(hidden.clone(), entropy, torch.zeros_like(seeds))
    rows = torch.arange(len(seeds), device=seeds.device)  # R of the B; what follows is theirs
    tokens, passes = hidden, torch.zeros_like(seeds)
    place = torch.zeros_like(seeds)  # in the schedule
    drawn = uniform(seeds, counters, 0, steps * size).unflatten(1, (steps, size))
    for step in range(steps):
        logits = predict(tokens, rows)
        if step == 0:
            entropy.copy_(_entropy(logits))
        passes = passes + (tokens == nothing).any(1)
        tokens, stay = reveal(logits, tokens, nothing, place, schedule, drawn[:, step], config)
        if config.adaptive and not stay.any():
            break
        reached = (schedule > stay.sum(1, keepdim=True)).sum(1)  # where no more are hidden
        place = torch.maximum(place + 1, reached).clamp(max=steps - 1)
        if config.adaptive and (fewer := _halved(stay.any(1))) is not None:
            done.tokens[rows], done.passes[rows] = tokens, passes
            rows, tokens, passes = rows[fewer], tokens[fewer], passes[fewer]
            place, drawn = place[fewer], drawn[fewer]
    done.tokens[rows], done.passes[rows] = tokens, passes
    return done


def _entropy(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)


def _halved(going: Tensor) -> Tensor | None:
    """Half of the rows, or a quarter and so on, with all that go on; None if they are too many.

    Of few sizes, a compiled step has few to be compiled for.
    """
    size, num = len(going), int(going.sum())
    while size > num and (half := (size + 1) // 2) >= num:
        size = half
    if size == len(going):
        return None
    return going.argsort(descending=True, stable=True)[:size]


def _pick(logits: Tensor, probabilities: Tensor, temperature: Tensor, drawn: Tensor) -> Tensor:
    """Draw a token each; rows at temperature 0 take the likeliest."""
    likeliest, cold = logits.argmax(-1), (temperature == 0)[:, None]
    look = not torch.compiler.is_compiling()  # compiled, one way must do for all
    if look and cold.all():
        return likeliest
    if not look or (temperature != 1).any():
        heat = torch.where(cold, 1.0, temperature[:, None])
        probabilities = (logits / heat[..., None]).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    at = drawn[..., None] * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, at, right=True).squeeze(-1)
    return torch.where(cold, likeliest, index.clamp(max=logits.shape[-1] - 1))


def _as_one(logits: Tensor, temperature: Tensor, start: int) -> Tensor:
    """Logits whose draw at a temperature ``(B,)`` takes the ids from `start` on as one.

    These then are as likely together as a single id of all their probability.
    """
    heat = temperature.clamp(min=COLD)[:, None, None]
    others, group = logits[..., :start], logits[..., start:]
    within = heat * (group / heat).log_softmax(-1)
    return torch.cat((others, group.logsumexp(-1, keepdim=True) + within), -1)


def _least_sure(sure: Tensor, open_: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` ``(B,)`` least sure of the open tokens of each row."""
    order = sure.masked_fill(~open_, float("inf")).argsort(dim=-1, stable=True)
    rank = torch.arange(sure.shape[1], device=sure.device).expand_as(order)
    return torch.zeros_like(open_).scatter_(1, order, rank < count[:, None]) & open_
