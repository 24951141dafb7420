"""The video tokenizer (ST-ViViT): frames to discrete tokens and back, causal in time.

Shapes: B batch, T frames, C channels, H height, W width, N = h * w tokens per frame, D width,
K codes, E width of a code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from world_models.blocks import SpaceTimeTransformer, StepPlan, TransformerConfig
from world_models.cache import StreamCache, Trace
from world_models.compiled import compiled_methods, settled, twin
from world_models.motion import DISPLACEMENTS
from world_models.pixels import patches_from_pixels, pixels_from_patches, to_float, to_uint8
from world_models.quantizer import Quantizer
from world_models.reconstruction import (
    ReconstructionConfig,
    changed_pixels,
    psnr,
    reconstruction_loss,
)

__all__ = ["PatchEmbedding", "Tokenizer", "TokenizerConfig"]

CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A tokenizer.

    Attributes:
        frame_size: Height and width of a frame in pixels.
        patch: Height and width of the pixels behind one token.
        transformer: Size of the encoder, and of the decoder.
        num_codes: Codebook size K.
        code_dim: Width of a code.
        revive_after: Steps after which an unused code is placed anew; 0 never.
        reconstruction: The pixel loss; of it, ``context`` takes the ``l1_weight`` alone.
        decoder_only: Train the decoder alone; token ids stay what they are.
        context: Tokens say what changes since the frame before, see `world_models.changes`; needs
            a transformer without ``temporal``.
        repaint: With ``context``, a patch that only moved is repainted where its mean squared
            error would be larger.
        painter: With ``context``, what repaints: "learned" codes and networks, or "exemplars" from
            an album of real patches, see `world_models.exemplars`, for one game with few sprites.
        overlay: With ``context``, find out what stays in its place while the picture scrolls, such
            as the player that a camera follows, and do not move it, see `world_models.overlay`.
    """

    frame_size: int = 64
    patch: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_codes: int = 1024
    code_dim: int = 32
    revive_after: int = 0
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    decoder_only: bool = False
    context: bool = False
    repaint: float = 0.001
    painter: Literal["learned", "exemplars"] = "learned"
    overlay: bool = False

    def __post_init__(self) -> None:
        if self.painter not in ("learned", "exemplars"):
            raise ValueError(f'painter must be "learned" or "exemplars", got {self.painter!r}')
        if self.painter == "exemplars" and not self.context:
            raise ValueError('painter "exemplars" mends what moving leaves: it needs context')
        if self.overlay and (not self.context or self.painter == "exemplars"):
            raise ValueError("an overlay is not moved: it needs context, and learned paint")
        if self.context and self.transformer.temporal:
            raise ValueError(
                "context lets the tokenizer see the frame before instead of the whole past; set "
                "transformer.temporal to False (--model.transformer.no-temporal)"
            )
        if self.context and self.num_codes <= DISPLACEMENTS:
            raise ValueError(
                f"with context the first {DISPLACEMENTS} codes are displacements; num_codes must "
                f"be larger, got {self.num_codes}"
            )
        if self.frame_size % self.patch:
            raise ValueError(
                f"frame_size {self.frame_size} is not a multiple of patch {self.patch}; "
                f"take a patch such as 4 or 8"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens of a frame as (h, w)."""
        side = self.frame_size // self.patch
        return side, side


class PatchEmbedding(nn.Module):
    """Pixels ``(B, T, C, H, W)`` to patch vectors ``(B, T, N, D)``.

    The pixels are centred but not normalised per patch, as the released code does: that would make
    all grey flat patches, black and white ones too, look the same.
    """

    def __init__(self, patch: int, dim: int, channels: int = CHANNELS):
        super().__init__()
        self.patch = patch
        width = patch * patch * channels
        self.embed = nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed."""
        patches = patches_from_pixels(2 * pixels - 1, self.patch)
        return self.embed(patches.to(self.embed[0].weight.dtype))  # type: ignore[arg-type]


class Tokenizer(nn.Module):
    """A VQ-VAE over video whose encoder and decoder see the present and the past.

    Frames come and go as uint8. Where a sequence is decoded, its real first frame is at hand; some
    tokenizers, see `world_models.changes`, say only what changes from there.
    """

    DECODER: tuple[str, ...] = ("decoder", "to_patches")  # the parts that show tokens

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        dim = config.transformer.dim
        self.patches = PatchEmbedding(config.patch, dim)
        self.encoder = SpaceTimeTransformer(config.transformer, config.grid)
        self.quantizer = Quantizer(dim, config.num_codes, config.code_dim, config.revive_after)
        self.decoder = SpaceTimeTransformer(config.transformer, config.grid, time_first=True)
        self.to_patches = nn.Linear(dim, config.patch * config.patch * CHANNELS)
        self._freeze()

    @property
    def num_tokens(self) -> int:
        """Tokens per frame N."""
        return self.config.grid[0] * self.config.grid[1]

    def codes(self) -> Tensor:
        """The unit codes ``(K, E)``."""
        return self.quantizer.codes()

    @torch.no_grad()
    def encode(self, frames: Tensor, given: int = 1) -> Tensor:
        """Turn frames ``(B, T, H, W, C)`` into tokens ``(B, T, N)``, int64.

        Args:
            frames: A sequence.
            given: For how many of its first frames whoever decodes it has the real ones.
        """
        return self.quantizer.indices(self.encoder(self.patches(self._pixels(frames))))

    @torch.no_grad()
    def decode(self, tokens: Tensor, given: Tensor) -> Tensor:
        """Turn tokens ``(B, T, N)`` into frames.

        Args:
            tokens: Of a sequence.
            given: Its first frames, the real ones, ``(B, k, H, W, C)``, k >= 1.
        """
        return to_uint8(self._head(self.decoder(self.quantizer.lookup(tokens))))

    def reconstruct(self, frames: Tensor, given: int = 1) -> Tensor:
        """Encode frames and decode them again; see `encode`."""
        return self.decode(self.encode(frames, given), frames[:, :given])

    def encode_step(
        self, frames: Tensor, cache: StreamCache, before: Tensor
    ) -> tuple[Tensor, StreamCache]:
        """Tokens ``(B, N)`` of the next frame.

        Args:
            frames: ``(B, H, W, C)``.
            cache: The encoder's past.
            before: The frame before: as decoded, or the real one where it is given; the frame
                itself where it is the first.
        """
        x = self.patches(self._pixels(frames[:, None])).squeeze(1)
        x, traces = self.encoder.step(x, self.encoder.plan(cache))
        return self.quantizer.indices(x), cache.write(self.encoder.trace(traces))

    def decode_step(
        self, tokens: Tensor, cache: StreamCache, before: Tensor
    ) -> tuple[Tensor, StreamCache]:
        """The frame ``(B, H, W, C)`` of the next tokens ``(B, N)``; see `encode_step`."""
        frames, trace = self.show(tokens, self.decoder.plan(cache), before)
        return frames, cache.write(trace)

    def show(self, tokens: Tensor, plan: StepPlan, before: Tensor) -> tuple[Tensor, Trace | None]:
        """The frame of the next tokens, and what it leaves behind; see `decode_step`."""
        x, traces = self.decoder.step(self.quantizer.lookup(tokens), plan)
        return to_uint8(self._head(x)), self.decoder.trace(traces)

    def compiled(self) -> Tokenizer:
        """The same weights as they are now, with a compiled `show`."""
        own = self._settled()
        own.show = compiled_methods(own, "show")["show"]  # type: ignore[method-assign]
        return own

    def _settled(self) -> Tokenizer:
        own = twin(self)
        own.decoder = settled(self.decoder, "space_bias")
        return own

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruct ``batch["frames"]``, uint8 ``(B, T, H, W, C)``."""
        pixels = self._pixels(batch["frames"])
        predicted, tokens, reconstruction, quantisation = self._autoencode(pixels)
        loss = reconstruction if self.config.decoder_only else reconstruction + quantisation
        changed = changed_pixels(pixels, self.config.reconstruction.threshold)
        return loss, {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach(),
            "quantisation": quantisation.detach(),
            "psnr": psnr(predicted, pixels),
            "changed_psnr": psnr(predicted, pixels, changed),
            "codes_used": _share_used(tokens, self.config.num_codes),
        }

    def _autoencode(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixels ``(B, T, C, H, W)`` again, their tokens, their loss, and the quantiser's."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.decoder_only):
            quantized, tokens, loss = self.quantizer(self.encoder(self.patches(pixels)))
        shown = self._head(self.decoder(quantized))
        reconstruction = reconstruction_loss(shown, pixels, self.config.reconstruction)
        return shown, tokens, reconstruction, loss

    def _freeze(self) -> None:
        if self.config.decoder_only:
            for name, part in self.named_children():
                part.requires_grad_(name in self.DECODER)

    def _pixels(self, frames: Tensor) -> Tensor:
        size = self.config.frame_size
        if frames.shape[2:] != (size, size, CHANNELS):
            raise ValueError(
                f"expected frames (B, T, {size}, {size}, {CHANNELS}), got {tuple(frames.shape)}; "
                f"build the tokenizer with frame_size={frames.shape[-2]} for frames like these"
            )
        return to_float(frames)

    def _head(self, x: Tensor) -> Tensor:
        """Pixels ``(..., C, H, W)`` of what the decoder returns; not clipped to [0, 1]."""
        return pixels_from_patches(self.to_patches(x), self.config.patch, self.config.frame_size)


def _share_used(tokens: Tensor, num_codes: int) -> Tensor:
    return torch.bincount(tokens.flatten(), minlength=num_codes).gt(0).float().mean()
