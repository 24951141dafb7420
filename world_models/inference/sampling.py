"""MaskGIT sampling: unmasks tokens over a few passes, the most certain ones first.

A *row* is one batch item. Rows that need no more passes can drop out, so a pass has R of B rows.

Shapes: B batch, R rows in a pass, M tokens per row that are sampled together, K codes.
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

COLD = 1e-3  # a temperature so low that the most likely token is practically always drawn
CHUNK = 256  # number of tokens drawn at once
LARGEST = 1 - 2.0**-24  # the largest float32 below 1


@dataclass(frozen=True)
class Sample:
    """Sampled tokens.

    Attributes:
        tokens: The tokens, int64 ``(B, M)``.
        entropy: Entropy of each token's distribution when all tokens were masked, in nats,
            ``(B, M)``.
        passes: Number of passes that each row took, ``(B,)``.
    """

    tokens: Tensor
    entropy: Tensor
    passes: Tensor


class MaskedTokens(NamedTuple):
    """The partly masked tokens of R rows.

    Attributes:
        tokens: The tokens, int64 ``(R, M)``.
        masked: Whether each token is masked, bool ``(R, M)``.
        step: Each row's position in the schedule, 0 to steps - 1, ``(R,)``.
        passes: Number of passes that each row has taken so far, ``(R,)``.
    """

    tokens: Tensor
    masked: Tensor
    step: Tensor
    passes: Tensor

    def rows(self, rows: Tensor) -> MaskedTokens:
        """Return only the rows with these indices."""
        return MaskedTokens(*(x[rows] for x in self))


Predict = Callable[[Tensor, Tensor], Tensor]
"""Maps partly masked tokens ``(R, M)`` and row indices ``(R,)`` to logits ``(R, M, K)``."""
Pass = Callable[[MaskedTokens, Tensor, Tensor, Tensor], tuple[MaskedTokens, Tensor]]
"""Does a whole pass, `Predict` and `unmask`, in one call.

Maps tokens, row indices, schedule and noise to the tokens after the pass and the entropy of each
token's distribution."""


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
        predict: Computes the logits for partly masked tokens.
        space: The token space.
        config: The sampling settings.
        seeds: A random seed for each row, int64 ``(B,)``. A row's random numbers depend only on its
            seed and its counter.
        counters: A counter for each row, such as the frame number, int64 ``(B,)``.
        num_frames: Number of frames that are sampled together.
        fused: If given, it is called instead of `predict` and `unmask`.
    """
    steps, size = config.steps, num_frames * space.num_tokens
    schedule = torch.tensor(cosine_schedule(steps, size), device=seeds.device)
    noise = uniform(seeds, counters, 0, steps * size).unflatten(1, (steps, size))
    tokens = seeds.new_full((len(seeds), size), space.mask_token)
    none = torch.zeros_like(seeds)
    # The fields must not share memory: torch would compile a separate version for that case.
    canvas = MaskedTokens(tokens, torch.ones_like(tokens, dtype=torch.bool), none, none.clone())
    tokens, passes = tokens.clone(), none.clone()
    rows = torch.arange(len(seeds), device=seeds.device)  # rows that are still being sampled
    for step in range(steps):
        if fused is None:
            logits = predict(canvas.tokens, rows)
            canvas, entropy = unmask(canvas, logits, schedule, noise[:, step], config, space)
        else:
            canvas, entropy = fused(canvas, rows, schedule, noise[:, step])
        if step == 0:
            first = entropy
        if config.threshold < 1:
            unfinished = canvas.masked.any(1)
            if not unfinished.any():
                break
            # Compiled code keeps all rows: another number of rows would need another compilation.
            # Dropping finished rows copies the other rows and their past, which pays off only if at
            # least half of the rows are finished.
            if fused is None and 2 * int(unfinished.sum()) <= len(rows):
                tokens[rows], passes[rows] = canvas.tokens, canvas.passes
                kept = unfinished.nonzero()[:, 0]
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
) -> tuple[MaskedTokens, Tensor]:
    """Draw tokens, and unmask the ones that are certain enough.

    Args:
        canvas: The tokens before the pass.
        logits: The tokens' logits, ``(R, M, K)``.
        schedule: The number of masked tokens before each pass, followed by the number after the
            last pass.
        noise: Uniform random numbers, ``(R, M)``.
        config: The sampling settings.
        space: The token space.

    Returns:
        The tokens after the pass, and the entropy of each token's distribution, ``(R, M)``.
    """
    tokens, masked, step, passes = canvas
    steps, temperature = config.steps, config.temperature * torch.ones_like(step)  # (R,)
    if space.neutral is None:  # MaskGIT: the temperature falls linearly to 0
        temperature = config.temperature * ((steps - 1 - step) / steps)
    drawn, certainty, entropy = _draw(logits, temperature[:, None].expand_as(noise), noise, space)
    if config.redraw:
        hidden = _least_certain(certainty, masked, schedule[(step + 2).clamp(max=steps)])
        tokens = drawn.masked_fill(hidden, space.mask_token)
        return MaskedTokens(tokens, hidden, (step + 1).clamp(max=steps - 1), passes + 1), entropy
    stay = _least_certain(certainty, masked, schedule[step + 1])
    if config.threshold < 1:
        stay = stay & (certainty < config.threshold)
    reached = (schedule > stay.sum(1, keepdim=True)).sum(1)  # the first step with so few masks
    canvas = MaskedTokens(
        tokens=torch.where(masked & ~stay, drawn, tokens),
        masked=stay,
        step=torch.maximum(step + 1, reached).clamp(max=steps - 1),
        passes=passes + masked.any(1),
    )
    return canvas, entropy


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy ``(...)`` of the distributions with logits ``(..., K)``, in nats."""
    logits = logits.float().log_softmax(-1)
    return -(logits.exp() * logits).sum(-1)


