"""A shard: several episodes in one immutable HDF5 file.

Row r of the arrays `frames`, `actions` and `rewards` is one step. An episode occupies `num_frames`
rows, beginning with `first_row`, which is on a chunk boundary.

Each frame is stored *column by column*, so `frames` has the shape (rows, W, H, 3). If a game
scrolls sideways, whole runs of bytes then move; the compressor finds them, and a frame takes a
fifth less space. Each chunk is a zstd frame with a checksum (HDF5 filter 32015).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numcodecs import zstd

from world_models.episodes.episode import Episode, EpisodeInfo, Transitions
from world_models.episodes.errors import DamagedShardError

FORMAT_VERSION = 1
CHUNK_FRAMES = 24  # a 16-frame window lies in one or two chunks
ZSTD_LEVEL = 3
CHECKSUM_BYTES = 4  # a zstd frame ends with four bytes of the content's XXH64 (RFC 8878)
ZSTD_FILTER = 32015  # registered HDF5 id: other readers need the hdf5plugin package


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The manifest's entry for one episode in a shard."""

    key: str
    first_row: int
    num_frames: int
    terminated: bool
    truncated: bool
    total_reward: float
    info: EpisodeInfo

    @property
    def identity(self) -> tuple:
        """A key that is equal for copies of an episode, and sorts episodes in canonical order."""
        seed = (-1, 0) if self.info.seed is None else (0, self.info.seed)
        index = (-1, 0) if self.info.index is None else (0, self.info.index)
        return (self.info.env_id, self.info.policy, seed, index, self.key)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Entry:
        """Make an entry from the result of `dataclasses.asdict`, also after a JSON round trip."""
        return Entry(**values | {"info": EpisodeInfo(**values["info"])})


@dataclass(frozen=True, kw_only=True)
class EncodedEpisode:
    """A compressed episode, ready to be packed into a shard."""

    entry: Entry
    frame_shape: tuple[int, ...]
    chunks: list[bytes]
    actions: np.ndarray
    rewards: np.ndarray

    @property
    def num_bytes(self) -> int:
        """Compressed size of the frames in bytes."""
        return sum(map(len, self.chunks))


class Chunk:
    """Up to CHUNK_FRAMES frames, compressed together. If there are fewer, the rest is black.

    Attributes:
        count: Number of frames so far, at most CHUNK_FRAMES.
    """

    def __init__(self, frame_shape: tuple[int, ...]):
        import cv2  # only writing needs it: training machines may have no OpenCV

        height, width, channels = frame_shape
        self._transpose = cv2.transpose  # twice as fast as numpy
        self.frame_shape = frame_shape
        self.count = 0
        self._columns = np.empty((CHUNK_FRAMES, width, height, channels), np.uint8)

    @property
    def full(self) -> bool:
        """Whether there is no room for another frame."""
        return self.count == CHUNK_FRAMES

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3)."""
        self._transpose(frame, self._columns[self.count])
        self.count += 1

    def compressed(self) -> bytes:
        """Return the chunk as the bytes of a zstd frame."""
        self._columns[self.count :] = 0
        return _compress(self._columns)


class EpisodeEncoder:
    """Compresses an episode chunk by chunk, while it is being played."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._num_frames = 0
        self._frame_shape: tuple[int, ...] = ()

    def add(self, chunk: Chunk) -> None:
        """Append a chunk. All chunks except the last must be full."""
        self._chunks.append(chunk.compressed())
        self._num_frames += chunk.count
        self._frame_shape = chunk.frame_shape

    def finish(self, transitions: Transitions) -> EncodedEpisode:
        """Add the transitions and return the episode. The encoder cannot be used again."""
        chunks_needed = -(-(len(transitions) + 1) // CHUNK_FRAMES)
        if (self._num_frames, len(self._chunks)) != (len(transitions) + 1, chunks_needed):
            raise ValueError(
                f"got {self._num_frames} frames in {len(self._chunks)} chunks for "
                f"{len(transitions)} transitions; expected one frame more than transitions, and "
                f"{CHUNK_FRAMES} frames in each chunk but the last"
            )
        entry = Entry(
            key=episode_key(transitions, self._frame_shape, self._chunks),
            first_row=0,
            num_frames=self._num_frames,
            terminated=transitions.terminated,
            truncated=transitions.truncated,
            total_reward=float(transitions.rewards.sum(dtype=np.float64)),
            info=transitions.info,
        )
        return EncodedEpisode(
            entry=entry,
            frame_shape=self._frame_shape,
            chunks=self._chunks,
            actions=transitions.actions.astype("<i2"),
            rewards=transitions.rewards.astype("<f4"),
        )


def encode_episode(episode: Episode) -> EncodedEpisode:
    """Compress an episode. This is a pure function, so it may run in any thread or process."""
    encoder = EpisodeEncoder()
    for start in range(0, len(episode.frames), CHUNK_FRAMES):
        chunk = Chunk(episode.frames.shape[1:])
        for frame in episode.frames[start : start + CHUNK_FRAMES]:
            chunk.add(frame)
        encoder.add(chunk)
    return encoder.finish(episode)


def episode_key(
    transitions: Transitions, frame_shape: tuple[int, ...], chunks: Sequence[bytes]
) -> str:
    """Return a hash of an episode's content that does not depend on the compression level.

    The pixels enter the hash through the checksum that zstd appends to each chunk.
    """
    info, ends = transitions.info, f"{int(transitions.terminated)}{int(transitions.truncated)}"
    digest = hashlib.sha256()
    digest.update(f"{info.env_id}\0{len(transitions)}{frame_shape}\0{ends}\0".encode())
    digest.update(transitions.actions.astype("<i8").data)
    digest.update(transitions.rewards.astype("<f4").data)
    for chunk in chunks:
        digest.update(chunk[-CHECKSUM_BYTES:])
    return digest.hexdigest()[:32]


def shard_bytes(episodes: Sequence[EncodedEpisode]) -> tuple[bytes, list[Entry]]:
    """Pack episodes with the same frame shape into a shard; return its bytes and its entries."""
    entries, num_rows = [], 0
    for episode in episodes:
        entries.append(replace(episode.entry, first_row=num_rows))
        num_rows += len(episode.chunks) * CHUNK_FRAMES
    actions, rewards = np.zeros(num_rows, "<i2"), np.zeros(num_rows, "<f4")
    for entry, episode in zip(entries, episodes, strict=True):
        rows = slice(entry.first_row, entry.first_row + len(episode.actions))
        actions[rows], rewards[rows] = episode.actions, episode.rewards

    height, width, channels = episodes[0].frame_shape
    table = np.frombuffer(json.dumps([asdict(e) for e in entries]).encode(), np.uint8)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="v110") as file:  # v110: checksummed file structure
        file.attrs["format"] = "genie-gym episodes"
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["frame_layout"] = "row, column (x), line (y), colour"
        chunks = [chunk for episode in episodes for chunk in episode.chunks]
        frame_chunk = (CHUNK_FRAMES, width, height, channels)
        _create(file, "frames", "u1", (num_rows, *frame_chunk[1:]), frame_chunk, chunks)
        for name, array in (("actions", actions), ("rewards", rewards), ("episodes", table)):
            _create(file, name, array.dtype, array.shape, array.shape, [_compress(array)])
    return buffer.getvalue(), entries


