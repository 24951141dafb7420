"""TDCE (token-distance cross-entropy): a wrong token costs less if it looks like the right one.

Shapes: M predictions, K codes, E code dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["token_distance_cross_entropy", "token_distance_plain"]

ROWS = 256  # predictions per chunk, so that the (ROWS, K) tables fit into the CPU cache
GPU_ROWS = 65536  # on a GPU, every chunk costs several kernel launches


def token_distance_cross_entropy(
    logits: Tensor, targets: Tensor, codes: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Return ``cross-entropy + weight * distance``, and the cross-entropy alone, both ``(M,)``.

    The distance is the expected cosine distance from the target's code to the predicted token's
    code; the paper uses weight 1. Only the first result has a gradient, and only with respect to
    the logits ``(M, K)``. Targets are int64 ``(M,)``, and codes are ``(K, E)``.
    """
    return _TokenDistanceCrossEntropy.apply(logits, targets, codes, weight)


def token_distance_plain(logits: Tensor, targets: Tensor, codes: Tensor, weight: float) -> Tensor:
    """Compute the first result of `token_distance_cross_entropy` in plain torch.

    As in the paper, a table holds the distances between all codes.
    """
    table = 1 - F.cosine_similarity(codes[:, None], codes[None], dim=-1)  # (K, K)
    cross_entropy = F.cross_entropy(logits, targets, reduction="none")
    return cross_entropy + weight * (table[targets] * logits.softmax(-1)).sum(-1)


class _TokenDistanceCrossEntropy(torch.autograd.Function):
    """Computes the gradient in the forward pass, in closed form.

    Let p be the predicted probabilities, and s the cosine similarities between the target's code
    and all codes. Then the distance is 1 - p.s, and the gradient of the distance with respect to
    the logits is p * (p.s - s).
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, codes: Tensor, weight: float
    ) -> tuple[Tensor, Tensor]:
        codes = F.normalize(codes.float(), dim=-1)
        cost, cross_entropy = logits.new_empty((2, len(logits)), dtype=torch.float32)
        gradient = torch.empty_like(logits)
        num = ROWS if logits.device.type == "cpu" else GPU_ROWS
        with torch.autocast(logits.device.type, enabled=False):
            for i in range(0, len(logits), num):
                rows = slice(i, i + num)
                target = targets[rows, None]
                log_p = logits[rows].float().log_softmax(-1)
                cross_entropy[rows] = -log_p.gather(1, target).squeeze(1)
                p = log_p.exp_()
                similarity = codes[targets[rows]] @ codes.T  # (num, K)
                expected = (p * similarity).sum(1, keepdim=True)
                cost[rows] = cross_entropy[rows] + weight * (1 - expected).squeeze(1)
                slope = similarity.sub_(expected).mul_(-weight).add_(1).mul_(p)
                gradient[rows] = slope.scatter_add_(1, target, torch.full_like(expected, -1))
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(cross_entropy)
        return cost, cross_entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None].to(gradient.dtype), None, None, None
