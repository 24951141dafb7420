"""A tokenizer whose tokens say what changes from one frame to the next.

A token either moves its patch, by one of the displacements of `world_models.motion`, or paints it
with one of the learned codes, where that comes nearer. What stands still or moves on is then exact
and costs no capacity, scrolling is one token everywhere, and the codes are left to the rest: to
what is really new, and to patches of which a part goes with the camera while another stays, as the
player in the middle of a scrolling picture does. So a painted pixel is a mixture of paint, what
was there, and what the camera brings there. Encoder and decoder work on the frame before as it was
*decoded*, so that errors do not add up.

Shapes: B batch, T frames, C channels, H height, W width, N tokens per frame, D width, K codes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.blocks import StepPlan
from world_models.cache import StreamCache, Trace
from world_models.compiled import settled
from world_models.motion import DISPLACEMENTS, REACH, STILL, Match, displaced, match
from world_models.overlay import Overlay, most_common
from world_models.pixels import patches_from_pixels, pixels_from_patches, to_uint8
from world_models.quantizer import Quantizer
from world_models.tokenizer import CHANNELS, PatchEmbedding, Tokenizer, TokenizerConfig

__all__ = ["WORTH", "ChangeTokenizer", "directions"]

WORTH = 0.7  # of the error that moving leaves: painting must leave less, or it would never end
CUT = 4  # frames from a cut to the next, where clips are cut
USUAL = 0.01  # mean squared error, about what moving leaves of a patch that is painted
WATCHED = 2  # clips of a step, from which the overlay is learned
DECISION = -2.0  # an untrained decoder paints little: to mix what is there is sooner learned


class ChangeTokenizer(Tokenizer):
    """Token ids below DISPLACEMENTS move a patch, the others paint it."""

    DECODER: tuple[str, ...] = ("decoder", "to_patches", "shown", "stayed", "moves")
    directions: Tensor

    def __init__(self, config: TokenizerConfig):
        super().__init__(config)
        dim, patch, paints = config.transformer.dim, config.patch, config.num_codes - DISPLACEMENTS
        self.patches = PatchEmbedding(patch, dim, 3 * CHANNELS)  # and what it could be made of
        self.quantizer = Quantizer(
            dim,
            paints,
            config.code_dim,
            config.revive_after,
            revive_distance=0.01,  # few patches pull codes apart: less must draw them together
            commitment_weight=0.02,
        )
        self.shown = PatchEmbedding(patch, dim)
        self.stayed = PatchEmbedding(patch, dim)
        self.moves = nn.Embedding(DISPLACEMENTS, dim)
        # Paint, how much of it, and how much of what was there.
        self.to_patches = nn.Linear(dim, patch * patch * (CHANNELS + 2))
        self.register_buffer("directions", directions(config.code_dim), persistent=False)
        self.overlay = Overlay(config.frame_size, patch) if config.overlay else None
        self._freeze()

    def codes(self) -> Tensor:
        """The unit codes ``(K, E)``; displacements by about the same have about the same code."""
        codes = self.quantizer.codes()
        return torch.cat((self.directions.to(codes.dtype), codes))

    def encode(self, frames: Tensor, given: int = 1) -> Tensor:
        """See `Tokenizer.encode`."""
        return self.follow(frames, given)[0]

    @torch.no_grad()
    def decode(self, tokens: Tensor, given: Tensor) -> Tensor:
        """See `Tokenizer.decode`."""
        before, cache, frames = given[:, 0], self.decoder.open(len(tokens)), []
        for t, said in enumerate(tokens.unbind(1)):
            shown, cache = self.decode_step(said, cache, before)
            frames.append(shown)
            before = given[:, t] if t < given.shape[1] else shown
        return torch.stack(frames, 1)

    def reconstruct(self, frames: Tensor, given: int = 1) -> Tensor:
        """See `Tokenizer.reconstruct`."""
        return self.follow(frames, given)[1]

    @torch.no_grad()
    def follow(
        self, frames: Tensor, given: int = 1, slip: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, T, N)`` and decoded frames of a sequence, frame by frame.

        Args:
            frames: uint8 ``(B, T, H, W, C)``.
            given: What comes after each of so many first frames changes the real one.
            slip: What becomes of a frame's tokens ``(B, N)``, told of the picture before it, before
                they are decoded. The tokens of the next frame then mend what came out wrong.
        """
        encoder, decoder = self.encoder.open(len(frames)), self.decoder.open(len(frames))
        before, tokens, shown = frames[:, 0], [], []
        for t, frame in enumerate(frames.unbind(1)):
            said, encoder = self.encode_step(frame, encoder, before)
            tokens.append(said)
            said = said if slip is None else slip(said, before)
            decoded, decoder = self.decode_step(said, decoder, before)
            shown.append(decoded)
            before = frame if t < given else decoded
        return torch.stack(tokens, 1), torch.stack(shown, 1)

    def encode_step(
        self, frames: Tensor, cache: StreamCache, before: Tensor
    ) -> tuple[Tensor, StreamCache]:
        """See `Tokenizer.encode_step`."""
        pixels, seen = self._pixels(frames[:, None]), self._pixels(before[:, None])
        where, error = self._match(pixels, seen)
        painted = error > self.config.repaint
        moved = self._moved(seen, where, painted)[0]
        x = self.patches(torch.cat((pixels, seen, moved), 2)).squeeze(1)
        x, traces = self.encoder.step(x, self.encoder.plan(cache))
        where, error, painted = where.squeeze(1), error.squeeze(1), painted.squeeze(1)
        paint = self.quantizer.indices(x) + DISPLACEMENTS
        tokens = torch.where(painted, paint, where)
        shown, _ = self.decode_step(tokens, self.decoder.open(len(tokens)), before)
        worse = self._error(self._pixels(shown[:, None]), pixels).squeeze(1) > WORTH * error
        return torch.where(worse, where, tokens), cache.write(self.encoder.trace(traces))

    def show(self, tokens: Tensor, plan: StepPlan, before: Tensor) -> tuple[Tensor, Trace | None]:
        """See `Tokenizer.show`."""
        tokens, pixels = tokens[:, None], self._pixels(before[:, None])
        painted = tokens >= DISPLACEMENTS
        moved, where = self._moved(pixels, tokens, painted)
        paint = self.quantizer.lookup((tokens - DISPLACEMENTS).clamp(min=0))
        x = self._said(paint, painted, pixels, moved, where).squeeze(1)
        x, traces = self.decoder.step(x, plan)
        shown = self._repaint(x[:, None], painted, pixels, moved)
        return to_uint8(shown.squeeze(1)), self.decoder.trace(traces)

    def _settled(self) -> Tokenizer:
        own = super()._settled()
        if self.overlay is not None:
            own.overlay = settled(self.overlay, "layers")
        return own

    def _autoencode(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Frame by frame: what became of one is what the next one changes.

        Clips begin with a real frame, as dreams do. Every other clip is cut again and again: a
        frame then comes after another clip's, so that codes learn to show what is altogether new.
        """
        if self.overlay and self.training and not self.config.decoder_only:
            self.overlay.watch(pixels[:WATCHED], self.config.repaint)
        cut = torch.arange(len(pixels), device=pixels.device)[:, None, None, None, None] % 2 == 1
        before, coded = pixels[:, :1], []
        for t, frame in enumerate(pixels.split(1, dim=1)):
            if t % CUT == 0:
                before = torch.where(cut, pixels.roll(1, 0)[:, t : t + 1], before)
            *parts, before = self._change(frame, before)
            coded.append(parts)
        shown, tokens, *losses = zip(*coded, strict=True)
        reconstruction, quantisation = (torch.stack(loss).mean() for loss in losses)
        return torch.cat(shown, 1), torch.cat(tokens, 1), reconstruction, quantisation

    def _change(self, pixels: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        """Pixels again, their tokens, the losses, and what the next frame sees."""
        where, error = self._match(pixels, before)
        painted = error > self.config.repaint
        moved, moves = self._moved(before, where, painted)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.decoder_only):
            x = self.encoder(self.patches(torch.cat((pixels, before, moved), 2)))
            new, indices, loss = self.quantizer(x[painted]) if painted.any() else _none(x)
        paint = torch.zeros_like(x).masked_scatter(painted[..., None], new.to(x.dtype))
        tokens = where.masked_scatter(painted, indices + DISPLACEMENTS)
        x = self.decoder(self._said(paint, painted, before, moved, moves))
        shown = self._repaint(x, painted, before, moved)
        seen = shown.detach().clamp(0, 1)
        worse = self._spread(self._error(seen, pixels) > WORTH * error)
        found = self._displaced(before, where)
        costs = self._paint_loss(shown, pixels, error, painted)
        return shown, tokens, costs, loss, torch.where(worse, found, seen)

    def _paint_loss(self, shown: Tensor, pixels: Tensor, error: Tensor, painted: Tensor) -> Tensor:
        """What painting leaves of the error that moving would leave, of each painted patch.

        A small sprite so counts as much as a new room, and each frame as much as another.
        """
        off = shown - pixels
        cost = off.square() + self.config.reconstruction.l1_weight * off.abs()
        cost = patches_from_pixels(cost, self.config.patch).mean(-1)
        weight = USUAL * painted / error.clamp(min=self.config.repaint)
        per_frame = (cost * weight).sum(-1) / painted.sum(-1).clamp(min=1)
        return per_frame.mean()

    def _match(self, pixels: Tensor, before: Tensor) -> Match:
        if self.overlay is None:
            return match(pixels, before, self.config.patch, self.config.repaint)
        where = self.overlay.match(pixels, before, self.config.repaint)
        return Match(where, self._error(self._displaced(before, where), pixels))

    def _displaced(self, before: Tensor, where: Tensor) -> Tensor:
        if self.overlay is None:
            return displaced(before, where, self.config.patch)
        return self.overlay.displaced(before, where)

    def _error(self, shown: Tensor, pixels: Tensor) -> Tensor:
        """Mean squared error of each patch ``(B, T, N)``."""
        return patches_from_pixels((shown - pixels).square(), self.config.patch).mean(-1)

    def _spread(self, said: Tensor) -> Tensor:
        """What is said of patches ``(B, T, N)``, said of their pixels ``(B, T, 1, H, W)``."""
        patch, size = self.config.patch, self.config.frame_size
        return pixels_from_patches(said[..., None].expand(*said.shape, patch**2), patch, size)

    def _moved(self, before: Tensor, tokens: Tensor, painted: Tensor) -> tuple[Tensor, Tensor]:
        """What tokens fetch ``(B, T, C, H, W)``, painted ones as most others, and from where."""
        common = most_common(tokens.masked_fill(painted, STILL), painted)
        where = torch.where(painted, common[..., None], tokens)
        return self._displaced(before, where), where

    def _said(
        self, paint: Tensor, painted: Tensor, before: Tensor, moved: Tensor, where: Tensor
    ) -> Tensor:
        """What the decoder gets ``(B, T, N, D)``."""
        told = torch.where(painted[..., None], paint + self.stayed(before), self.moves(where))
        return told + self.shown(moved)

    def _repaint(self, x: Tensor, painted: Tensor, before: Tensor, moved: Tensor) -> Tensor:
        """Pixels ``(B, T, C, H, W)`` of what the decoder returns; not clipped to [0, 1]."""
        patch, size = self.config.patch, self.config.frame_size
        said = pixels_from_patches(self.to_patches(x).float(), patch, size)
        paint, share, stay = said.split((CHANNELS, 1, 1), 2)
        painted = self._spread(painted)
        there = moved + torch.sigmoid(stay) * painted * (before - moved)
        return there + torch.sigmoid(share + DECISION) * painted * (paint - there)


def _none(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the quantiser returns of no vectors."""
    return x[:0, 0, 0], x.new_zeros(0, dtype=torch.int64), x.sum() * 0


def directions(width: int) -> Tensor:
    """Unit vectors of all displacements ``(DISPLACEMENTS, width)``: waves of several lengths."""
    steps = torch.arange(-REACH, REACH + 1.0)
    lengths = torch.linspace(1, 3, max(1, width // 4)).exp2() * 2
    angles = 2 * torch.pi * steps[:, None] / lengths  # (K, width // 4)
    waves = torch.cat((angles.cos(), angles.sin()), 1)
    down = waves[:, None].expand(-1, len(steps), -1)
    both = torch.cat((down, down.transpose(0, 1)), -1).flatten(0, 1)
    return F.normalize(F.pad(both, (0, width - both.shape[1])), dim=-1)
