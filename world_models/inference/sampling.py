"""MaskGIT sampling: hidden tokens are revealed over a few passes, the surest first.

Shapes: B batch, R of its rows, M tokens sampled together, K codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from world_models.masking import num_masked
from world_models.motion import DISPLACEMENTS
from world_models.noise import uniform

__all__ = [
    "FOR_CHANGES",
    "Draft",
    "Pass",
    "Sample",
    "SamplingConfig",
    "entropy",
    "reveal",
    "revealing",
    "sample_tokens",
]

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


class Draft(NamedTuple):
    """Tokens of R rows on their way from all hidden to none.

    Attributes:
        tokens: ``(R, M)``.
        hidden: Which of them are, ``(R, M)``.
        place: Where in the schedule each row is, ``(R,)``.
        passes: How many passes each row needed, ``(R,)``.
    """

    tokens: Tensor
    hidden: Tensor
    place: Tensor
    passes: Tensor

    def rows(self, rows: Tensor) -> Draft:
        """Some of the rows."""
        return Draft(*(x[rows] for x in self))


Pass = Callable[[Draft, Tensor, Tensor, Tensor], tuple[Tensor, Draft]]
"""From a draft, which rows ``(R,)`` it is of, and a schedule and random numbers as `reveal` takes
them, to logits and the draft after that."""


def reveal(
    draft: Draft, logits: Tensor, schedule: Tensor, drawn: Tensor, config: SamplingConfig
) -> Draft:
    """Take what one pass says of hidden tokens for true where it is sure.

    Args:
        draft: What the pass saw.
        logits: What it says, ``(R, M, K)``.
        schedule: How many tokens are hidden before each pass, and after the last.
        drawn: Random numbers, ``(R, M)``.
        config: How to sample.
    """
    tokens, hidden, place, passes = draft
    logits, steps = logits.float(), config.steps
    left = torch.ones_like(place) if config.unbiased else (steps - 1 - place) / steps
    temperature = config.temperature * left  # (R,)
    warm = logits
    if 0 < config.together_from < logits.shape[-1]:
        warm = _as_one(logits, temperature, config.together_from)
    picked = _pick(warm, temperature, drawn)
    likely = logits.amax(-1) if config.unbiased else logits.gather(-1, picked[..., None])[..., 0]
    sure = (likely - logits.logsumexp(-1)).exp()  # its probability
    stay = _least_sure(sure, hidden, schedule[place + 1])
    if config.adaptive:
        stay = stay & (sure < config.threshold)
    reached = (schedule > stay.sum(1, keepdim=True)).sum(1)  # where no more are hidden
    return Draft(
        tokens=torch.where(hidden & ~stay, picked, tokens),
        hidden=stay,
        place=torch.maximum(place + 1, reached).clamp(max=steps - 1),
        passes=passes + hidden.any(1),
    )


def revealing(predict: Callable[[Tensor, Tensor], Tensor], config: SamplingConfig) -> Pass:
    """The pass that reveals what `predict` says.

    It goes from tokens ``(R, M)``, some hidden, of the rows ``(R,)`` to logits ``(R, M, K)``.
    """

    def run(draft: Draft, rows: Tensor, schedule: Tensor, drawn: Tensor) -> tuple[Tensor, Draft]:
        logits = predict(draft.tokens, rows)
        return logits, reveal(draft, logits, schedule, drawn, config)

    return run


def sample_tokens(
    run: Pass, hidden: Tensor, seeds: Tensor, counters: Tensor, config: SamplingConfig
) -> Sample:
    """Sample M tokens per row.

    Args:
        run: A pass.
        hidden: All-hidden tokens ``(B, M)``: the mask id everywhere.
        seeds: ``(B,)`` int64 and
        counters: ``(B,)`` int64: which random numbers each row uses.
        config: How.
    """
    steps, size = config.steps, hidden.shape[1]
    schedule = torch.tensor([num_masked(step, steps, size) for step in range(steps + 1)])
    schedule = schedule.to(hidden.device)
    drawn = uniform(seeds, counters, 0, steps * size).unflatten(1, (steps, size))
    none = torch.zeros_like(seeds)
    # Fields of their own: what is compiled is compiled anew for arguments that share memory.
    draft = Draft(hidden, torch.ones_like(hidden, dtype=torch.bool), none, none.clone())
    tokens, taken = hidden.clone(), none.clone()
    rows = torch.arange(len(seeds), device=seeds.device)  # R of the B: the draft's
    for step in range(steps):
        logits, draft = run(draft, rows, schedule, drawn[:, step])
        if step == 0:
            first = entropy(logits)
        if config.adaptive:
            if not draft.hidden.any():
                break
            if (fewer := _halved(draft.hidden.any(1))) is not None:
                tokens[rows], taken[rows] = draft.tokens, draft.passes
                rows, draft, drawn = rows[fewer], draft.rows(fewer), drawn[fewer]
    tokens[rows], taken[rows] = draft.tokens, draft.passes
    return Sample(tokens, first, taken)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of ``(..., K)``, in nats, ``(...)``."""
    logits = logits.float().log_softmax(-1)
    return -(logits.exp() * logits).sum(-1)


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


def _pick(logits: Tensor, temperature: Tensor, drawn: Tensor) -> Tensor:
    """Draw a token each; rows at temperature 0 take the likeliest."""
    most, likeliest = logits.max(-1, keepdim=True)
    cold = (temperature == 0)[:, None]
    if not torch.compiler.is_compiling() and cold.all():  # compiled, one way must do for all
        return likeliest.squeeze(-1)
    heat = torch.where(cold, 1.0, temperature[:, None])
    cumulative = ((logits - most) / heat[..., None]).exp().cumsum(-1)
    at = drawn[..., None] * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, at, right=True).clamp(max=logits.shape[-1] - 1)
    return torch.where(cold[..., None], likeliest, index).squeeze(-1)


def _as_one(logits: Tensor, temperature: Tensor, start: int) -> Tensor:
    """Logits whose draw at a temperature ``(B,)`` takes the ids from `start` on as one.

    These then are as likely together as a single id of all their probability.
    """
    heat = temperature.clamp(min=COLD)[:, None, None]
    others, group = logits[..., :start], logits[..., start:]
    within = heat * (group / heat).log_softmax(-1)
    return torch.cat((others, group.logsumexp(-1, keepdim=True) + within), -1)


def _least_sure(sure: Tensor, hidden: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` ``(B,)`` least sure of the hidden tokens of each row."""
    order = sure.masked_fill(~hidden, float("inf")).argsort(dim=-1, stable=True)
    return (order.argsort(dim=-1) < count[:, None]) & hidden  # scattered ranks are compiled wrongly
