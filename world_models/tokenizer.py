"""The video tokenizer (ST-ViViT): frames to discrete tokens and back, causal in time.

Shapes: B batch, T frames, C channels, H height, W width, N = h * w tokens per frame, D width,
K codes, E width of a code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from world_models.blocks import SpaceTimeTransformer, TransformerConfig
from world_models.cache import StreamCache
from world_models.pixels import patches_from_pixels, pixels_from_patches, to_float
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
        reconstruction: The pixel loss.
        decoder_only: Train the decoder alone; token ids stay what they are.
    """

    frame_size: int = 64
    patch: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_codes: int = 1024
    code_dim: int = 32
    revive_after: int = 0
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    decoder_only: bool = False

    def __post_init__(self) -> None:
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

    def __init__(self, patch: int, dim: int):
        super().__init__()
        self.patch = patch
        width = patch * patch * CHANNELS
        self.embed = nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed."""
        return self.embed(patches_from_pixels(2 * pixels - 1, self.patch))


class Tokenizer(nn.Module):
    """A VQ-VAE over video whose encoder and decoder see the present and the past."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        dim = config.transformer.dim
        self.patches = PatchEmbedding(config.patch, dim)
        self.encoder = SpaceTimeTransformer(config.transformer, config.grid)
        self.quantizer = Quantizer(dim, config.num_codes, config.code_dim, config.revive_after)
        self.decoder = SpaceTimeTransformer(config.transformer, config.grid, time_first=True)
        self.to_patches = nn.Linear(dim, config.patch * config.patch * CHANNELS)
        if config.decoder_only:
            for module in (self.patches, self.encoder, self.quantizer):
                module.requires_grad_(False)

    @property
    def num_tokens(self) -> int:
        """Tokens per frame N."""
        return self.config.grid[0] * self.config.grid[1]

    def codes(self) -> Tensor:
        """The unit codes ``(K, E)``."""
        return self.quantizer.codes()

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Turn uint8 frames ``(B, T, H, W, C)`` into tokens ``(B, T, N)``, int64."""
        return self.quantizer.indices(self.encoder(self.patches(self._pixels(frames))))

    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens ``(B, T, N)`` into pixels ``(B, T, C, H, W)``; not clipped to [0, 1]."""
        return self._head(self.decoder(self.quantizer.lookup(tokens)))

    def encode_step(self, frames: Tensor, cache: StreamCache) -> tuple[Tensor, StreamCache]:
        """Tokens ``(B, N)`` of the next uint8 frame ``(B, H, W, C)``, with the encoder's past."""
        x = self.patches(self._pixels(frames[:, None])).squeeze(1)
        x, traces = self.encoder.step(x, self.encoder.plan(cache))
        return self.quantizer.indices(x), self.encoder.commit(cache, traces)

    def decode_step(self, tokens: Tensor, cache: StreamCache) -> tuple[Tensor, StreamCache]:
        """Pixels ``(B, C, H, W)`` of the next tokens ``(B, N)``, with the decoder's past."""
        x = self.quantizer.lookup(tokens)
        x, traces = self.decoder.step(x, self.decoder.plan(cache))
        return self._head(x[:, None]).squeeze(1), self.decoder.commit(cache, traces)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruct ``batch["frames"]``, uint8 ``(B, T, H, W, C)``."""
        pixels = self._pixels(batch["frames"])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.decoder_only):
            quantized, tokens, quantisation = self.quantizer(self.encoder(self.patches(pixels)))
        predicted = self._head(self.decoder(quantized))
        reconstruction = reconstruction_loss(predicted, pixels, self.config.reconstruction)
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

    def _pixels(self, frames: Tensor) -> Tensor:
        size = self.config.frame_size
        if frames.shape[2:] != (size, size, CHANNELS):
            raise ValueError(
                f"expected frames (B, T, {size}, {size}, {CHANNELS}), got {tuple(frames.shape)}; "
                f"build the tokenizer with frame_size={frames.shape[-2]} for frames like these"
            )
        return to_float(frames, self.to_patches.weight.dtype)

    def _head(self, x: Tensor) -> Tensor:
        return pixels_from_patches(self.to_patches(x), self.config.patch, self.config.frame_size)


def _share_used(tokens: Tensor, num_codes: int) -> Tensor:
    return torch.bincount(tokens.flatten(), minlength=num_codes).gt(0).float().mean()
