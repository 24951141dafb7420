"""A residual VQ: networks encode and decode the patches that the codec cannot reproduce.

A replaced patch blends three sources: decoded pixels, the patch in the previous frame, and the
patch moved by the most common displacement (camera motion). So a patch that partly scrolls and
partly stays, such as a player that the camera follows, needs little capacity.

Shapes: B batch, T frames, N tokens per frame, D width, K codes; a frame has height H, width W and
C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from world_models.model.patches import CHANNELS, PatchEmbedding
from world_models.model.quantizer import Quantizer
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.model.transformer import SpaceTimeTransformer, TransformerConfig
from world_models.pixels import patches_from_pixels, pixels_from_patches, to_float, to_uint8
from world_models.tokenizers.motion.codec import MotionCodec
from world_models.tokenizers.motion.displacement import DISPLACEMENTS
from world_models.tokenizers.motion.overlay import Layers
from world_models.tokenizers.motion.tokenizer import (
    CODE_DIM,
    GAIN,
    MotionConfig,
    Residual,
    TrainedFrame,
)

__all__ = ["ResidualVQ", "ResidualVQConfig"]

USUAL_ERROR = 0.01  # typical mean squared error of a moved patch that is replaced
FIRST_LOGIT = -2.0  # gives decoded pixels a small weight before training, which trains faster


@dataclass(frozen=True, kw_only=True)
class ResidualVQConfig(MotionConfig):
    """A motion tokenizer with a residual VQ.

    Attributes:
        transformer: Size of the encoder and of the decoder; `temporal` must be False.
        overlay: Learn which pixels stay in place while the rest of the frame scrolls, such as a
            player that the camera follows.
    """

    transformer: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(temporal=False)
    )
    overlay: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transformer.temporal:
            raise ValueError(
                "transformer.temporal must be False, because a motion tokenizer sees only the "
                "current and the previous frame; add --model.transformer.no-temporal"
            )


class ResidualVQ(Residual):
    """Replaces patches that the codec cannot reproduce, with networks as encoder and decoder."""

    decoder_parts = ("decoder.", "to_patches.", "embed_moved.", "embed_previous.", "moves.")
    has_network = True
    grouped = True

    def __init__(self, config: ResidualVQConfig):
        codec = MotionCodec(config.frame_size, config.patch, config.threshold, config.overlay)
        super().__init__(codec)
        dim, patch, side = config.transformer.dim, config.patch, config.frame_size // config.patch
        # The input includes the previous and the moved pixels.
        self.patches = PatchEmbedding(patch, dim, 3 * CHANNELS)
        self.encoder = SpaceTimeTransformer(config.transformer, (side, side))
        self.quantizer = Quantizer(
            dim,
            config.num_codes - DISPLACEMENTS,
            CODE_DIM,
            revive_distance=0.01,  # few patches spread the codes, so little may draw them together
            commitment_weight=0.02,
        )
        self.decoder = SpaceTimeTransformer(config.transformer, (side, side), time_first=True)
        # Pixels, their blend weight, and the blend weight of the previous pixels.
        self.to_patches = nn.Linear(dim, patch * patch * (CHANNELS + 2))
        self.embed_moved = PatchEmbedding(patch, dim)
        self.embed_previous = PatchEmbedding(patch, dim)
        self.moves = nn.Embedding(DISPLACEMENTS, dim)

    def codes(self) -> Tensor:
        """See `Residual.codes`."""
        return self.quantizer.codes()

    @torch.no_grad()
    def encode(self, pixels: Tensor, previous: Tensor) -> Tensor:
        """See `Residual.encode`. A patch is replaced only if that reduces its error clearly."""
        codec = self.codec
        displacement, error = codec.match(pixels, previous)
        replaced = error > codec.threshold
        moved, _ = codec.move(previous, displacement, replaced)
        x = self.patches(torch.cat((pixels, previous, moved), 2)).squeeze(1)
        x, _ = self.encoder.step(x, self.encoder.spatial_past(self.encoder.space_bias()))
        codes = self.quantizer.indices(x).unsqueeze(1) + DISPLACEMENTS
        tokens = torch.where(replaced, codes, displacement)
        shown = to_float(to_uint8(self.decode(tokens, previous, self.derived())))
        return torch.where(codec.error(shown, pixels) > GAIN * error, displacement, tokens)

    def derived(self) -> tuple[Tensor, Layers | None]:
        """Return the decoder's spatial bias, and the overlay's layers (None without an overlay)."""
        return self.decoder.space_bias(), self.codec.layers()

    def decode(
        self, tokens: Tensor, previous: Tensor, inputs: tuple[Tensor, Layers | None]
    ) -> Tensor:
        """See `Residual.decode`."""
        space_bias, layers = inputs
        replaced = tokens >= DISPLACEMENTS
        moved, displacement = self.codec.move(previous, tokens, replaced, layers)
        code = self.quantizer.lookup((tokens - DISPLACEMENTS).clamp(min=0))
        x = self._embed(code, replaced, previous, moved, displacement)
        x, _ = self.decoder.step(x.squeeze(1), self.decoder.spatial_past(space_bias))
        return self._blend(x[:, None], replaced, previous, moved)

    def train_frame(
        self, pixels: Tensor, previous: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> TrainedFrame:
        """See `Residual.train_frame`."""
        codec = self.codec
        displacement, error = codec.match(pixels, previous)
        replaced = error > codec.threshold
        moved, moves = codec.move(previous, displacement, replaced)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not decoder_only):
            x = self.encoder(self.patches(torch.cat((pixels, previous, moved), 2)))
            revive_after = 0 if decoder_only else config.revive_after
            new, indices, quantisation = self.quantizer(x[replaced], revive_after)
        code = torch.zeros_like(x).masked_scatter(replaced[..., None], new.to(x.dtype))
        tokens = displacement.masked_scatter(replaced, indices + DISPLACEMENTS)
        x = self.decoder(self._embed(code, replaced, previous, moved, moves))
        shown = self._blend(x, replaced, previous, moved)
        seen = shown.detach().clamp(0, 1)
        worse = codec.per_pixel(codec.error(seen, pixels) > GAIN * error)
        next_previous = torch.where(worse, codec.displace(previous, displacement), seen)
        # The loss divides the error of each replaced patch by the error after moving it, so that a
        # small sprite has as much weight as a new room. All frames have the same weight.
        off = shown - pixels
        cost = off.square() + config.l1_weight * off.abs()
        cost = patches_from_pixels(cost, self.patch).mean(-1)
        weight = USUAL_ERROR * replaced / error.clamp(min=codec.threshold)
        per_frame = (cost * weight).sum(-1) / replaced.sum(-1).clamp(min=1)
        return TrainedFrame(shown, tokens, per_frame.mean(), quantisation, next_previous)

    def _embed(
        self, code: Tensor, replaced: Tensor, previous: Tensor, moved: Tensor, displacement: Tensor
    ) -> Tensor:
        """Return the decoder's input, ``(B, T, N, D)``."""
        x = torch.where(
            replaced[..., None], code + self.embed_previous(previous), self.moves(displacement)
        )
        return x + self.embed_moved(moved)

    def _blend(self, x: Tensor, replaced: Tensor, previous: Tensor, moved: Tensor) -> Tensor:
        """Blend the decoder's output into pixels ``(B, T, C, H, W)``, not clipped to [0, 1]."""
        decoded = pixels_from_patches(self.to_patches(x).float(), self.patch, self.frame_size)
        new, share, stay = decoded.split((CHANNELS, 1, 1), 2)
        replaced = self.codec.per_pixel(replaced)
        there = moved + torch.sigmoid(stay) * replaced * (previous - moved)
        return there + torch.sigmoid(share + FIRST_LOGIT) * replaced * (new - there)
