"""The paper's video tokenizer (ST-ViViT): a VQ-VAE whose encoder and decoder see past frames.

Shapes: B batch, T frames, N = h * w tokens per frame, D width, K codes, E code dimension; a frame
has height H, width W and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from world_models.model.kv_cache import CacheEntry, KVCache
from world_models.model.latent_action import CoderConfig
from world_models.model.quantizer import Quantizer
from world_models.model.reconstruction import ReconstructionLossConfig, reconstruction_loss
from world_models.model.token_space import TokenSpace
from world_models.model.transformer import Past, SpaceTimeTransformer
from world_models.pixels import pixels_from_patches, to_uint8
from world_models.tokenizers.base import Tokenizer

__all__ = ["VQTokenizer", "VQTokenizerConfig"]


@dataclass(frozen=True, kw_only=True)
class VQTokenizerConfig(CoderConfig):
    """The architecture of the paper's tokenizer, with K = `num_codes` codes."""

    num_codes: int = 1024


class DecodeInputs(NamedTuple):
    """Inputs for decoding a frame, except its tokens.

    Attributes:
        past: The past that the decoder attends to.
        begins: Whether the frame is the first one of its sequence, bool ``(B,)``.
    """

    past: Past
    begins: Tensor


class VQTokenizer(Tokenizer):
    """Encodes a patch as the code nearest to the encoder's output, which depends on past frames."""

    decoder_parts = ("decoder.", "to_patches.")
    has_network = True

    def __init__(self, config: VQTokenizerConfig):
        super().__init__()
        self.config = config
        size, grid, blocks = config.transformer, config.grid, config.blocks
        self.space = TokenSpace(grid=grid, num_codes=config.num_codes, code_dim=config.code_dim)
        self.patches = config.patch_embedding()
        self.encoder = SpaceTimeTransformer(size, grid, options=blocks)
        self.quantizer = Quantizer(
            size.dim, config.num_codes, config.code_dim, unit_codes=not config.raw_codes
        )
        self.decoder = SpaceTimeTransformer(size, grid, time_first=True, options=blocks)
        self.to_patches = config.pixel_head()

    def codes(self) -> Tensor:
        """See `Tokenizer.codes`."""
        return self.quantizer.codes()

    @torch.no_grad()
    def encode(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """See `Tokenizer.encode`. The prompt is ignored."""
        return self.quantizer.indices(self.encoder(self.patches(self.pixels(frames))))

    @torch.no_grad()
    def decode(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """See `Tokenizer.decode`. The prompt is ignored."""
        return to_uint8(self.decoded(tokens))

    def decoded(self, tokens: Tensor) -> Tensor:
        """Decode tokens ``(B, T, N)`` to pixels ``(B, T, C, H, W)``, not clipped to [0, 1]."""
        return self._head(self.decoder(self.quantizer.lookup(tokens)))

    def empty_cache(self, batch: int) -> KVCache:
        """See `Tokenizer.empty_cache`."""
        return self.encoder.empty_cache(batch)  # the decoder has the same size

    def encode_step(
        self, frames: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """See `Tokenizer.encode_step`."""
        x = self._at(self.patches, self.pixels(frames[:, None]), cache.length == 0)
        x, activations = self.encoder.step(x, self.encoder.past(cache))
        return self.quantizer.indices(x), cache.write(self.encoder.entry(activations))

    def derived(self) -> Tensor:
        """See `Tokenizer.derived`."""
        return self.decoder.space_bias()

    def decode_inputs(self, cache: KVCache, derived: Tensor | None = None) -> DecodeInputs:
        """See `Tokenizer.decode_inputs`."""
        return DecodeInputs(self.decoder.past(cache, derived), cache.length == 0)

    def decode_frame(
        self, tokens: Tensor, inputs: DecodeInputs, previous: Tensor
    ) -> tuple[Tensor, CacheEntry | None]:
        """See `Tokenizer.decode_frame`."""
        x, activations = self.decoder.step(self.quantizer.lookup(tokens), inputs.past)
        patches = self._at(self.to_patches, x[:, None], inputs.begins)
        return to_uint8(self._pixels(patches)), self.decoder.entry(activations)

    def _autoencode(
        self, pixels: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not decoder_only):
            x = self.encoder(self.patches(pixels))
            quantized, tokens, loss = self.quantizer(x, 0 if decoder_only else config.revive_after)
        predicted = self._head(self.decoder(quantized))
        return predicted, tokens, reconstruction_loss(predicted, pixels, config), loss

    def _at(self, module: nn.Module, frame: Tensor, begins: Tensor) -> Tensor:
        """Apply the patch embedding or the pixel head to a single frame ``(B, 1, ...)``."""
        own = self.config.own_first_frame
        return (module(frame, begins) if own else module(frame)).squeeze(1)

    def _head(self, x: Tensor) -> Tensor:
        return self._pixels(self.to_patches(x))

    def _pixels(self, patches: Tensor) -> Tensor:
        return pixels_from_patches(patches, self.config.patch, self.config.frame_size)
