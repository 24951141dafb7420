"""The interface of all tokenizers.

Shapes: B batch, T frames, k prompt frames, N tokens per frame, K codes, E code dimension; a frame
has height H, width W and C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from world_models.model.kv_cache import CacheEntry, KVCache
from world_models.model.patches import CHANNELS
from world_models.model.reconstruction import ReconstructionLossConfig, changed_pixels, psnr
from world_models.model.token_space import TokenSpace
from world_models.pixels import to_float

__all__ = ["Tokenizer"]


class Tokenizer(nn.Module, ABC):
    """Turns frames into tokens and back, causally in time: no frame depends on later frames.

    Frames are uint8 ``(..., H, W, C)``. A sequence starts with a prompt: real frames that the
    decoder also receives. Some tokenizers only encode what changes after the prompt.

    Attributes:
        config: The configuration.
        space: The token space, which describes the tokens.
        decoder_parts: Name prefixes of the parameters that only decoding uses. Training only these
            parameters does not change tokens.
        has_network: Whether decoding runs a network, so that compiling makes it faster.
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
        """Return the vectors of all tokens, ``(K, E)``. Similar tokens have similar directions."""

    # Sequences ------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """Encode frames ``(B, T, H, W, C)`` to tokens ``(B, T, N)``.

        The first `num_prompt` frames are the prompt.
        """

    @abstractmethod
    def decode(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Decode tokens ``(B, T, N)`` to frames. The prompt is ``(B, k, H, W, C)``, k >= 1."""

    def reconstruct(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """Encode frames and decode them again; see `encode`."""
        return self.decode(self.encode(frames, num_prompt), frames[:, :num_prompt])

    # One new frame --------------------------------------------------------------------------

    @abstractmethod
    def empty_cache(self, batch: int) -> KVCache:
        """Create a KV cache for sequences without any frames yet.

        The encoder and the decoder each need a cache of their own.
        """

    @abstractmethod
    def encode_step(
        self, frames: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """Encode the next frame to tokens ``(B, N)``.

        Args:
            frames: The next frame, ``(B, H, W, C)``.
            cache: The encoder's KV cache; updated in place.
            previous: The previous frame: within the prompt the real frame, afterwards the decoded
                frame. For the first frame of a sequence, pass this first frame itself.
        """

    def decode_step(
        self, tokens: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """Decode the next frame ``(B, H, W, C)`` from tokens ``(B, N)``; see `encode_step`."""
        frames, entry = self.decode_frame(tokens, self.decode_inputs(cache), previous)
        return frames, cache.write(entry)

    @abstractmethod
    def derived(self) -> Any:
        """Compute the inputs for decoding that depend only on the weights."""

    @abstractmethod
    def decode_inputs(self, cache: KVCache, derived: Any = None) -> Any:
        """Prepare the inputs for decoding the next frame, except its tokens.

        `derived` is the result of `Tokenizer.derived`, which is computed by default.
        """

    @abstractmethod
    def decode_frame(
        self, tokens: Tensor, inputs: Any, previous: Tensor
    ) -> tuple[Tensor, CacheEntry | None]:
        """Decode the next frame, and return the frame and its cache entry (None without a cache).

        This method has no side effects.
        """

    # Training -------------------------------------------------------------------------------

    def loss(
        self,
        batch: dict[str, Tensor],
        config: ReconstructionLossConfig | None = None,
        decoder_only: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss for reconstructing ``batch["frames"]``, uint8 ``(B, T, H, W, C)``.

        With `decoder_only`, the encoder and the codebook are not trained.
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
        """Encode and decode pixels ``(B, T, C, H, W)``.

        Returns:
            The decoded pixels, the tokens, the reconstruction loss and the quantisation loss.
        """

    def pixels(self, frames: Tensor) -> Tensor:
        """Convert frames ``(B, T, H, W, C)`` to network input.

        Raises:
            ValueError: The frames do not have the tokenizer's frame size.
        """
        size = self.frame_size
        if frames.shape[2:] != (size, size, CHANNELS):
            raise ValueError(
                f"expected frames (B, T, {size}, {size}, {CHANNELS}), got {tuple(frames.shape)}; "
                f"build the tokenizer with frame_size={frames.shape[-2]} for frames like these"
            )
        return to_float(frames)
