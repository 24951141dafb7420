"""A patch codebook: replaces patches that the codec cannot reproduce with the nearest real patch.

There is no network: the codebook is learned by clustering. A game for an old console shows few
sprites on few backgrounds, so several hundred patches represent nearly everything, whereas a
decoder would have to train for hours. A patch that is unlike all patches in the codebook cannot be
represented.

Shapes: B batch, T frames, N tokens per frame, M patches, V values per patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from world_models.model.patches import CHANNELS
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.pixels import patches_from_pixels, pixels_from_patches
from world_models.tokenizers.motion.codec import MotionCodec
from world_models.tokenizers.motion.displacement import DISPLACEMENTS, STILL
from world_models.tokenizers.motion.tokenizer import (
    CODE_DIM,
    GAIN,
    MotionConfig,
    Residual,
    TrainedFrame,
)

__all__ = ["PatchCodebook", "PatchCodebookConfig"]

BAD_PER_NEW = 4  # a step adds one patch to the codebook per this many badly reconstructed ones
CANDIDATES = 8  # nearest keys by rounded distances, whose exact distances are computed
NEVER_USED = 1 << 30  # initial count of steps without use


@dataclass(frozen=True, kw_only=True)
class PatchCodebookConfig(MotionConfig):
    """A motion tokenizer with a patch codebook, for one game with few sprites."""


class PatchCodebook(Residual):
    """Replaces patches that the codec cannot reproduce with patches from a codebook.

    The codebook exists twice: encoding compares patches with ``keys``, and decoding outputs patches
    from ``shown``. In training, ``keys`` is ``shown`` before the last optimiser step. Fine-tuning
    the decoder changes only ``shown``.
    """

    decoder_parts = ("shown.",)
    has_network = False
    grouped = False
    keys: Tensor
    unused: Tensor

    def __init__(self, config: PatchCodebookConfig):
        super().__init__(MotionCodec(config.frame_size, config.patch, config.threshold))
        num_patches = config.num_codes - DISPLACEMENTS
        self.shown = nn.Embedding(num_patches, config.patch**2 * CHANNELS)
        nn.init.uniform_(self.shown.weight)
        self.register_buffer("keys", self.shown.weight.detach().clone())
        self.register_buffer("unused", torch.full((num_patches,), NEVER_USED))

    def codes(self) -> Tensor:
        """See `Residual.codes`. A code holds the colours of a patch at low resolution."""
        side = self.patch
        pixels = rearrange(self.keys, "k (p q c) -> k c p q", p=side, q=side)
        parts = int(((CODE_DIM - 1) / CHANNELS) ** 0.5)  # along each side
        seen = F.adaptive_avg_pool2d(2 * pixels - 1, parts)
        seen = F.pad(seen.flatten(1), (0, 1), value=0.5)  # otherwise grey would be the zero vector
        seen = F.pad(seen, (0, CODE_DIM - seen.shape[1]))
        return F.normalize(seen, dim=-1)

    @torch.no_grad()
    def encode(self, pixels: Tensor, previous: Tensor) -> Tensor:
        """See `Residual.encode`. A patch is replaced only if that reduces its error clearly."""
        return self._encode(pixels, previous)[0]

    def derived(self) -> None:
        """See `Residual.derived`. Decoding needs no such inputs, so the result is None."""

    def decode(self, tokens: Tensor, previous: Tensor, inputs: object = None) -> Tensor:
        """See `Residual.decode`."""
        replaced = tokens >= DISPLACEMENTS
        moved = self.codec.displace(previous, tokens.masked_fill(replaced, STILL))
        new = self.shown((tokens - DISPLACEMENTS).clamp(min=0)).to(moved.dtype)
        patches = torch.where(replaced[..., None], new, patches_from_pixels(moved, self.patch))
        return pixels_from_patches(patches, self.patch, self.frame_size)

    def train_frame(
        self, pixels: Tensor, previous: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> TrainedFrame:
        """See `Residual.train_frame`.

        The loss pulls patches in the codebook towards the pixels that they replace.
        """
        if self.training and not decoder_only:
            self.keys.copy_(self.shown.weight.detach())
        with torch.no_grad():
            tokens, wanted, nearest = self._encode(pixels, previous)
            shown = self.decode(tokens, previous)
        sought = patches_from_pixels(pixels, self.patch)[wanted]
        off = (self.shown(nearest) - sought).square().mean(-1)
        loss = off.sum() / wanted.sum().clamp(min=1)
        return TrainedFrame(shown, tokens, loss, torch.zeros_like(loss), shown)

    @torch.no_grad()
    def after_step(self, pixels: Tensor, shown: Tensor, tokens: Tensor, revive_after: int) -> None:
        """See `Residual.after_step`. Badly reconstructed patches replace unused patches."""
        if not revive_after:
            return
        used = torch.zeros_like(self.unused)
        used[tokens[tokens >= DISPLACEMENTS] - DISPLACEMENTS] = 1
        error, threshold = self.codec.error(shown, pixels).flatten(), self.codec.threshold
        bad = int((error > threshold).sum())
        number = min(bad // BAD_PER_NEW, len(self.unused))
        places = torch.zeros_like(self.keys)
        found = torch.zeros_like(used)
        if number:
            drawn = torch.multinomial(error.clamp(min=threshold / 100), number)
            patches = patches_from_pixels(pixels, self.patch).flatten(0, 2)
            places[:number], found[:number] = patches[drawn].to(places.dtype), 1
        if dist.is_initialized():
            dist.all_reduce(used, dist.ReduceOp.MAX)
            dist.broadcast(places, 0)
            dist.broadcast(found, 0)
        self.unused.add_(1).masked_fill_(used.bool(), 0)
        longest = self.unused.argsort(descending=True, stable=True)[: int(found.sum())]
        dead = longest[self.unused[longest] >= revive_after]
        # In place is safe for autograd: no dead patch was shown in this step.
        self.shown.weight.data[dead] = self.keys[dead] = places[: len(dead)]
        self.unused[dead] = 0

    def _encode(self, pixels: Tensor, previous: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, a mask of patches that the codec cannot reproduce, and their nearest keys.

        Tokens and mask are ``(B, T, N)``, the indices of the nearest keys are ``(M,)``.
        """
        displacement, error = self.codec.match(pixels, previous)
        wanted = error > self.codec.threshold
        sought = patches_from_pixels(pixels, self.patch)[wanted]  # (M, V)
        distance, nearest = self._nearest(sought)
        found = torch.where(
            distance < GAIN * error[wanted], nearest + DISPLACEMENTS, displacement[wanted]
        )
        return displacement.masked_scatter(wanted, found), wanted, nearest

    def _nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Find each patch's nearest key; return mean squared distances and indices, ``(M,)``."""
        with torch.autocast(patches.device.type, enabled=False):
            patches, keys = patches.float(), self.keys.float()
            # A matrix multiplication finds candidates. It is fast, but rounds differently from
            # batch to batch, so the nearest candidate is found by computing each pair.
            rough = torch.addmm(keys.square().sum(-1), patches, keys.T, alpha=-2)
            number = min(CANDIDATES, len(keys))
            candidates = rough.topk(number, largest=False).indices.sort(-1).values  # (M, number)
            apart = torch.cdist(
                patches[:, None], keys[candidates], compute_mode="donot_use_mm_for_euclid_dist"
            )
        distance, place = apart.squeeze(1).min(-1)
        return distance.square() / patches.shape[-1], candidates.gather(1, place[:, None])[:, 0]