def _draw(
    logits: Tensor, temperature: Tensor, noise: Tensor, space: TokenSpace
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample M tokens in each of R batch items, from logits ``(R, M, K)`` over K codes.

    Args:
        logits: Logits of the codes for each token.
        temperature: Temperature of each token, ``(R, M)``; 0 takes the most likely code.
        noise: Uniform random number in [0, 1) for each token, ``(R, M)``.
        space: The kind of tokens: those of frames, or of motion between frames.

    Returns:
        Three tensors ``(R, M)``: the sampled tokens, their probabilities, and the entropies of the
        distributions they were sampled from. For motion tokens, the second tensor holds the
        probability of the most likely code, not of the sampled one; `_draw_chunk` explains why.
    """
    # Chunks fit into the CPU cache, which is several times as fast as drawing all tokens at once.
    size = noise.numel() if torch.compiler.is_compiling() else CHUNK
    chunks = (x.split(size) for x in (logits.flatten(0, 1), temperature.flatten(), noise.flatten()))
    drawn = [_draw_chunk(x, heat, at, space) for x, heat, at in zip(*chunks, strict=True)]
    tokens, certainty, entropy = map(torch.cat, zip(*drawn, strict=True))
    return tokens.view_as(noise), certainty.view_as(noise), entropy.view_as(noise)


def _draw_chunk(
    logits: Tensor, temperature: Tensor, noise: Tensor, space: TokenSpace
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same as `_draw` for n tokens, whose logits are ``(n, K)``."""
    logits = logits.float()
    most, likeliest = logits.max(-1, keepdim=True)
    logits = logits - most
    weight = logits.exp()
    total = weight.sum(-1)
    entropy = total.log() - (weight * logits).sum(-1) / total
    certainty = 1 / total  # the probability of the most likely token
    noise = noise.masked_fill(temperature == 0, 0)
    if torch.compiler.is_compiling():  # compiled code cannot select tokens by their values
        tokens = _draw_any(logits, temperature, noise, space)
    else:
        # Noise below the likeliest token's probability draws that token. A temperature below 1 only
        # raises this probability, so most draws need no cumulative sum.
        least = 0.0 if space.group_start is None else 0.5
        sure = (noise < certainty) & (certainty > least) & (temperature <= 1)
        tokens, rest = likeliest[:, 0].clone(), (~sure).nonzero()[:, 0]
        if len(rest):
            tokens[rest] = _draw_any(logits[rest], temperature[rest], noise[rest], space)
    if space.neutral is None:
        certainty = weight.gather(1, tokens[:, None])[:, 0] / total
    # The certainty of a motion token is the probability of the most likely token, not of the drawn
    # one. Otherwise unlikely draws would be masked again, and objects that rarely move would never
    # move.
    return tokens, certainty, entropy


def _draw_any(logits: Tensor, temperature: Tensor, noise: Tensor, space: TokenSpace) -> Tensor:
    """Draw tokens from logits ``(n, K)``; noise near 0 draws the most likely token."""
    heat = torch.where(temperature == 0, 1.0, temperature)[:, None]
    if space.group_start is not None:
        logits = _grouped(logits, temperature[:, None], space.group_start)
    most, likeliest = logits.max(-1, keepdim=True)
    weight = ((logits - most) / heat).exp()
    first = weight.gather(1, likeliest)
    total = weight.sum(-1, keepdim=True)
    cumulative = weight.scatter(1, likeliest, 0.0).cumsum(-1)
    place = (noise[:, None] * total - first) / (total - first)  # position among the other tokens
    place = place.clamp(0, LARGEST) * cumulative[:, -1:]
    other = torch.searchsorted(cumulative, place, right=True).clamp(max=logits.shape[-1] - 1)
    return torch.where(noise[:, None] * total < first, likeliest, other)[:, 0]


def _grouped(logits: Tensor, temperature: Tensor, start: int) -> Tensor:
    """Adjust logits ``(n, K)`` so that the token ids >= `start` are sampled as a group.

    The group counts as one id, with the total probability of its members. The temperature
    ``(n, 1)`` applies twice: to the choice between the group and the other ids, and to the choice
    of a member within the group.
    """
    heat = temperature.clamp(min=COLD)
    others, group = logits[:, :start], logits[:, start:]
    within = heat * (group / heat).log_softmax(-1)
    return torch.cat((others, group.logsumexp(-1, keepdim=True) + within), -1)


def _least_certain(certainty: Tensor, masked: Tensor, count: Tensor) -> Tensor:
    """Mark each row's least certain masked tokens; `count` ``(R,)`` is their number per row."""
    order = certainty.masked_fill(~masked, float("inf")).argsort(dim=-1, stable=True)
    # A second sort computes the ranks, because torch 2.13 miscompiles their computation by scatter.
    return (order.argsort(dim=-1) < count[:, None]) & masked
