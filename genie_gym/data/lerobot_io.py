"""Exports datasets in the LeRobotDataset v3.0 format (requires the `lerobot` extra).

Frames become lossless H.264 videos in RGB; ffmpeg and tools built on it decode them to the same
bytes. Each table row contains a frame, the action taken at this frame, and the resulting reward and
done flags. The last frame of an episode has no action, so it is omitted.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.data.feature_statistics import Statistics, pooled_statistics, statistics_of
from world_models.episodes import Episode, EpisodeDataset
from world_models.extras import require
from world_models.files import atomic_directory, write_json

__all__ = ["export_lerobot"]

VERSION = "v3.0"
IMAGE = "observation.image"
FILE_FRAMES = 50_000  # a new file begins after this many frames; about 150 MB of video
FILES_PER_CHUNK = 1000
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
STATISTICS_FRAMES = 100  # about this many frames per episode enter the pixel statistics

_SCALARS = {
    "action": "int64",
    "next.reward": "float32",
    "next.done": "bool",
    "next.truncated": "bool",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def export_lerobot(dataset: EpisodeDataset, out: Path, *, fps: int = 15) -> Path:
    """Write the episodes as a new LeRobot dataset.

    Args:
        dataset: Episodes with the same frame shape and action set.
        out: Directory of the new dataset.
        fps: Frames per second of the videos and timestamps.

    Returns:
        `out`.
    """
    if fps < 1:
        raise ValueError(f"fps must be at least 1, got {fps}")
    _arrow()
    with atomic_directory(out) as root:
        writer = _Writer(root, dataset, fps)
        for number, group in enumerate(_groups(dataset)):
            writer.write_files(number, group)
        writer.write_meta()
    return out


class _Writer:
    """Writes the files of a LeRobot dataset, and records in which files each episode is."""

    def __init__(self, root: Path, dataset: EpisodeDataset, fps: int):
        self.root, self.dataset, self.fps = root, dataset, fps
        self.tasks = list(dict.fromkeys(f"Play {e.info.env_id}" for e in dataset.entries))
        self.episodes: list[dict[str, Any]] = []
        self.statistics: list[dict[str, Statistics]] = []
        self.num_rows = 0

    def write_files(self, number: int, group: list[int]) -> None:
        """Write the table and the video for a group of episodes."""
        chunk, file = divmod(number, FILES_PER_CHUNK)
        place = {"chunk_index": chunk, "file_index": file}
        tables, begin = [], self.num_rows
        path = self.root / VIDEO.format(video_key=IMAGE, **place)
        with _video(path, self.dataset.frame_shape, self.fps) as pipe:
            for index in group:
                episode = self.dataset.episode(index)
                pipe.write(np.ascontiguousarray(episode.frames[:-1]).tobytes())
                tables.append(self._rows(episode, index))
                self.statistics.append(_statistics(episode, tables[-1]))
                self.episodes.append(self._note(episode, index, place, begin))
                self.num_rows += len(episode)
        columns = {name: np.concatenate([table[name] for table in tables]) for name in _SCALARS}
        _write_table(self.root / DATA.format(**place), columns)

    def write_meta(self) -> None:
        """Write the metadata files."""
        columns = {name: [note[name] for note in self.episodes] for name in self.episodes[0]}
        for feature, values in self.statistics[0].items():
            for name in values:
                own = [statistics[feature][name].tolist() for statistics in self.statistics]
                columns[f"stats/{feature}/{name}"] = own
        _write_table(self.root / EPISODES, columns)
        _write_tasks(self.root / "meta/tasks.parquet", self.tasks)
        pooled = pooled_statistics(self.statistics)
        lists = {name: {k: x.tolist() for k, x in own.items()} for name, own in pooled.items()}
        write_json(self.root / "meta/stats.json", lists)
        write_json(self.root / "meta/info.json", self._info())

    def _rows(self, episode: Episode, index: int) -> dict[str, NDArray[Any]]:
        """Returns an episode's table, as a dict of columns."""
        steps = np.arange(len(episode))
        last = steps == len(episode) - 1
        columns: dict[str, Any] = {
            "action": episode.actions,
            "next.reward": episode.rewards,
            "next.done": last & (episode.terminated or episode.truncated),
            "next.truncated": last & episode.truncated,
            "timestamp": steps / self.fps,
            "frame_index": steps,
            "episode_index": np.full(len(episode), index),
            "index": self.num_rows + steps,
            "task_index": np.full(len(episode), self.tasks.index(_task(episode))),
        }
        return {name: np.asarray(columns[name], dtype) for name, dtype in _SCALARS.items()}

    def _note(
        self, episode: Episode, index: int, place: dict[str, int], begin: int
    ) -> dict[str, Any]:
        """Returns an episode's metadata; `begin` is the index of its first row in the table."""
        first, length = self.num_rows, len(episode)
        return {
            "episode_index": index,
            "tasks": [_task(episode)],
            "length": length,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
            **{f"data/{key}": value for key, value in place.items()},
            **{f"videos/{IMAGE}/{key}": value for key, value in place.items()},
            f"videos/{IMAGE}/from_timestamp": (first - begin) / self.fps,
            f"videos/{IMAGE}/to_timestamp": (first - begin + length) / self.fps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "genie_gym/info": json.dumps(episode.info.to_json()),
        }

    def _info(self) -> dict[str, Any]:
        height, width, channels = self.dataset.frame_shape
        video = {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "gbrp",
            "video.is_depth_map": False,
            "video.fps": self.fps,
            "video.channels": channels,
            "has_audio": False,
        }
        image = {"dtype": "video", "shape": [height, width, channels], "info": video}
        features: dict[str, Any] = {IMAGE: {**image, "names": ["height", "width", "channels"]}}
        for name, dtype in _SCALARS.items():
            features[name] = {"dtype": dtype, "shape": [1], "names": None}
        return {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": len(self.episodes),
            "total_frames": self.num_rows,
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.episodes)}"},
            "data_path": DATA,
            "video_path": VIDEO,
            "features": features,
            "action_meanings": list(self.dataset.action_meanings),
        }


