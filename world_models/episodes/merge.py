"""Merges datasets, and packs many small shards into a few large ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from world_models.episodes.dataset import EpisodeDataset
from world_models.episodes.manifest import read_manifest
from world_models.episodes.writer import EpisodeWriter


def merge(
    sources: Iterable[Path | str],
    out: Path | str,
    *,
    on_damage: Literal["refuse", "skip"] = "refuse",
) -> int:
    """Copy the episodes of `sources` into the dataset `out`, without duplicates.

    With ``on_damage="skip"``, damaged episodes are skipped, each with a warning. Frames are copied
    without recompression, and every chunk's checksum is checked. After an interruption, call this
    function again: it copies the missing episodes.

    Returns:
        Number of copied episodes.
    """
    out = Path(out)
    known = {e.identity for record in read_manifest(out).records for e in record.entries}
    copied = 0
    with EpisodeWriter(out, name="merge") as writer:
        for source in sources:
            if Path(source).resolve() == out.resolve():
                raise ValueError(f"{out} is both source and output; choose a new output directory")
            dataset = EpisodeDataset(source, on_damage=on_damage)
            for index, entry in enumerate(dataset.entries):
                if entry.identity in known:
                    continue
                with dataset.skipping():
                    writer.add_encoded(dataset.encoded(index))
                    known.add(entry.identity)
                    copied += 1
    return copied
