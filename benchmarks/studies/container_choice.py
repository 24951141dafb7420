"""Compare containers and compression methods for the episode store, on real frames.

Run: python -m benchmarks.studies.container_choice [--quick] [--json FILE]

Each candidate stores the same frames in chunks of 24, padded so that each episode starts a chunk.
Frames are read from the page cache, on one pinned core. The layout "columns" stores each frame
column by column. The script requires `zarr` 3 or later; the rest of the project does not.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numcodecs import zstd

from benchmarks.data_speed import play
from benchmarks.report import Measured, run_benchmark
from benchmarks.timing import per_second, pin_to_one_core
from world_models.episodes import Episode, EpisodeDataset, EpisodeWriter
from world_models.extras import require

zarr = require("zarr", extra="dev", what="container_choice compares with Zarr")
LENGTH = 16
CHUNK = 24
LEVEL = 3
NUM_OPENED = 10_000
SHARD_ROWS = 100 * CHUNK  # zarr needs shards with a fixed number of frames

Read = Callable[[int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to store frames ``(N, A, B, 3)``.

    Attributes:
        name: Name of the container and the compression.
        columns: Whether frames are stored column by column.
        write: Writes all frames to a path.
        open: Opens a path; returns a function that reads 16 consecutive frames.
    """

    name: str
    columns: bool
    write: Callable[[Path, np.ndarray], None]
    open: Callable[[Path], Read]


def hdf5(*, gzip: int) -> tuple[Callable, Callable]:
    """Use plain h5py, which compresses and slices."""

    def write(path: Path, rows: np.ndarray) -> None:
        with h5py.File(path, "w") as file:
            chunks = (CHUNK, *rows.shape[1:])
            options: Any = {"compression": "gzip", "compression_opts": gzip, "fletcher32": True}
            file.create_dataset("frames", data=rows, chunks=chunks, **options)

    def open_(path: Path) -> Read:
        frames = h5py.File(path, "r")["frames"]
        return lambda row: frames[row : row + LENGTH]

    return write, open_


def hdf5_zstd() -> tuple[Callable, Callable]:
    """Use an HDF5 file, and call zstd directly on whole chunks."""

    def write(path: Path, rows: np.ndarray) -> None:
        with h5py.File(path, "w", libver="v110") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((CHUNK, *rows.shape[1:]))
            properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (LEVEL,))
            space = h5py.h5s.create_simple(rows.shape)
            data = h5py.h5d.create(file.id, b"frames", h5py.h5t.NATIVE_UINT8, space, properties)
            for row in range(0, len(rows), CHUNK):
                data.write_direct_chunk((row, 0, 0, 0), _compress(rows[row : row + CHUNK]))

    def open_(path: Path) -> Read:
        frames = h5py.File(path, "r")["frames"]
        shape = frames.chunks
        return lambda row: _from_chunks(
            lambda number: frames.id.read_direct_chunk((number * CHUNK, 0, 0, 0))[1], row, shape
        )

    return write, open_


def plain() -> tuple[Callable, Callable]:
    """Use no container: consecutive zstd chunks and an index file."""

    def write(path: Path, rows: np.ndarray) -> None:
        ends = [0]
        with open(path, "wb") as file:
            for row in range(0, len(rows), CHUNK):
                file.write(_compress(rows[row : row + CHUNK]))
                ends.append(file.tell())
        np.save(path.with_suffix(".npy"), np.array(ends))
        path.with_suffix(".json").write_text(json.dumps([CHUNK, *rows.shape[1:]]))

    def open_(path: Path) -> Read:
        ends = np.load(path.with_suffix(".npy")).tolist()
        shape = tuple(json.loads(path.with_suffix(".json").read_text()))
        file = open(path, "rb", buffering=0)  # noqa: SIM115 (read until the benchmark ends)

        def chunk(number: int) -> bytes:
            file.seek(ends[number])
            return file.read(ends[number + 1] - ends[number])

        return lambda row: _from_chunks(chunk, row, shape)

    return write, open_


def zarr_zstd() -> tuple[Callable, Callable]:
    """Use Zarr v3 with its sharding codec."""

    def write(path: Path, rows: np.ndarray) -> None:
        array = zarr.create_array(
            store=str(path),
            shape=rows.shape,
            dtype="u1",
            chunks=(CHUNK, *rows.shape[1:]),
            shards=(SHARD_ROWS, *rows.shape[1:]),
            compressors=zarr.codecs.ZstdCodec(level=LEVEL, checksum=True),
        )
        array[:] = rows

    def open_(path: Path) -> Read:
        array = zarr.open_array(store=str(path), mode="r")
        return lambda row: np.asarray(array[row : row + LENGTH])

    return write, open_


def candidates() -> list[Candidate]:
    """Return the candidates to compare."""
    kinds = [
        ("hdf5 gzip 4", hdf5(gzip=4)),
        ("hdf5 gzip 9", hdf5(gzip=9)),
        ("zarr zstd 3", zarr_zstd()),
        ("plain zstd 3", plain()),
        ("hdf5 zstd 3", hdf5_zstd()),
    ]
    layouts = [(name, kind, columns) for name, kind in kinds for columns in (False, True)]
    return [
        Candidate(name=name, columns=columns, write=write, open=open_)
        for name, (write, open_), columns in layouts
    ]


