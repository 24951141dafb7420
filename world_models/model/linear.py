"""A linear layer whose result for a row (batch item) does not depend on the number of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["row_by_row"]


def row_by_row(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to rows ``(B, D)``, with a separate multiplication for each row.

    So the result for a row is bit-identical in any batch. A single matrix multiplication for all
    rows may sum in an order that depends on B.
    """
    if torch.compiler.is_compiling():  # compiled code may sum in any order anyway
        return linear(x)
    weight = linear.weight.T.expand(len(x), -1, -1)
    return torch.bmm(x[:, None], weight).squeeze(1) + linear.bias