class ShardReader:
    """Reads rows of one shard. All bytes that it returns have passed a checksum test."""

    def __init__(self, path: Path):
        """Open the shard. Raises DamagedShardError if it is not readable."""
        self.path = path
        try:
            self._file = h5py.File(path, "r", locking=False)
            self._frames = self._file["frames"].id
            self.chunk_frames, width, height, channels = self._file["frames"].chunks
            self.frame_shape = (height, width, channels)
            self.actions = self._whole("actions")
            self.rewards = self._whole("rewards")
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise DamagedShardError(path, f"cannot be opened ({error})") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def entries(self) -> list[Entry]:
        """Return the shard's own table of its episodes."""
        try:
            table = json.loads(self._whole("episodes").tobytes())
            return [Entry.from_json(values) for values in table]
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise DamagedShardError(self.path, f"its table cannot be read ({error})") from None

    def frames(self, first: int, count: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return the frames in rows [first, first + count), uint8 (count, H, W, 3)."""
        out = np.empty((count, *self.frame_shape), np.uint8) if out is None else out
        done = 0
        while done < count:
            chunk, offset = divmod(first + done, self.chunk_frames)
            taken = min(count - done, self.chunk_frames - offset)
            columns = self._decode(chunk)[offset : offset + taken]
            _pixels(out[done : done + taken])[:] = _pixels(columns).swapaxes(1, 2)
            done += taken
        return out

    def encoded(self, entry: Entry) -> EncodedEpisode:
        """Check the checksums of an episode's chunks; return the still compressed episode."""
        first = entry.first_row // self.chunk_frames
        numbers = range(first, first + -(-entry.num_frames // self.chunk_frames))
        for number in numbers:
            self._decode(number)
        rows = slice(entry.first_row, entry.first_row + entry.num_frames - 1)
        return EncodedEpisode(
            entry=entry,
            frame_shape=self.frame_shape,
            chunks=[self._chunk(number) for number in numbers],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
        )

    def _chunk(self, number: int) -> bytes:
        try:
            position = (number * self.chunk_frames, 0, 0, 0)
            return self._frames.read_direct_chunk(position)[1]
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedShardError(self.path, f"chunk {number} cannot be read ({error})") from None

    def _decode(self, number: int) -> np.ndarray:
        height, width, channels = self.frame_shape
        compressed = self._chunk(number)
        try:
            flat = np.frombuffer(zstd.decompress(compressed), np.uint8)
            return flat.reshape(self.chunk_frames, width, height, channels)
        except (RuntimeError, ValueError) as error:
            raise DamagedShardError(self.path, f"chunk {number} cannot be read ({error})") from None

    def _whole(self, name: str) -> np.ndarray:
        dataset = self._file[name]
        compressed = dataset.id.read_direct_chunk((0,))[1]
        return np.frombuffer(zstd.decompress(compressed), dataset.dtype).reshape(dataset.shape)


def _create(
    file: h5py.File,
    name: str,
    dtype: np.dtype | str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    chunks: Iterable[bytes],
) -> None:
    """Create an HDF5 dataset from compressed chunks."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(chunk)
    properties.set_filter(ZSTD_FILTER, h5py.h5z.FLAG_OPTIONAL, (ZSTD_LEVEL,))
    kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, properties)
    for number, data in enumerate(chunks):
        dataset.write_direct_chunk((number * chunk[0],) + (0,) * (len(chunk) - 1), data)


def _pixels(frames: np.ndarray) -> np.ndarray:
    """View frames (n, A, B, 3) as whole pixels (n, A, B), which numpy copies 4 times as fast."""
    return frames.view("V3")[..., 0]


def _compress(array: np.ndarray) -> bytes:
    return zstd.compress(np.ascontiguousarray(array), ZSTD_LEVEL, True)
