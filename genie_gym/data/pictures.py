"""Writes frames as images and animations for viewing, not for storage."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from world_models.episodes import EpisodeDataset

FORMATS = ("gif", "mp4", "png")


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
        Image.fromarray(_side_by_side(frames)).save(path)


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Repeat each pixel of the frames (T, H, W, 3) `scale` times in both directions."""
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def contact_sheet(
    dataset: EpisodeDataset, path: Path, *, rows: int = 8, columns: int = 12, scale: int = 2
) -> None:
    """Write a PNG that shows `rows` episodes, evenly spaced over the dataset.

    Each row shows `columns` frames of one episode, from the first to the last.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, rows).round().astype(int))
    strips = [_labelled_row(dataset, int(index), columns, scale) for index in chosen]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0))) for s in strips]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded)).save(path)


def _labelled_row(dataset: EpisodeDataset, index: int, columns: int, scale: int) -> np.ndarray:
    entry = dataset.entries[index]
    times = np.linspace(0, entry.num_frames - 1, columns).round().astype(int)
    frames = np.concatenate([dataset.frames(index, t, t + 1) for t in times])
    strip = _side_by_side(enlarge(frames, scale))
    ends = "terminated" if entry.terminated else "truncated" if entry.truncated else "cut"
    info = entry.info
    label = (
        f"{index}: {info.env_id}, {info.policy}, seed {info.seed}, index {info.index}, "
        f"{entry.num_frames} frames, reward {entry.total_reward:g}, {ends}; frames 0 to {times[-1]}"
    )
    return np.concatenate([_text(label, strip.shape[1]), strip])


def _side_by_side(frames: np.ndarray) -> np.ndarray:
    """Join frames (T, H, W, 3) into one image, with two black pixel columns after each frame."""
    return np.concatenate(list(np.pad(frames, ((0, 0), (0, 0), (0, 2), (0, 0)))), axis=1)


def _text(label: str, width: int) -> np.ndarray:
    banner = Image.new("RGB", (width, 16), (32, 32, 32))
    ImageDraw.Draw(banner).text((4, 2), label, fill=(230, 230, 230))
    return np.asarray(banner)


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
