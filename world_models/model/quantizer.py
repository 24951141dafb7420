"""The vector quantiser in tokenizers and in the latent action model.

Shapes: M vectors, K codes, E code dimension.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Quantizer"]


class Quantizer(nn.Module):
    """Maps a vector to the code with the largest dot product.

    Codes are learned by gradient descent.

    Args:
        dim: Dimension of the vectors.
        num_codes: Codebook size K.
        code_dim: Code dimension E.
        revive_distance: A vector can replace a dead (unused) code if the cosine distance between
            the vector and its nearest code is larger than this.
        commitment_weight: Weight of the loss that pulls vectors towards their codes.
        unit_codes: Scale codes to unit norm, so that the code with the largest dot product is the
            nearest code on the unit sphere. If False, codes keep their norm.
    """

    unused: Tensor

    def __init__(
        self,
        dim: int,
        num_codes: int,
        code_dim: int,
        revive_distance: float = 0.05,
        commitment_weight: float = 0.25,
        unit_codes: bool = True,
    ):
        super().__init__()
        self.revive_distance, self.commitment_weight = revive_distance, commitment_weight
        self.unit_codes = unit_codes
        self.project_in = nn.Linear(dim, code_dim)
        self.project_out = nn.Linear(code_dim, dim)
        self.codebook = nn.Parameter(F.normalize(torch.randn(num_codes, code_dim), dim=-1))
        self.register_buffer("unused", torch.zeros(num_codes, dtype=torch.int64))

    def codes(self) -> Tensor:
        """Return the codes ``(K, E)``, which have unit norm if `unit_codes` is True."""
        return F.normalize(self.codebook, dim=-1) if self.unit_codes else self.codebook

    def indices(self, x: Tensor) -> Tensor:
        """Return the index (int64) of the code nearest to each vector in ``x (..., dim)``."""
        return self._nearest(self._project(x))

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the vectors ``(..., dim)`` for code indices ``(...)``."""
        return self.project_out(F.embedding(indices, self.codes()))

    def forward(self, x: Tensor, revive_after: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise vectors ``(..., dim)`` for training.

        All processes must call this method, even if they have no vectors.

        If no vector has used a code in the last `revive_after` training calls, the code moves to a
        vector of the current batch (0: codes never move). This keeps the codebook from collapsing
        to a few codes. Only vectors far from their nearest code are chosen: near-duplicates of
        common codes would make tokens unpredictable.

        Returns:
            The quantised vectors with a straight-through gradient, the indices of their codes, and
            a loss that pulls codes towards vectors and, more weakly, vectors towards codes.
        """
        x = self._project(x)
        indices = self._nearest(x)
        if self.training and revive_after and self.codebook.requires_grad:
            self._revive(x.detach().flatten(0, -2), indices, revive_after)
        chosen = F.embedding(indices, self.codes()).float()
        if not len(indices):  # means would be NaN; these sums are 0
            return self.project_out(x), indices, x.sum() + chosen.sum()
        commitment = F.mse_loss(x, chosen.detach())
        loss = F.mse_loss(chosen, x.detach()) + self.commitment_weight * commitment
        return self.project_out(x + (chosen - x).detach()), indices, loss

    def _project(self, x: Tensor) -> Tensor:
        return F.normalize(self.project_in(x).float(), dim=-1)

    @torch.no_grad()
    def _nearest(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16, similar codes would tie
            return (x @ self.codes().float().mT).argmax(-1)

    @torch.no_grad()
    def _revive(self, x: Tensor, indices: Tensor, after: int) -> None:
        distance = (1 - (x * F.embedding(indices.flatten(), self.codes())).sum(-1)).clamp(min=1e-9)
        places, far = torch.zeros_like(self.codebook), x.new_zeros(len(self.unused))  # (K, E), (K,)
        if len(x):
            drawn = torch.multinomial(distance, len(self.unused), replacement=True)
            places, far = x[drawn], distance[drawn]
        used = torch.zeros_like(self.unused).index_fill_(0, indices.flatten(), 1)
        if dist.is_initialized():
            dist.all_reduce(used, dist.ReduceOp.MAX)
            dist.broadcast(places, 0)
            dist.broadcast(far, 0)
        self.unused.add_(used.max()).masked_fill_(used.bool(), 0)  # 0 if there are no vectors
        dead = (self.unused >= after) & (far > self.revive_distance)
        # In place is safe for autograd: no earlier lookup in this step used a dead code.
        self.codebook.data.copy_(torch.where(dead[:, None], places, self.codebook))
        self.unused.masked_fill_(dead, 0)
