"""Makes a `WorldModel` from the GenieRedux authors' files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from world_models.inference.world import WorldModel
from world_models.model.token_space import SamplingConfig
from world_models.worlds.card import file_record
from world_models.worlds.official import parts
from world_models.worlds.official.checkpoint import (
    WHOLE,
    Checkpoint,
    OfficialError,
    read_checkpoint,
)
from world_models.worlds.official.networks import patch_size

__all__ = ["OfficialWorld", "official_world"]

FRAME_SIZE = 64  # frame size of the published models
DYNAMICS, LATENT_ACTION = "dynamics", "latent_action_model"
TOKENIZER_LINK = "tokenizer.pt"  # the tokenizer's file or link beside a 2025 dynamics file
# The 2024 code makes one pass at temperature 0, whatever number of passes is set.
SAMPLING = {
    2024: SamplingConfig(steps=1, temperature=0.0, redraw=True),
    2025: SamplingConfig(steps=25, redraw=True),
}


@dataclass(frozen=True, kw_only=True)
class OfficialWorld:
    """A world model made from official checkpoints.

    Attributes:
        model: The world model. Its outcome head is untrained, because the files have none.
        provenance: Where the world comes from, for its card.
    """

    model: WorldModel
    provenance: dict[str, Any]


def official_world(
    tokenizer: Path, dynamics: Path, *, frame_size: int | None = None, token_input: bool = False
) -> OfficialWorld:
    """Convert a tokenizer and a dynamics model to a world model.

    The dynamics model is a GenieRedux-G, or a GenieRedux with its latent action model.

    Args:
        tokenizer: Checkpoint file of the tokenizer.
        dynamics: Checkpoint file of the dynamics model.
        frame_size: Height and width of a frame; by default the value in the ``config.yaml`` beside
            the dynamics file, or 64 if there is no such value.
        token_input: Whether the dynamics model was trained with token input (``use_token``). Needed
            only for a GenieRedux-G of 2025 without its ``config.yaml``.

    Raises:
        OfficialError: If a file is damaged, was not written by the official code, or does not
            match the other file.
    """
    coder, predictor = read_checkpoint(tokenizer), read_checkpoint(dynamics)
    section, source = predictor.config.get("dynamics", {}), predictor.part(DYNAMICS)
    size = _frame_size(predictor, section, frame_size)
    if section.get("use_token") == "false" and token_input:
        raise OfficialError(
            f"the config.yaml beside {dynamics} sets use_token to false; omit --token-input"
        )
    if section.get("use_action_embeddings") == "true":
        raise OfficialError(f"{dynamics} {parts.EMBEDDINGS}")
    codes = coder.part(WHOLE)
    _check_tokenizer(coder, predictor, codes.shape("vq._codebook.embed", 3)[1])
    side = size // patch_size(codes)
    # A clip has one frame more than the dynamics model has positions: its last frame is only
    # predicted.
    window = parts.num_positions(source, max(1, side * side)) + 1
    built = parts.tokenizer(codes, size, window)
    latent = None
    if LATENT_ACTION in predictor.parts:
        latent = parts.latent_action(predictor.part(LATENT_ACTION), size, window)
    token_input = token_input or section.get("use_token") == "true" and latent is None
    year = 2025 if predictor.config or token_input else 2024
    model = WorldModel(
        built, parts.dynamics(source, built, latent, token_input), SAMPLING[year], latent
    )
    return OfficialWorld(model=model.eval(), provenance=_provenance(year, coder, predictor))


def _frame_size(predictor: Checkpoint, section: Mapping[str, str], given: int | None) -> int:
    said = section.get("image_size")
    if given is not None and said is not None and int(said) != given:
        raise OfficialError(
            f"{predictor.path}: its config.yaml says frames of {said} pixels, got --frame-size "
            f"{given}; omit --frame-size"
        )
    return given or int(said or FRAME_SIZE)


def _check_tokenizer(coder: Checkpoint, predictor: Checkpoint, num_codes: int) -> None:
    """Raise OfficialError if the dynamics model was trained with another tokenizer."""
    said = int(predictor.config.get("tokenizer", {}).get("codebook_size", num_codes))
    if said != num_codes:
        raise OfficialError(
            f"{predictor.path}: its config.yaml names a tokenizer with codebook_size {said}, "
            f"but {coder.path} has {num_codes}; use the tokenizer that the model was trained with"
        )
    link = predictor.path.parent / TOKENIZER_LINK
    if zipfile.is_zipfile(link) and file_record(link) != file_record(coder.path):
        raise OfficialError(
            f"{predictor.path} was trained with the tokenizer {link}, which differs from "
            f"{coder.path}; pass --tokenizer {link}"
        )


def _provenance(year: int, coder: Checkpoint, predictor: Checkpoint) -> dict[str, Any]:
    kind = "GenieRedux" if LATENT_ACTION in predictor.parts else "GenieRedux-G"
    return {
        "source": f"{kind} of the official code, {year} format, step {predictor.step}",
        "files": {"tokenizer": coder.record(), "dynamics": predictor.record()},
        "verified": "against the official code's outputs on random weights",
    }
