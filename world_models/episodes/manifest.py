"""The manifest, which lists the shards in a dataset and the episodes in each shard.

A dataset directory holds `shards/*.h5` and one `manifest-<writer>.jsonl` per writer, so that any
number of processes and machines can write into one dataset without a lock. A line lists one shard
and all its episodes, and contains a checksum of itself. The line is appended once the shard is
safely on disk, and is never changed, so every shard in a manifest is complete.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from world_models.episodes.episode import EpisodeInfo
from world_models.episodes.shard import FORMAT_VERSION, Entry

_PREFIX = '{"crc32": "'
_BODY = len(_PREFIX) + 8 + len('", ')


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One line of a manifest: a shard and its episodes."""

    path: Path
    num_bytes: int
    sha256: str
    frame_shape: tuple[int, ...]
    entries: list[Entry]

    def to_line(self) -> str:
        """Return the line, including the newline."""
        body = json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "shard": self.path.name,
                "num_bytes": self.num_bytes,
                "sha256": self.sha256,
                "frame_shape": list(self.frame_shape),
                "episodes": [asdict(entry) for entry in self.entries],
            }
        )[1:]
        return _with_checksum(body) + "\n"

    @staticmethod
    def from_line(line: str, directory: Path) -> ShardRecord:
        """Read a line that :meth:`to_line` made.

        Raises:
            ValueError: If the line is damaged or has another format version.
        """
        body = line[_BODY:]
        if line != _with_checksum(body):
            raise ValueError("the checksum of the line does not match")
        values = json.loads(line)
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"format version {values['format_version']} is not {FORMAT_VERSION}; "
                "install the version of genie-gym that wrote the dataset"
            )
        return ShardRecord(
            path=directory / "shards" / values["shard"],
            num_bytes=values["num_bytes"],
            sha256=values["sha256"],
            frame_shape=tuple(values["frame_shape"]),
            entries=[Entry.from_json(entry) for entry in values["episodes"]],
        )


def _with_checksum(body: str) -> str:
    return f'{_PREFIX}{zlib.crc32(body.encode()):08x}", {body}'


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of all manifest files in a dataset.

    Attributes:
        records: one record per shard.
        damaged: manifest file and reason for each damaged line.
        torn: manifest files whose last line was cut off while it was written. The shard that
            this line describes is ignored.
    """

    records: list[ShardRecord]
    damaged: list[tuple[Path, str]]
    torn: list[Path]


def read_manifest(path: Path) -> Manifest:
    """Read every manifest file under the dataset directory `path`."""
    manifest = Manifest(records=[], damaged=[], torn=[])
    for file in sorted(path.glob("manifest-*.jsonl")):
        *lines, rest = file.read_bytes().split(b"\n")
        if rest:
            manifest.torn.append(file)
        for number, line in enumerate(lines, start=1):
            try:
                manifest.records.append(ShardRecord.from_line(line.decode(), path))
            except (ValueError, KeyError, TypeError) as error:
                manifest.damaged.append((file, f"line {number}: {error}"))
    return manifest


def existing_infos(path: Path | str) -> list[EpisodeInfo]:
    """Return the infos of the episodes already in a dataset; empty if there is no dataset yet."""
    records = read_manifest(Path(path)).records
    return [entry.info for record in records for entry in record.entries]


def existing_indices(
    path: Path | str, where: Callable[[EpisodeInfo], bool] = lambda info: True
) -> set[int]:
    """Return the indices of the episodes already in a dataset; empty if there is no dataset yet."""
    infos = existing_infos(path)
    return {info.index for info in infos if info.index is not None and where(info)}