def measure(
    candidate: Candidate, episodes: Sequence[Episode], folder: Path, seconds: float
) -> dict[str, float]:
    """Measure bytes and writing time per frame, windows per second, and time to first window."""
    path = folder / f"{candidate.name.replace(' ', '-')}-{candidate.columns}"
    rows, starts = _rows(episodes, candidate.columns)
    num_frames = sum(len(episode) + 1 for episode in episodes)
    begun = time.perf_counter()
    candidate.write(path, rows)
    written = (time.perf_counter() - begun) / num_frames
    read = candidate.open(path)
    rng = np.random.default_rng(0)

    def window() -> np.ndarray:
        frames = read(int(rng.choice(starts)))
        return _turn(frames) if candidate.columns else frames

    first = starts[len(starts) // 2]
    turned = _turn(rows[first : first + LENGTH])
    expected = turned if candidate.columns else rows[first : first + LENGTH]
    got = read(int(first))
    assert np.array_equal(_turn(got) if candidate.columns else got, expected)
    files = [f for f in [path, *path.rglob("*"), path.with_suffix(".npy")] if f.is_file()]
    return {
        "bytes per frame": sum(file.stat().st_size for file in files) / num_frames,
        "write us/frame": written * 1e6,
        "windows/s per core": per_second(window, seconds),
        "open ms": 1e3 / per_second(lambda: candidate.open(path)(0), seconds / 2),
    }


def opening(episode: Episode, folder: Path) -> dict[str, float]:
    """Measure the seconds to read the lengths of 10,000 episodes from each kind of index."""
    lines = folder / "manifest"
    with EpisodeWriter(lines) as writer:
        for index in range(NUM_OPENED // 100):
            writer.add(_short(episode, index))
    line = next(lines.glob("*.jsonl")).read_text()
    for copy in range(99):
        (lines / f"manifest-copy{copy}.jsonl").write_text(line)
    groups = folder / "groups.h5"
    with h5py.File(groups, "w") as file:
        for index in range(NUM_OPENED):
            file.create_group(f"episode_{index}").attrs["total_steps"] = 500
    tree = zarr.open_group(str(folder / "groups.zarr"), mode="w")
    for index in range(NUM_OPENED // 20):
        tree.create_group(f"episode_{index}", attributes={"total_steps": 500})

    def read_hdf5() -> int:
        with h5py.File(groups, "r") as file:
            return sum(int(group.attrs["total_steps"]) for group in file.values())

    def read_zarr() -> int:
        found = zarr.open_group(str(folder / "groups.zarr"), mode="r")
        return sum(int(str(group.attrs["total_steps"])) for _, group in found.groups())

    return {
        "open_10000_manifest_seconds": 1 / per_second(lambda: EpisodeDataset(lines), 2),
        "open_10000_hdf5_groups_seconds": 1 / per_second(read_hdf5, 2),
        "open_10000_zarr_groups_seconds": 20 / per_second(read_zarr, 2),
    }


def _slug(*words: str) -> str:
    """Make the name of a result from table headings."""
    return re.sub("[^a-z0-9]+", "_", " ".join(words).replace("/s per core", " per second"))


def _short(episode: Episode, index: int) -> Episode:
    """Return the episode with only one transition and another index."""
    return replace(
        episode,
        frames=episode.frames[:2],
        actions=episode.actions[:1],
        rewards=episode.rewards[:1],
        info=replace(episode.info, index=index),
    )


def _rows(episodes: Sequence[Episode], columns: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return all frames with episodes on chunk boundaries, and the possible window starts."""
    blocks, starts, row = [], [], 0
    for episode in episodes:
        frames = _turn(episode.frames) if columns else episode.frames
        padding = -len(frames) % CHUNK
        blocks.append(np.pad(frames, ((0, padding), (0, 0), (0, 0), (0, 0))))
        starts.append(np.arange(row, row + len(frames) - LENGTH + 1))
        row += len(frames) + padding
    return np.concatenate(blocks), np.concatenate(starts)


def _turn(frames: np.ndarray) -> np.ndarray:
    """Swap rows and columns, moving whole pixels."""
    pixels = np.ascontiguousarray(frames).view("V3")[..., 0].swapaxes(1, 2)
    return np.ascontiguousarray(pixels)[..., None].view(np.uint8)


def _compress(frames: np.ndarray) -> bytes:
    return zstd.compress(np.ascontiguousarray(frames), LEVEL, True)


def _from_chunks(chunk: Callable[[int], bytes], row: int, shape: tuple[int, ...]) -> np.ndarray:
    first, last = row // CHUNK, (row + LENGTH - 1) // CHUNK
    parts = [
        np.frombuffer(zstd.decompress(chunk(number)), np.uint8).reshape(shape)
        for number in range(first, last + 1)
    ]
    start = row - first * CHUNK
    return np.concatenate(parts)[start : start + LENGTH]


def measure_all(given: Namespace) -> Measured:
    """Measure every candidate on every game."""
    count = 8 if given.quick else 24
    games = {
        "coinrun": play("Procgen/CoinRun-v0", count, num_envs=count),
        "kangaroo": play("RetroAct/Kangaroo-Atari2600-v0", count // 4, num_envs=2),
        "montezuma": play("RetroAct/MontezumaRevenge-Atari2600-v0", count // 4, num_envs=2),
    }
    pin_to_one_core()
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for game, episodes in games.items():
            for candidate in candidates():
                layout = "columns" if candidate.columns else "lines"
                folder = Path(name) / game
                folder.mkdir(exist_ok=True)
                found = measure(candidate, episodes, folder, 0.3 if given.quick else 1.0)
                rows.append({"game": game, "store": candidate.name, "frames": layout} | found)
                for key, value in found.items():
                    figures[_slug(game, candidate.name, layout, key)] = value
        figures |= opening(games["coinrun"][0], Path(name))
    return figures, rows


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("studies.container_choice", measure_all, argv, about=__doc__)


if __name__ == "__main__":
    main()
