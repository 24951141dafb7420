"""Reads datasets: whole episodes, and short windows of episodes."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from world_models.episodes.episode import Episode, EpisodeInfo
from world_models.episodes.errors import DamagedShardError
from world_models.episodes.manifest import Manifest, ShardRecord, read_manifest
from world_models.episodes.shard import EncodedEpisode, Entry, ShardReader
from world_models.episodes.shard_cache import ShardCache

SPLITS = {"train": (0, 0.9), "val": (0.9, 0.99), "test": (0.99, 1)}  # ranges of a hash
MAX_SUBSTITUTES = 100  # number of windows that are tried in place of a damaged one


class EpisodeDataset:
    """The episodes in a directory, in an order that does not depend on which process wrote them.

    Args:
        path: dataset directory.
        on_damage: ``"refuse"`` raises :class:`DamagedShardError` at the first sign of damage.
            ``"skip"`` warns instead: shards that are missing or truncated are skipped,
            :meth:`batch` replaces an unreadable window with another one, and a
            :meth:`skipping` block is left when damage is found in it.
    """

    def __init__(self, path: Path | str, *, on_damage: Literal["refuse", "skip"] = "refuse"):
        """Read the manifest, and check that each shard in it exists and has the right size."""
        if on_damage not in ("refuse", "skip"):
            raise ValueError(f'on_damage must be "refuse" or "skip", got {on_damage!r}')
        self.path = Path(path)
        self.on_damage = on_damage
        manifest = read_manifest(self.path)
        if not manifest.records and not manifest.damaged:
            raise FileNotFoundError(
                f"no episodes in {self.path.absolute()} (looked for manifest-*.jsonl); collect "
                f"some with `genie-gym collect ENV --out {self.path}`"
            )
        found = _unique(self._intact(manifest))
        self.entries: list[Entry] = [entry for entry, _ in found]
        self._records = [record for _, record in found]
        self._shards = ShardCache()

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def num_frames(self) -> np.ndarray:
        """Number of frames in each episode, int64; T + 1 for an episode with T actions."""
        return np.array([entry.num_frames for entry in self.entries], dtype=np.int64)

    @cached_property
    def env_numbers(self) -> np.ndarray:
        """The env of each episode, as an index into the sorted env ids, int64."""
        ids = [entry.info.env_id for entry in self.entries]
        return np.unique(ids, return_inverse=True)[1].astype(np.int64)

    @property
    def action_meanings(self) -> tuple[str, ...]:
        """The action set that all episodes share."""
        return self._common("action set", [e.info.action_meanings for e in self.entries])

    @property
    def num_actions(self) -> int:
        """Size of the action set that all episodes share."""
        return len(self.action_meanings)

    @cached_property
    def frame_shape(self) -> tuple[int, ...]:
        """Frame shape ``(H, W, 3)`` that all episodes share."""
        return self._common("frame shape", [record.frame_shape for record in self._records])

    @property
    def num_shards(self) -> int:
        """Number of shards that hold these episodes."""
        return len({record.path for record in self._records})

    @property
    def num_bytes(self) -> int:
        """Total size in bytes of the shards that hold these episodes."""
        return sum({record.path: record.num_bytes for record in self._records}.values())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the episodes and their order."""
        keys = "".join(entry.key for entry in self.entries)
        return hashlib.sha256(keys.encode()).hexdigest()[:32]

    def select(
        self,
        *,
        env_id: str | None = None,
        policy: str | None = None,
        where: Callable[[EpisodeInfo], bool] = lambda info: True,
    ) -> EpisodeDataset:
        """Return the episodes that match every given condition."""
        wanted = {"env_id": env_id, "policy": policy}
        wanted = {name: value for name, value in wanted.items() if value is not None}

        def matches(entry: Entry) -> bool:
            return all(getattr(entry.info, k) == v for k, v in wanted.items()) and where(entry.info)

        return self._subset([matches(entry) for entry in self.entries])

    def split(self, name: str) -> EpisodeDataset:
        """Return the episodes in a split: "train", "val" or "test".

        A hash of an episode's content decides in which split the episode is. So it stays in this
        split when other episodes are added, and equal episodes are in the same split.
        """
        if name not in SPLITS:
            raise ValueError(f"split {name!r} must be one of {list(SPLITS)}")
        start, end = SPLITS[name]
        places = [int(entry.key[:13], 16) / 16**13 for entry in self.entries]
        return self._subset([start <= place < end for place in places])

    def episode(self, index: int) -> Episode:
        """Return a whole episode."""
        entry = self.entries[index]
        window = self.window(index, 0, entry.num_frames)
        return Episode(
            frames=window["frames"],
            actions=window["actions"],
            rewards=window["rewards"],
            terminated=entry.terminated,
            truncated=entry.truncated,
            info=entry.info,
        )

    def frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """Return frames [start, stop) of an episode, uint8 (stop - start, H, W, 3)."""
        shard, row = self._place(index, start, stop - start)
        return shard.frames(row, stop - start)

    def actions(self, index: int) -> np.ndarray:
        """Return all actions of an episode, int64 (T,)."""
        return self.transitions(index, 0, self.entries[index].num_frames)["actions"]

    def window(
        self, index: int, start: int, length: int, frames: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Return a window of T = `length` frames of an episode, and the transitions between them.

        Args:
            index: Index of the episode.
            start: First frame of the window.
            length: Number of frames.
            frames: Array to read the frames into; by default a new one.

        Returns:
            A dict with `frames`, uint8 (T, H, W, 3); `actions`, int64; `rewards`, float32;
            `terminated`, bool; and the window's `episode` and `start`. `actions`, `rewards` and
            `terminated` have shape (T - 1,): entry t belongs to the transition from frame t to
            frame t + 1.
        """
        shard, row = self._place(index, start, length)
        pixels = shard.frames(row, length, frames)
        return {"frames": pixels, **self.transitions(index, start, length)}

    def transitions(self, index: int, start: int, length: int) -> dict[str, Any]:
        """Return what `window` returns, except the frames, which are not read."""
        shard, row = self._place(index, start, length)
        entry = self.entries[index]
        terminated = np.zeros(length - 1, bool)
        if length > 1 and start + length == entry.num_frames:
            terminated[-1] = entry.terminated
        return {
            "actions": shard.actions[row : row + length - 1].astype(np.int64),
            "rewards": shard.rewards[row : row + length - 1].astype(np.float32),
            "terminated": terminated,
            "episode": index,
            "start": start,
        }

    def batch(self, windows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Read and stack several windows; each row of `windows` is (episode, start)."""
        frames = np.empty((len(windows), length, *self.frame_shape), np.uint8)
        rows = [
            self._readable_window(int(index), int(start), length, out)
            for (index, start), out in zip(windows, frames, strict=True)
        ]
        batch = {
            name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "frames"
        }
        return {"frames": frames, **batch}

    def encoded(self, index: int) -> EncodedEpisode:
        """Check a whole episode's checksums; return it without decompressing it, for copying."""
        return self._shards.get(self._records[index].path).encoded(self.entries[index])

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Leave the block with a warning if data is damaged; with ``on_damage="refuse"``, raise."""
        try:
            yield
        except DamagedShardError as error:
            if self.on_damage == "refuse":
                raise
            warnings.warn(f"skipped a damaged episode: {error.damage}", stacklevel=3)

    def _readable_window(
        self, index: int, start: int, length: int, frames: np.ndarray
    ) -> dict[str, Any]:
        try:
            return self.window(index, start, length, frames)
        except DamagedShardError as error:
            if self.on_damage == "refuse":
                raise
            warnings.warn(
                f"replaced a damaged window with another one: {error.damage}", stacklevel=2
            )
        rng = np.random.default_rng([index, start])
        candidates = np.flatnonzero(self.num_frames >= length)
        for _ in range(MAX_SUBSTITUTES):
            other = int(rng.choice(candidates))
            start = int(rng.integers(self.num_frames[other] - length + 1))
            try:
                return self.window(other, start, length, frames)
            except DamagedShardError:
                continue
        raise DamagedShardError(
            self.path,
            f"{MAX_SUBSTITUTES + 1} randomly chosen sequences of frames were tried, and none can "
            "be read",
        )

    def _place(self, index: int, start: int, length: int) -> tuple[ShardReader, int]:
        """Return an episode's shard, and the row in this shard that holds the frame `start`."""
        entry = self.entries[index]
        if length < 1 or start < 0 or start + length > entry.num_frames:
            raise IndexError(
                f"frames [{start}, {start + length}) are not inside episode {index}, which has "
                f"{entry.num_frames} frames"
            )
        return self._shards.get(self._records[index].path), entry.first_row + start

    def _intact(self, manifest: Manifest) -> list[ShardRecord]:
        damage = [DamagedShardError(path, reason) for path, reason in manifest.damaged]
        sizes = {file.name: file.stat().st_size for file in (self.path / "shards").glob("*")}
        intact = []
        for record in manifest.records:
            size = sizes.get(record.path.name)
            if size == record.num_bytes:
                intact.append(record)
            else:
                state = "is missing" if size is None else f"has {size:,} bytes"
                reason = f"{state}, but the manifest says {record.num_bytes:,} bytes"
                damage.append(DamagedShardError(record.path, reason))
        for error in damage:
            if self.on_damage == "refuse":
                raise error
            warnings.warn(f"skipped: {error.damage}", stacklevel=3)
        return intact

    def _subset(self, keep: Sequence[bool]) -> EpisodeDataset:
        subset = copy.copy(self)
        for name in ("num_frames", "fingerprint", "frame_shape", "env_numbers"):
            subset.__dict__.pop(name, None)
        subset.entries = [e for e, kept in zip(self.entries, keep, strict=True) if kept]
        subset._records = [r for r, kept in zip(self._records, keep, strict=True) if kept]
        return subset

    def _common(self, what: str, values: Sequence[Any]) -> Any:
        distinct = sorted(set(values))
        if len(distinct) != 1:
            raise ValueError(
                f"the {len(self)} episodes in {self.path} do not share one {what}: {distinct}; "
                "filter them with select()"
            )
        return distinct[0]


def _unique(records: Sequence[ShardRecord]) -> list[tuple[Entry, ShardRecord]]:
    """Return each episode once, in canonical order."""
    found: dict[tuple, tuple[Entry, ShardRecord]] = {}
    for record in records:
        for entry in record.entries:
            found.setdefault(entry.identity, (entry, record))
    return [found[place] for place in sorted(found)]
