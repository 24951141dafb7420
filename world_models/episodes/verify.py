"""Checks a dataset against its manifest, down to the last pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from world_models.episodes.episode import Transitions
from world_models.episodes.errors import DamagedShardError
from world_models.episodes.manifest import ShardRecord, read_manifest
from world_models.episodes.shard import Entry, ShardReader, episode_key


@dataclass(kw_only=True)
class Report:
    """The result of :func:`verify`.

    Attributes:
        num_shards: number of shards in the manifest.
        num_episodes: number of episodes in the manifest.
        num_frames: number of frames in the manifest.
        damage: damaged files, each with the reason; empty if all is well.
        notes: leftovers of interrupted writers, each with the reason. They are never read.
    """

    num_shards: int = 0
    num_episodes: int = 0
    num_frames: int = 0
    damage: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)


def verify(path: Path | str, progress: Callable[[ShardRecord], None] = lambda _: None) -> Report:
    """Read and check everything: file hashes, episode tables, all frames and all episode keys."""
    path = Path(path)
    manifest = read_manifest(path)
    report = Report(damage=list(manifest.damaged))
    for file in manifest.torn:
        report.notes.append((file, "the last line was cut off by an interrupted writer"))
    for record in manifest.records:
        report.num_shards += 1
        report.num_episodes += len(record.entries)
        report.num_frames += sum(entry.num_frames for entry in record.entries)
        report.damage += [(record.path, reason) for reason in _check_shard(record)]
        progress(record)
    named = {record.path for record in manifest.records}
    for file in sorted((path / "shards").glob("*")):
        if file not in named:
            report.notes.append((file, "is in no manifest: a leftover of an interrupted writer"))
    return report


def _check_shard(record: ShardRecord) -> list[str]:
    """Return a description of each fault found in one shard."""
    try:
        content = record.path.read_bytes()
    except OSError as error:
        return [f"cannot be read ({error.strerror})"]
    if len(content) != record.num_bytes:
        return [f"has {len(content):,} bytes, but the manifest says {record.num_bytes:,}"]
    found = []
    if hashlib.sha256(content).hexdigest() != record.sha256:
        found.append("its sha256 differs from the manifest's: the file was changed")
    try:
        shard = ShardReader(record.path)
        if shard.entries() != record.entries:
            found.append("its table of episodes differs from the manifest's")
        for number, entry in enumerate(record.entries):
            if _key(shard, entry) != entry.key:
                found.append(f"the content of episode {number} does not match its key {entry.key}")
        shard.close()
    except DamagedShardError as error:
        found.append(error.reason)
    return found


def _key(shard: ShardReader, entry: Entry) -> str:
    episode = shard.encoded(entry)
    transitions = Transitions(
        actions=episode.actions,
        rewards=episode.rewards,
        terminated=entry.terminated,
        truncated=entry.truncated,
        info=entry.info,
    )
    return episode_key(transitions, episode.frame_shape, episode.chunks)
