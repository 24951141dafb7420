"""The motion tokenizer, whose tokens describe how each patch follows from the previous frame.

There are two kinds of tokens:

* Ids below DISPLACEMENTS copy the patch from a displaced position in the previous frame. This part
  of the tokenizer is called the codec.
* The other ids replace the patch with new content. This part is called the residual: either a patch
  codebook or a residual VQ.

After the prompt, the previous frame is the previous *decoded* frame. So the tokens of a frame also
correct the errors of the previous frame, and errors do not accumulate.

Shapes: B batch, T frames, N tokens per frame, K codes; a frame has height H, width W and
C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from world_models.model.kv_cache import KVCache
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.model.token_space import SamplingConfig, TokenSpace
from world_models.pixels import check_patch, to_uint8
from world_models.tokenizers.base import Tokenizer
from world_models.tokenizers.motion.codec import MotionCodec
from world_models.tokenizers.motion.displacement import DISPLACEMENTS, STILL, displacement_codes

__all__ = [
    "CODE_DIM",
    "GAIN",
    "Corrupt",
    "MotionConfig",
    "MotionTokenizer",
    "Residual",
    "TrainedFrame",
]

CODE_DIM = 32  # dimension of a code
GAIN = 0.7  # maximum error of a replaced patch, as a fraction of its error when only moved

CUT = 4  # frames between two cuts in training
WATCHED = 2  # clips per training step that the overlay learns from
# With the defaults of `SamplingConfig`, objects that may move would stand still.
SAMPLING = SamplingConfig(temperature=0.2, threshold=0.4)
Corrupt = Callable[[Tensor, Tensor], Tensor]
"""Maps a frame's tokens ``(B, N)`` and the previous frame to the tokens that are decoded."""


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Settings that all motion tokenizers share.

    Attributes:
        frame_size: Height and width of a frame in pixels.
        patch: Height and width of a token's patch in pixels.
        num_codes: Codebook size K, including displacements.
        threshold: A patch can be replaced if its mean squared error after moving is above this.
    """

    frame_size: int = 64
    patch: int = 8
    num_codes: int = 1024
    threshold: float = 0.001

    def __post_init__(self) -> None:
        check_patch(self.frame_size, self.patch)
        if self.num_codes <= DISPLACEMENTS:
            raise ValueError(
                f"the first {DISPLACEMENTS} codes are displacements; num_codes must be larger, "
                f"got {self.num_codes}"
            )


class TrainedFrame(NamedTuple):
    """The result of encoding and decoding single frames in training.

    Attributes:
        shown: The decoded frames, ``(B, 1, C, H, W)``.
        tokens: The frames' tokens, ``(B, 1, N)``.
        loss: The reconstruction loss.
        quantisation: The quantisation loss.
        previous: The frames to use as the previous frames in the next call, ``(B, 1, C, H, W)``.
    """

    shown: Tensor
    tokens: Tensor
    loss: Tensor
    quantisation: Tensor
    previous: Tensor


class Residual(nn.Module, ABC):
    """Replaces patches that the codec cannot reproduce with new content.

    A subclass defines the token ids from DISPLACEMENTS on, which stand for new content, and calls
    the codec for the ids below. Pixels are ``(B, 1, C, H, W)``.

    Args:
        codec: The codec, which moves patches. It belongs to the tokenizer, not to the residual.

    Attributes:
        decoder_parts: See `Tokenizer`.
        has_network: See `Tokenizer`.
        grouped: Whether sampling treats the ids for new content as one group; see
            `TokenSpace.group_start`.
    """

    decoder_parts: tuple[str, ...]
    has_network: bool
    grouped: bool

    def __init__(self, codec: MotionCodec):
        super().__init__()
        self._codec = (codec,)  # a tuple hides it from torch: its weights belong to the tokenizer
        self.patch, self.frame_size = codec.patch, codec.frame_size

    @property
    def codec(self) -> MotionCodec:
        """The codec of the tokenizer."""
        return self._codec[0]

    @abstractmethod
    def codes(self) -> Tensor:
        """Return unit vectors for the ids for new content, ``(K - DISPLACEMENTS, CODE_DIM)``."""

    @abstractmethod
    def encode(self, pixels: Tensor, previous: Tensor) -> Tensor:
        """Encode single frames to tokens ``(B, 1, N)``: displacements, and ids for new content."""

    @abstractmethod
    def derived(self) -> Any:
        """Compute the inputs for decoding that depend only on the weights."""

    @abstractmethod
    def decode(self, tokens: Tensor, previous: Tensor, inputs: Any) -> Tensor:
        """Decode tokens ``(B, 1, N)`` of single frames to pixels, not clipped to [0, 1]."""

    @abstractmethod
    def train_frame(
        self, pixels: Tensor, previous: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> TrainedFrame:
        """Encode and decode single frames with gradients."""

    def after_step(self, pixels: Tensor, shown: Tensor, tokens: Tensor, revive_after: int) -> None:
        """Update parameters and buffers that gradients do not train, after a training step."""


class MotionTokenizer(Tokenizer):
    """A tokenizer whose tokens displace patches (codec) or replace their content (residual)."""

    directions: Tensor

    def __init__(self, config: MotionConfig, residual: Residual):
        super().__init__()
        self.config, self.codec, self.residual = config, residual.codec, residual
        self.decoder_parts = tuple(f"residual.{part}" for part in residual.decoder_parts)
        self.has_network = residual.has_network
        side = config.frame_size // config.patch
        self.space = TokenSpace(
            grid=(side, side),
            num_codes=config.num_codes,
            code_dim=CODE_DIM,
            neutral=STILL,
            group_start=DISPLACEMENTS if residual.grouped else None,
            patch=config.patch,
            sampling=SAMPLING,
        )
        self.register_buffer("directions", displacement_codes(CODE_DIM), persistent=False)

    def codes(self) -> Tensor:
        """See `Tokenizer.codes`."""
        codes = self.residual.codes()
        return torch.cat((self.directions.to(codes.dtype), codes))

    # Sequences ------------------------------------------------------------------------------

    def encode(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """See `Tokenizer.encode`."""
        return self.follow(frames, num_prompt)[0]

    def reconstruct(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """See `Tokenizer.reconstruct`."""
        return self.follow(frames, num_prompt)[1]

    @torch.no_grad()
    def follow(
        self, frames: Tensor, num_prompt: int = 1, corrupt: Corrupt | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode and decode uint8 frames ``(B, T, H, W, C)`` one by one.

        The first `num_prompt` frames are the prompt. `corrupt` changes a frame's tokens before they
        are decoded; the tokens of the next frame then correct the resulting errors.

        Returns:
            The tokens ``(B, T, N)``, and the decoded frames.
        """
        previous, inputs, tokens, shown = frames[:, 0], self.derived(), [], []
        for t, frame in enumerate(frames.unbind(1)):
            tokens.append(self._encode(frame, previous))
            used = tokens[-1] if corrupt is None else corrupt(tokens[-1], previous)
            shown.append(self.decode_frame(used, inputs, previous)[0])
            previous = frame if t < num_prompt else shown[-1]
        return torch.stack(tokens, 1), torch.stack(shown, 1)

    @torch.no_grad()
    def decode(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """See `Tokenizer.decode`."""
        previous, inputs, shown = prompt[:, 0], self.derived(), []
        for t, frame in enumerate(tokens.unbind(1)):
            shown.append(self.decode_frame(frame, inputs, previous)[0])
            previous = prompt[:, t] if t < prompt.shape[1] else shown[-1]
        return torch.stack(shown, 1)

    # One new frame --------------------------------------------------------------------------

    def empty_cache(self, batch: int) -> KVCache:
        """See `Tokenizer.empty_cache`. This cache stores only the number of frames."""
        return KVCache.empty(self.directions, batch)

    def encode_step(
        self, frames: Tensor, cache: KVCache, previous: Tensor
    ) -> tuple[Tensor, KVCache]:
        """See `Tokenizer.encode_step`."""
        return self._encode(frames, previous), cache.write(None)

    def _encode(self, frames: Tensor, previous: Tensor) -> Tensor:
        pixels, before = self.pixels(frames[:, None]), self.pixels(previous[:, None])
        return self.residual.encode(pixels, before).squeeze(1)

    def derived(self) -> Any:
        """See `Tokenizer.derived`."""
        return self.residual.derived()

    def decode_inputs(self, cache: KVCache, derived: Any = None) -> Any:
        """See `Tokenizer.decode_inputs`."""
        return self.derived() if derived is None else derived

    def decode_frame(self, tokens: Tensor, inputs: Any, previous: Tensor) -> tuple[Tensor, None]:
        """See `Tokenizer.decode_frame`."""
        pixels = self.pixels(previous[:, None])
        shown = self.residual.decode(tokens[:, None], pixels, inputs)
        return to_uint8(shown.squeeze(1)), None

    # Training -------------------------------------------------------------------------------

    def _autoencode(
        self, pixels: Tensor, config: ReconstructionLossConfig, decoder_only: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode and decode each frame relative to the previous decoded frame.

        Clips start with a real frame, as dreams do. In every second clip, the previous frame of
        every CUT-th frame is taken from another clip, so that codes also learn to show entirely new
        frames.
        """
        learning = self.training and not decoder_only
        if learning and self.codec.overlay is not None:
            self.codec.overlay.watch(pixels[:WATCHED], self.codec.threshold)
        cut = torch.arange(len(pixels), device=pixels.device)[:, None, None, None, None] % 2 == 1
        previous, frames = pixels[:, :1], []
        for t, frame in enumerate(pixels.split(1, dim=1)):
            if t % CUT == 0:
                previous = torch.where(cut, pixels.roll(1, 0)[:, t : t + 1], previous)
            frames.append(self.residual.train_frame(frame, previous, config, decoder_only))
            previous = frames[-1].previous
        shown, tokens = (torch.cat(part, 1) for part in list(zip(*frames, strict=True))[:2])
        if learning:
            self.residual.after_step(pixels, shown, tokens, config.revive_after)
        loss = torch.stack([frame.loss for frame in frames]).mean()
        return shown, tokens, loss, torch.stack([frame.quantisation for frame in frames]).mean()
