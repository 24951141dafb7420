"""Writes episodes. An episode that is in a manifest is never lost."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from pathlib import Path
from types import TracebackType

from world_models.episodes.episode import Episode
from world_models.episodes.errors import StorageError, writing
from world_models.episodes.manifest import ShardRecord
from world_models.episodes.shard import EncodedEpisode, encode_episode, shard_bytes
from world_models.files import atomic_file, sync

SHARD_BYTES = 16 << 20


class EpisodeWriter:
    """Adds episodes to a dataset directory. Several processes may do so, each with its own writer.

    A flush writes one shard under a temporary name, fsyncs it, renames it, fsyncs the directory,
    and only then appends the shard's line to this writer's own manifest file. If the process is
    killed, every episode in the manifest stays readable; only episodes in memory are lost.
    """

    def __init__(
        self, path: Path | str, *, name: str = "writer", max_shard_bytes: int = SHARD_BYTES
    ):
        """Prepare the directory. Raises StorageError if it cannot be written.

        Args:
            path: dataset directory; created if it does not exist.
            name: readable prefix of this writer's files; a random suffix makes it unique.
            max_shard_bytes: a shard is written when it reaches this compressed size in bytes.
        """
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise ValueError(f"name must be letters, digits, '_' or '.', got {name!r}")
        if max_shard_bytes < 1:
            raise ValueError(f"max_shard_bytes must be positive, got {max_shard_bytes}")
        self.path = Path(path)
        self.max_shard_bytes = max_shard_bytes
        self.name = f"{name}-{secrets.token_hex(6)}"
        self._shards = self.path / "shards"
        self._manifest = self.path / f"manifest-{self.name}.jsonl"
        self._pending: list[EncodedEpisode] = []
        self._pending_bytes = 0
        self._num_shards = 0
        with writing(self.path):
            self._shards.mkdir(parents=True, exist_ok=True)
            for directory in (self.path, self._shards):
                tempfile.TemporaryFile(dir=directory).close()

    @property
    def num_pending(self) -> int:
        """Number of episodes that are in memory but not yet on disk."""
        return len(self._pending)

    def add(self, episode: Episode) -> None:
        """Compress an episode. A shard is written once `max_shard_bytes` are in memory."""
        self.add_encoded(encode_episode(episode))

    def add_encoded(self, episode: EncodedEpisode) -> None:
        """Add an episode that is already compressed; see :meth:`add`."""
        if self._pending and self._pending[0].frame_shape != episode.frame_shape:
            self.flush()
        self._pending.append(episode)
        self._pending_bytes += episode.num_bytes
        if self._pending_bytes >= self.max_shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the episodes in memory to disk.

        After a StorageError, they stay in memory: free some space and call `flush()` again.
        """
        if not self._pending:
            return
        content, entries = shard_bytes(self._pending)
        shard = self._shards / f"{self.name}-{self._num_shards:06d}.h5"
        record = ShardRecord(
            path=shard,
            num_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            frame_shape=self._pending[0].frame_shape,
            entries=entries,
        )
        with writing(shard, len(content)), atomic_file(shard, durable=True) as part:
            part.write_bytes(content)
        try:
            _append(self._manifest, record.to_line().encode())
        except StorageError:
            shard.unlink()
            raise
        self._num_shards += 1
        self._pending.clear()
        self._pending_bytes = 0

    def close(self) -> None:
        """Write the episodes in memory to disk. The writer stays usable."""
        self.flush()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, StorageError):
            self.close()


def _append(path: Path, line: bytes) -> None:
    """Append the whole line or nothing."""
    new = not path.exists()
    with writing(path, len(line)):
        with open(path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                written = 0
                while written < len(line):  # after a short write, the next raises the reason
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        if new:
            sync(path.parent)
