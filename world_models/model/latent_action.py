"""The latent action model, which infers which of a few actions led from one frame to the next.

Shapes: B batch, T frames, C channels, H height, W width, N tokens per frame, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from world_models.model.patches import (
    CHANNELS,
    FirstAndLater,
    NormalisedPatchEmbedding,
    PatchEmbedding,
)
from world_models.model.quantizer import Quantizer
from world_models.model.reconstruction import ReconstructionLossConfig, psnr, reconstruction_loss
from world_models.model.transformer import BlockOptions, SpaceTimeTransformer, TransformerConfig
from world_models.pixels import check_patch, pixels_from_patches, to_float

__all__ = ["CoderConfig", "LatentActionConfig", "LatentActionModel"]


@dataclass(frozen=True, kw_only=True)
class CoderConfig:
    """The architecture of a frame encoder and a frame decoder with a codebook between them.

    Attributes:
        frame_size: Height and width of a frame in pixels.
        patch: Height and width of a patch in pixels.
        transformer: Size of the encoder and of the decoder.
        code_dim: Dimension of a code.
        blocks: Options for the blocks of the encoder and of the decoder.
        own_first_frame: Use a separate patch embedding and pixel head for the first frame of a
            clip, and patch embeddings that normalise the raw pixels of a patch.
        raw_codes: Do not scale codes to unit norm.
    """

    frame_size: int = 64
    patch: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    code_dim: int = 32
    blocks: BlockOptions = field(default_factory=BlockOptions)
    own_first_frame: bool = False
    raw_codes: bool = False

    def __post_init__(self) -> None:
        check_patch(self.frame_size, self.patch)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of patches along the height and width of a frame, (h, w)."""
        side = self.frame_size // self.patch
        return side, side

    def patch_embedding(self) -> nn.Module:
        """Build the module that maps pixels ``(B, T, C, H, W)`` to vectors ``(B, T, N, D)``."""
        patch, dim = self.patch, self.transformer.dim
        if self.own_first_frame:
            return FirstAndLater(lambda: NormalisedPatchEmbedding(patch, dim))
        return PatchEmbedding(patch, dim)

    def pixel_head(self) -> nn.Module:
        """Build the module that maps vectors ``(B, T, N, D)`` to the pixels of each patch."""
        dim, size = self.transformer.dim, self.patch * self.patch * CHANNELS
        if self.own_first_frame:
            return FirstAndLater(lambda: nn.Linear(dim, size))
        return nn.Linear(dim, size)


@dataclass(frozen=True, kw_only=True)
class LatentActionConfig(CoderConfig):
    """The architecture of a latent action model with `num_actions` codes."""

    num_actions: int = 7


class LatentActionModel(nn.Module):
    """Infers actions from pixels.

    The model predicts each frame from earlier frames and an inferred action. The action has few
    possible values, so it is a bottleneck.
    """

    def __init__(self, config: LatentActionConfig):
        super().__init__()
        self.config = config
        dim, (h, w) = config.transformer.dim, config.grid
        self.patches = config.patch_embedding()
        self.encoder = SpaceTimeTransformer(config.transformer, config.grid, options=config.blocks)
        self.to_action = nn.Sequential(
            nn.Flatten(2), nn.Linear(h * w * dim, dim), nn.LayerNorm(dim)
        )
        # No minimum distance: codes must separate even the nearly equal vectors that an untrained
        # model computes.
        self.quantizer = Quantizer(
            dim,
            config.num_actions,
            config.code_dim,
            revive_distance=0.0,
            unit_codes=not config.raw_codes,
        )
        self.decoder = SpaceTimeTransformer(
            config.transformer, config.grid, time_first=True, options=config.blocks
        )
        self.to_patches = config.pixel_head()

    @torch.no_grad()
    def actions(self, frames: Tensor) -> Tensor:
        """Infer the actions, int64 ``(B, T - 1)``, between uint8 frames ``(B, T, H, W, C)``."""
        embedded = self.patches(to_float(frames, self._dtype))
        return self.quantizer.indices(self._action_vectors(embedded))

    def forward(self, pixels: Tensor, revive_after: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Predict every frame except the first from earlier frames and the inferred actions.

        Args:
            pixels: The frames, ``(B, T, C, H, W)``.
            revive_after: See `Quantizer.forward`.

        Returns:
            The predicted pixels ``(B, T - 1, C, H, W)``, the actions ``(B, T - 1)`` and the
            quantisation loss.
        """
        embedded = self.patches(pixels)  # (B, T, N, D)
        action, indices, quantisation = self.quantizer(self._action_vectors(embedded), revive_after)
        x = self.decoder(embedded[:, :-1] + action[:, :, None])
        predicted = pixels_from_patches(
            self.to_patches(x), self.config.patch, self.config.frame_size
        )
        return predicted, indices, quantisation

    def loss(
        self, batch: dict[str, Tensor], config: ReconstructionLossConfig | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss for predicting each frame of a clip from earlier frames.

        The clips are ``batch["frames"]``, uint8 ``(B, T, H, W, C)``.
        """
        config = config or ReconstructionLossConfig()
        pixels = to_float(batch["frames"], self._dtype)
        predicted, indices, quantisation = self(pixels, config.revive_after)
        target = pixels[:, 1:]
        reconstruction = reconstruction_loss(predicted, target, config)
        loss = reconstruction + quantisation
        counts = torch.bincount(indices.flatten(), minlength=self.config.num_actions).float()
        share = counts / counts.sum()
        return loss, {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach(),
            "quantisation": quantisation.detach(),
            "psnr": psnr(predicted, target),
            "action_perplexity": torch.special.entr(share).sum().exp(),
        }

    @property
    def _dtype(self) -> torch.dtype:
        return self.encoder.norm.weight.dtype

    def _action_vectors(self, embedded: Tensor) -> Tensor:
        return self.to_action(self.encoder(embedded))[:, 1:]  # (B, T - 1, D)
