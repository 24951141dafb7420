"""Writes frames as images and animations for viewing, not for storage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from genie_gym.pictures import contact_sheet, side_by_side, write_png
from world_models.episodes import EpisodeDataset

FORMATS = ("gif", "mp4", "png")
ROWS, COLUMNS = 8, 12  # episodes, and frames of each, on a sheet


def save_frames(frames: np.ndarray, path: Path, *, fps: int = 15, scale: int = 4) -> None:
    """Write frames as an animated GIF, an MP4 or a PNG strip, depending on the suffix.

    Args:
        frames: uint8 (T, H, W, 3).
        path: File with the suffix .gif, .mp4 or .png.
        fps: Frames per second of a GIF or MP4.
        scale: Factor by which each frame is enlarged.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ValueError(
            f"the file name must end in one of {[f'.{name}' for name in FORMATS]}, got {path}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = enlarge(frames, scale)
    if suffix == "gif":
        _save_gif(frames, path, fps)
    elif suffix == "mp4":
        _save_mp4(frames, path, fps)
    else:
        write_png(path, side_by_side(list(frames)))


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Repeat each pixel of the frames (T, H, W, 3) `scale` times in both directions."""
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def write_sheet(dataset: EpisodeDataset, path: Path) -> None:
    """Write a PNG that shows some episodes, evenly spaced over the dataset.

    Each row shows some frames of one episode, from the first to the last.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, ROWS).round().astype(int))
    rows, labels = [], []
    for index in chosen.tolist():
        with dataset.skipping():
            rows.append(_row(dataset, index))
            labels.append(_label(dataset, index))
    if not rows:
        raise ValueError(f"none of the episodes to show can be read: {dataset.path}")
    write_png(path, contact_sheet(rows, labels, columns=1))


def _row(dataset: EpisodeDataset, index: int) -> np.ndarray:
    times = np.linspace(0, dataset.entries[index].num_frames - 1, COLUMNS).round().astype(int)
    frames = np.concatenate([dataset.frames(index, t, t + 1) for t in times])
    return side_by_side(list(enlarge(frames, 2)))


def _label(dataset: EpisodeDataset, index: int) -> str:
    entry = dataset.entries[index]
    ends = "terminated" if entry.terminated else "truncated" if entry.truncated else "cut"
    info = entry.info
    return (
        f"{index}: {info.env_id}, {info.policy}, seed {info.seed}, index {info.index}, "
        f"{entry.num_frames} frames, reward {entry.total_reward:g}, {ends}"
    )


def _save_gif(frames: np.ndarray, path: Path, fps: int) -> None:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    milliseconds = max(20, round(1000 / fps))
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0)


def _save_mp4(frames: np.ndarray, path: Path, fps: int) -> None:
    _, height, width, _ = frames.shape
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"mp4v"), float(fps), (width, height)
    )
    if not writer.isOpened():
        raise RuntimeError(
            f"this build of OpenCV cannot write {path}: write a .gif instead, or run: "
            "pip install opencv-python-headless"
        )
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