def _arrow() -> Any:
    return require("pyarrow.parquet", extra="lerobot", what="LeRobot datasets need pyarrow")


def _task(episode: Episode) -> str:
    return f"Play {episode.info.env_id}"


def _groups(dataset: EpisodeDataset) -> Iterator[list[int]]:
    """Yields groups of about FILE_FRAMES frames; each group gets one table and one video."""
    group: list[int] = []
    frames = 0
    for index in range(len(dataset)):
        group.append(index)
        frames += int(dataset.num_frames[index]) - 1
        if frames >= FILE_FRAMES:
            yield group
            group, frames = [], 0
    if group:
        yield group


@contextmanager
def _video(path: Path, shape: tuple[int, ...], fps: int) -> Iterator[IO[bytes]]:
    """Yields a pipe that turns the RGB bytes of frames into a video."""
    ffmpeg = require("imageio_ffmpeg", extra="lerobot", what="LeRobot datasets need ffmpeg")
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = shape
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    # Lossless; every second frame is a keyframe, as in LeRobot's own videos.
    lossless = ["-c:v", "libx264rgb", "-crf", "0", "-preset", "veryfast", "-g", "2", "-bf", "0"]
    process = subprocess.Popen(
        [ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *given, "-i", "-", *lossless, path],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        yield process.stdin
    except BrokenPipeError:  # ffmpeg's own message is raised below
        pass
    finally:
        said = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise RuntimeError(f"ffmpeg could not write {path}: {said}")


def _statistics(episode: Episode, rows: dict[str, NDArray[Any]]) -> dict[str, Statistics]:
    """Returns an episode's statistics for each table column and for the pixels.

    Column statistics have the shape ``(1,)``. Pixels are scaled to [0, 1], and their statistics
    have the shape ``(3, 1, 1)``.
    """
    stride = max(1, len(episode) // STATISTICS_FRAMES)
    pixels = episode.frames[:-1:stride].astype(np.float64) / 255
    found = {IMAGE: statistics_of(pixels.reshape(-1, 3), len(pixels))}
    found[IMAGE] = {
        name: value if name == "count" else value.reshape(3, 1, 1)
        for name, value in found[IMAGE].items()
    }
    for name, values in rows.items():
        found[name] = statistics_of(values.astype(np.float64)[:, None], len(values))
    return found


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    arrow = require("pyarrow", extra="lerobot", what="LeRobot datasets need pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    _arrow().write_table(arrow.table(columns), path)


def _write_tasks(path: Path, tasks: list[str]) -> None:
    """Write a table that pandas reads as one column, `task_index`, indexed by the task texts."""
    arrow = require("pyarrow", extra="lerobot", what="LeRobot datasets need pyarrow")
    index = "__index_level_0__"
    table = arrow.table({"task_index": range(len(tasks)), index: tasks})
    column = {"field_name": index, "name": None, "pandas_type": "unicode", "numpy_type": "object"}
    note = {"index_columns": [index], "columns": [{**column, "metadata": None}]}
    _arrow().write_table(table.replace_schema_metadata({"pandas": json.dumps(note)}), path)
