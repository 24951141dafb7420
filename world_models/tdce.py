"""Token-distance cross-entropy: wrong tokens cost less if they look alike.

Shapes: M predictions, K codes, E width of a code.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["token_distance", "token_distance_cross_entropy"]


def token_distance(logits: Tensor, targets: Tensor, codes: Tensor) -> Tensor:
    """Expected cosine distance from the target's code to the predicted one, ``(M,)``.

    The distances of the target to all codes, weighted by the predicted probabilities, sum to one
    minus the target's code times the mean predicted code: no (K, K) table is needed.
    """
    codes = F.normalize(codes.float(), dim=-1)
    mean = logits.float().softmax(-1) @ codes  # (M, E)
    return 1 - (codes[targets] * mean).sum(-1)


def token_distance_cross_entropy(
    logits: Tensor, targets: Tensor, codes: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Return ``cross-entropy + weight * distance`` and the cross-entropy alone, ``(M,)`` each.

    Args:
        logits: ``(M, K)``.
        targets: ``(M,)`` int64.
        codes: ``(K, E)``.
        weight: 1 in the paper's formula; 0 leaves plain cross-entropy.
    """
    cross_entropy = F.cross_entropy(logits.float(), targets, reduction="none")
    if not weight:
        return cross_entropy, cross_entropy
    return cross_entropy + weight * token_distance(logits, targets, codes), cross_entropy
