"""What every tokenizer does, whichever tokens it makes.

Shapes: B batch, T frames, k prompt frames, C channels, H height, W width, N tokens per frame,
K codes, E width of a code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from world_models.model.kv_cache import CacheEntry, KVCache
from world_models.model.patches import CHANNELS
from world_models.model.reconstruction import (
    ReconstructionLossConfig,
    changed_pixels,
    psnr,
)
from world_models.model.token_space import TokenSpace
from world_models.pixels import to_float

__all__ = ["Tokenizer"]


class Tokenizer(nn.Module, ABC):
    """Turns frames into tokens and back, causally in time.

    Frames come and go as uint8 ``(..., H, W, C)``. A sequence begins with a prompt: real frames
    that whoever decodes it has, too. Some tokenizers only say what changes from there.

    Attributes:
        config: Its configuration.
        space: The tokens that it makes.
        decoder_parts: Prefixes of the parameters that only decoding uses. Training these alone
            leaves token ids as they are.
        has_network: Whether decoding runs a network, which a compiler makes faster.
    """

    config: Any
    space: TokenSpace
    decoder_parts: tuple[str, ...]
    has_network: bool

    @property
    def frame_size(self) -> int:
        """Height and width of a frame."""
        return self.config.frame_size

    @abstractmethod
    def codes(self) -> Tensor:
        """The unit vectors behind the tokens, ``(K, E)``; similar tokens have similar ones."""

    # Sequences ------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """Turn frames ``(B, T, H, W, C)`` into tokens ``(B, T, N)``, int64.

        Args:
            frames: A sequence.
            num_prompt: How many of its first frames are the prompt.
        """

    @abstractmethod
    def decode(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Turn tokens ``(B, T, N)`` into frames.

        Args:
            tokens: Of a sequence.
            prompt: Its first frames, the real ones, ``(B, k, H, W, C)``, k >= 1.
        """

    def reconstruct(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """Encode frames and decode them again; see `encode`."""
        return self.decode(self.encode(frames, num_prompt), frames[:, :num_prompt])

    # One new frame --------------------------------------------------------------------------

    @abstractmethod
    def empty_encoder_cache(self, batch: int) -> KVCache:
        """The encoder's past of rows that have seen no frame."""

    @abstractmethod
    def empty_decoder_cache(self, batch: int) -> KVCache:
        """The decoder's past of rows that have seen no frame."""

    @abstractmethod
    def encode_step(
        self, frames: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """Tokens ``(B, N)`` of the next frame.

        Args:
            frames: ``(B, H, W, C)``.
            cache: The encoder's past; written in place.
            previous: The frame before: the real one where it is given, else as it was decoded. The
                frame itself where it is the first.
        """

    def decode_step(
        self, tokens: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """The frame ``(B, H, W, C)`` of the next tokens ``(B, N)``.

        Args:
            tokens: Of the frame.
            cache: The decoder's past; written in place.
            previous: See `encode_step`.
        """
        frames, entry = self.decode_frame(tokens, self.decode_inputs(cache), previous)
        return frames, cache.write(entry)

    @abstractmethod
    def derived(self) -> Any:
        """What decoding needs that depends on the weights alone."""

    @abstractmethod
    def decode_inputs(self, cache: KVCache, derived: Any = None) -> Any:
        """What decoding the next frame needs beside its tokens.

        Args:
            cache: The decoder's past.
            derived: `derived`, where it is at hand.
        """

    @abstractmethod
    def decode_frame(
        self, tokens: Tensor, inputs: Any, previous: Tensor
    ) -> tuple[Tensor, CacheEntry | None]:
        """The frame of the next tokens and what it adds to the cache; a function of tensors."""

    # Training -------------------------------------------------------------------------------

    def loss(
        self,
        batch: dict[str, Tensor],
        config: ReconstructionLossConfig | None = None,
        decoder_only: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruct ``batch["frames"]``, uint8 ``(B, T, H, W, C)``.

        Args:
            batch: The frames.
            config: The weights of the loss.
            decoder_only: Leave the encoder and the codebook as they are.
        """
        config = config or ReconstructionLossConfig()
        pixels = self.pixels(batch["frames"])
        predicted, tokens, reconstruction, quantisation = self._autoencode(
            pixels, config, decoder_only
        )
        loss = reconstruction if decoder_only else reconstruction + quantisation
        used = torch.bincount(tokens.flatten(), minlength=self.space.num_codes).gt(0)
        return loss, {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach(),
            "quantisation": quantisation.detach(),
            "psnr": psnr(predicted, pixels),
            "changed_psnr": psnr(predicted, pixels, changed_pixels(pixels)),
            "codes_used": used.float().mean(),
        }

    @abstractmethod
    def _autoencode(
        self, pixels: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixels ``(B, T, C, H, W)`` again, their tokens, their loss, and the quantiser's."""

    def pixels(self, frames: Tensor) -> Tensor:
        """Frames ``(B, T, H, W, C)`` as the networks see them; ValueError for another size."""
        size = self.frame_size
        if frames.shape[2:] != (size, size, CHANNELS):
            raise ValueError(
                f"expected frames (B, T, {size}, {size}, {CHANNELS}), got {tuple(frames.shape)}; "
                f"build the tokenizer with frame_size={frames.shape[-2]} for frames like these"
            )
        return to_float(frames)
