"""A tokenizer of one game's patches: what does not move is copied from an album of real ones.

As `world_models.changes`, but a token that paints puts an exemplar in its patch's place, and there
is no network: the exemplars are found by clustering. An old console shows few sprites, on few
backgrounds, so an album of some hundred patches holds nearly all there is to see, where a decoder
of the same codes would learn for hours. What no patch before it looked like cannot be shown.

Shapes: B batch, T frames, N tokens per frame, C channels, H height, W width, M patches,
K exemplars, V values of a patch, E width of a code.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from world_models.cache import StreamCache
from world_models.changes import WORTH, ChangeTokenizer, directions
from world_models.motion import DISPLACEMENTS, STILL, displaced
from world_models.pixels import patches_from_pixels, pixels_from_patches, to_uint8
from world_models.tokenizer import CHANNELS, Tokenizer, TokenizerConfig

__all__ = ["ExemplarTokenizer"]

AT_ONCE = 4  # of so many badly shown patches of a step, one becomes an exemplar


class ExemplarTokenizer(ChangeTokenizer):
    """Token ids below DISPLACEMENTS move a patch, the others replace it by an exemplar.

    Patches are compared with ``keys``, and what is shown are the exemplars. The two are the same,
    until only the showing is trained.
    """

    DECODER = ("exemplars",)
    encoder: _Forgetful  # type: ignore[assignment]
    decoder: _Forgetful  # type: ignore[assignment]
    keys: Tensor
    unused: Tensor

    def __init__(self, config: TokenizerConfig):
        nn.Module.__init__(self)
        self.config, self.overlay = config, None
        number = config.num_codes - DISPLACEMENTS
        self.exemplars = nn.Embedding(number, config.patch**2 * CHANNELS)
        nn.init.uniform_(self.exemplars.weight)
        self.register_buffer("keys", self.exemplars.weight.detach().clone())
        self.register_buffer("unused", torch.full((number,), config.revive_after))
        self.register_buffer("directions", directions(config.code_dim), persistent=False)
        self.encoder, self.decoder = _Forgetful(), _Forgetful()
        self._freeze()

    def codes(self) -> Tensor:
        """The unit codes ``(K, E)``: of exemplars, they tell the colours of their parts."""
        side = self.config.patch
        pixels = rearrange(self.keys, "k (p q c) -> k c p q", p=side, q=side)
        parts = int(((self.config.code_dim - 1) / CHANNELS) ** 0.5)  # along each side
        seen = F.adaptive_avg_pool2d(2 * pixels - 1, parts)
        seen = F.pad(seen.flatten(1), (0, 1), value=0.5)  # or grey had no direction
        seen = F.pad(seen, (0, self.config.code_dim - seen.shape[1]))
        return torch.cat((self.directions, F.normalize(seen, dim=-1)))

    def encode_step(
        self, frames: Tensor, cache: StreamCache, before: Tensor
    ) -> tuple[Tensor, StreamCache]:
        """See `Tokenizer.encode_step`."""
        tokens, *_ = self._say(self._pixels(frames[:, None]), self._pixels(before[:, None]))
        return tokens.squeeze(1), cache.write(None)

    def decode_step(
        self, tokens: Tensor, cache: StreamCache, before: Tensor
    ) -> tuple[Tensor, StreamCache]:
        """See `Tokenizer.decode_step`."""
        shown = self._show(tokens[:, None], self._pixels(before[:, None]))
        return to_uint8(shown.squeeze(1)), cache.write(None)

    def compiled(self) -> Tokenizer:
        """Itself: there is no network."""
        return self

    def _autoencode(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        learning = self.training and not self.config.decoder_only
        if learning:
            self.keys.copy_(self.exemplars.weight.detach())
        shown, tokens, cost, nothing = super()._autoencode(pixels)
        if learning:
            self._revive(pixels, self._error(shown, pixels), tokens)
        return shown, tokens, cost, nothing

    def _change(self, pixels: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        """See `ChangeTokenizer`; all that is asked of exemplars is to be like what they are for."""
        tokens, wanted, nearest = self._say(pixels, before)
        shown = self._show(tokens, before).detach()
        sought = patches_from_pixels(pixels, self.config.patch)[wanted]
        off = (self.exemplars(nearest) - sought).square().mean(-1)
        cost = off.sum() / wanted.sum().clamp(min=1)
        return shown, tokens, cost, torch.zeros_like(cost), shown

    @torch.no_grad()
    def _say(self, pixels: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, which patches ``(B, T, N)`` moving leaves too far off, and what is near those."""
        where, error = self._match(pixels, before)
        wanted = error > self.config.repaint
        sought = patches_from_pixels(pixels, self.config.patch)[wanted]  # (M, V)
        distance, nearest = self._nearest(sought)
        painted = torch.where(
            distance < WORTH * error[wanted], nearest + DISPLACEMENTS, where[wanted]
        )
        return where.masked_scatter(wanted, painted), wanted, nearest

    def _nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared distance ``(M,)`` to the nearest key, and its number."""
        with torch.autocast(patches.device.type, enabled=False):
            # Pair by pair: a patch has the same token whatever others are asked for with it.
            apart = torch.cdist(
                patches.float(), self.keys.float(), compute_mode="donot_use_mm_for_euclid_dist"
            )
        distance, nearest = apart.min(-1)
        return distance.square() / patches.shape[-1], nearest

    def _show(self, tokens: Tensor, before: Tensor) -> Tensor:
        """Pixels ``(B, T, C, H, W)`` of tokens ``(B, T, N)``."""
        patch, painted = self.config.patch, tokens >= DISPLACEMENTS
        moved = displaced(before, tokens.masked_fill(painted, STILL), patch)
        paint = self.exemplars((tokens - DISPLACEMENTS).clamp(min=0)).to(moved.dtype)
        patches = torch.where(painted[..., None], paint, patches_from_pixels(moved, patch))
        return pixels_from_patches(patches, patch, self.config.frame_size)

    @torch.no_grad()
    def _revive(self, pixels: Tensor, error: Tensor, tokens: Tensor) -> None:
        """Puts what is shown badly in the place of exemplars that are not used."""
        used = torch.zeros_like(self.unused)
        used[tokens[tokens >= DISPLACEMENTS] - DISPLACEMENTS] = 1
        error = error.flatten()
        bad = int((error > self.config.repaint).sum())
        number = min(bad // AT_ONCE, len(self.unused))
        places = torch.zeros_like(self.keys)
        found = torch.zeros_like(used)
        if number:
            drawn = torch.multinomial(error.clamp(min=self.config.repaint / 100), number)
            patches = patches_from_pixels(pixels, self.config.patch).flatten(0, 2)
            places[:number], found[:number] = patches[drawn].to(places.dtype), 1
        if dist.is_initialized():
            dist.all_reduce(used, dist.ReduceOp.MAX)
            dist.broadcast(places, 0)
            dist.broadcast(found, 0)
        self.unused.add_(1).masked_fill_(used.bool(), 0)
        longest = self.unused.argsort(descending=True, stable=True)[: int(found.sum())]
        dead = longest[self.unused[longest] >= self.config.revive_after]
        # Past autograd's back: a dead exemplar was not shown in this step.
        self.exemplars.weight.data[dead] = places[: len(dead)]
        self.unused[dead] = 0


class _Forgetful(nn.Module):
    """Stands where other tokenizers have a network: knows only how many frames there were."""

    nothing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("nothing", torch.zeros(0), persistent=False)

    def open(self, batch: int) -> StreamCache:
        """The cache of rows that have seen no frame."""
        empty = self.nothing.new_zeros
        length = torch.zeros(batch, dtype=torch.int64, device=self.nothing.device)
        ring = (0, batch, 0, 0, 0, 0)
        return StreamCache(
            keys=empty(ring), values=empty(ring), tails=empty(0, 2, batch, 0, 0), length=length
        )
