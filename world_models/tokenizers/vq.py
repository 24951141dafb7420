"""The paper's video tokenizer (ST-ViViT): a VQ-VAE whose encoder and decoder see the past.

Shapes: B batch, T frames, C channels, H height, W width, N = h * w tokens per frame, D width,
K codes, E width of a code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from world_models.model.kv_cache import CacheEntry, KVCache
from world_models.model.latent_action import CoderConfig
from world_models.model.patches import CHANNELS, PatchEmbedding
from world_models.model.quantizer import Quantizer
from world_models.model.reconstruction import ReconstructionLossConfig, reconstruction_loss
from world_models.model.token_space import TokenSpace
from world_models.model.transformer import Past, SpaceTimeTransformer
from world_models.pixels import pixels_from_patches, to_uint8
from world_models.tokenizers.base import Tokenizer

__all__ = ["VQTokenizer", "VQTokenizerConfig"]


@dataclass(frozen=True, kw_only=True)
class VQTokenizerConfig(CoderConfig):
    """The architecture of the paper's tokenizer, with `num_codes` codes K."""

    num_codes: int = 1024


class VQTokenizer(Tokenizer):
    """A token is the code nearest to the encoder's output for a patch and its past."""

    decoder_parts = ("decoder.", "to_patches.")
    has_network = True

    def __init__(self, config: VQTokenizerConfig):
        super().__init__()
        self.config = config
        dim, side = config.transformer.dim, config.frame_size // config.patch
        grid = (side, side)
        self.space = TokenSpace(grid=grid, num_codes=config.num_codes, code_dim=config.code_dim)
        self.patches = PatchEmbedding(config.patch, dim)
        self.encoder = SpaceTimeTransformer(config.transformer, grid)
        self.quantizer = Quantizer(dim, config.num_codes, config.code_dim)
        self.decoder = SpaceTimeTransformer(config.transformer, grid, time_first=True)
        self.to_patches = nn.Linear(dim, config.patch * config.patch * CHANNELS)

    def codes(self) -> Tensor:
        """See `Tokenizer.codes`."""
        return self.quantizer.codes()

    @torch.no_grad()
    def encode(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """See `Tokenizer.encode`. The prompt makes no difference."""
        return self.quantizer.indices(self.encoder(self.patches(self.pixels(frames))))

    @torch.no_grad()
    def decode(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """See `Tokenizer.decode`. The prompt makes no difference."""
        return to_uint8(self._head(self.decoder(self.quantizer.lookup(tokens))))

    def empty_cache(self, batch: int) -> KVCache:
        """See `Tokenizer.empty_cache`."""
        return self.encoder.empty_cache(batch)  # the decoder has the same size

    def encode_step(
        self, frames: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """See `Tokenizer.encode_step`."""
        x = self.patches(self.pixels(frames[:, None])).squeeze(1)
        x, activations = self.encoder.step(x, self.encoder.past(cache))
        return self.quantizer.indices(x), cache.write(self.encoder.entry(activations))

    def derived(self) -> Tensor:
        """See `Tokenizer.derived`."""
        return self.decoder.space_bias()

    def decode_inputs(self, cache: KVCache, derived: Tensor | None = None) -> Past:
        """See `Tokenizer.decode_inputs`."""
        return self.decoder.past(cache, derived)

    def decode_frame(
        self, tokens: Tensor, inputs: Past, previous: Tensor
    ) -> tuple[Tensor, CacheEntry | None]:
        """See `Tokenizer.decode_frame`."""
        x, activations = self.decoder.step(self.quantizer.lookup(tokens), inputs)
        return to_uint8(self._head(x)), self.decoder.entry(activations)

    def _autoencode(
        self, pixels: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not decoder_only):
            x = self.encoder(self.patches(pixels))
            quantized, tokens, loss = self.quantizer(x, 0 if decoder_only else config.revive_after)
        predicted = self._head(self.decoder(quantized))
        return predicted, tokens, reconstruction_loss(predicted, pixels, config), loss

    def _head(self, x: Tensor) -> Tensor:
        """Map the decoder's output to pixels ``(..., C, H, W)``, not clipped to [0, 1]."""
        return pixels_from_patches(self.to_patches(x), self.config.patch, self.config.frame_size)
