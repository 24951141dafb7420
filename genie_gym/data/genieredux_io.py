"""Imports datasets in the layout of the GenieRedux release.

The layout is `ROOT/INSTANCE/SESSION/frames/%06d.jpg` (or `SESSION/frames.mp4`),
`SESSION/actions.json` and `ROOT/info.json`. Record k of `actions.json` is the action between frames
k - 1 and k; the first record has no frame before it. The layout has no rewards or terminations.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genie_gym.envs.frames import fit_square
from world_models.episodes import Episode, EpisodeInfo, EpisodeWriter, existing_infos


@dataclass(frozen=True, kw_only=True)
class GenieReduxSource:
    """A dataset to import, and the names to record for its episodes.

    Attributes:
        root: Directory with `info.json` and the instances.
        env_id: Env id to record; by default `GenieReduxData/<name in info.json>`.
        action_set: Name of the action set to record.
        action_meanings: Names of the actions; by default `action_0`, `action_1`, ...
        frame_size: Pad frames to a square and resize it to this side length; by default frames keep
            their size.
    """

    root: Path
    env_id: str | None = None
    action_set: str = "imported"
    action_meanings: tuple[str, ...] = ()
    frame_size: int | None = None

    def __post_init__(self) -> None:
        if self.frame_size is not None and self.frame_size < 1:
            raise ValueError(f"frame_size must be positive, got {self.frame_size}")


def import_genieredux(source: GenieReduxSource, out: Path) -> int:
    """Add every session to the dataset `out`, except sessions that are already in it.

    Returns:
        Number of episodes added.
    """
    root = source.root
    sessions = sorted(path.parent for path in root.glob("*/*/actions.json"))
    if not sessions:
        raise FileNotFoundError(
            f"expected INSTANCE/SESSION/actions.json under {root}, found none: use the directory "
            "that contains info.json"
        )
    warnings.warn(
        "frames in the GenieRedux layout are compressed with JPEG or MP4: a model trained on them "
        "cannot exceed a PSNR of about 28 to 32 dB against the real game. Collect new data if you "
        "can",
        stacklevel=2,
    )
    info_file = root / "info.json"
    info = json.loads(info_file.read_text()) if info_file.exists() else {}
    env_id = source.env_id or f"GenieReduxData/{info.get('name', root.name)}"
    num_actions = _num_actions(source, info, sessions)
    meanings = source.action_meanings or tuple(f"action_{n}" for n in range(num_actions))
    origin = {"imported_from": str(root.resolve())}
    imported = [info for info in existing_infos(out) if origin.items() <= info.extra.items()]
    known = {info.extra["session"] for info in imported}
    sessions = [one for one in sessions if str(one.relative_to(root)) not in known]
    first = 1 + max((info.index for info in imported if info.index is not None), default=-1)
    with EpisodeWriter(out, name="genieredux") as writer:
        for index, session in enumerate(sessions, start=first):
            actions, times = _transitions(session)
            frames = _read_frames(session, times, source.frame_size)
            writer.add(
                Episode(
                    frames=frames,
                    actions=actions,
                    rewards=np.zeros(len(actions), np.float32),
                    terminated=False,
                    truncated=True,
                    info=EpisodeInfo(
                        env_id=env_id,
                        action_set=source.action_set,
                        action_meanings=meanings,
                        index=index,
                        policy="imported",
                        extra=origin | {"session": str(session.relative_to(root))},
                    ),
                )
            )
    return len(sessions)


def _records(session: Path) -> list[dict[str, Any]]:
    records = json.loads((session / "actions.json").read_text())
    return records["actions"] if isinstance(records, dict) else records


def _transitions(session: Path) -> tuple[np.ndarray, list[int]]:
    """Returns actions (T,) and the numbers of the T + 1 frames before, between and after them."""
    moves = []
    for record in _records(session):
        source = int(record["src_id"] if "src_id" in record else record["src_frame_id"])
        target = int(record["tgt_id"] if "tgt_id" in record else record["tgt_frame_id"])
        if source != -1 and target != -1:
            moves.append((source, target, record["action"]))
    moves.sort(key=lambda move: move[0])
    for (_, target, _), (source, _, _) in zip(moves, moves[1:], strict=False):
        if source != target:
            raise ValueError(
                f"{session / 'actions.json'} has a gap: one step ends at frame {target}, but the "
                f"next starts at frame {source}. Remove the session and import the rest"
            )
    if not moves:
        raise ValueError(
            f"{session / 'actions.json'} has no step between two frames: remove the session and "
            "import the rest"
        )
    actions = np.array([_action_index(action) for _, _, action in moves], dtype=np.int64)
    return actions, [moves[0][0], *(target for _, target, _ in moves)]


def _action_index(action: int | Sequence[int]) -> int:
    """Returns the index of an action that is stored as a number or as a one-hot vector."""
    values = np.ravel(action)
    return int(values.argmax()) if len(values) > 1 else int(values[0])


def _num_actions(source: GenieReduxSource, info: dict, sessions: Sequence[Path]) -> int:
    if source.action_meanings:
        return len(source.action_meanings)
    recorded = info.get("info", {}).get("action_space")
    if recorded:
        return int(np.ravel(recorded)[-1])
    first = _records(sessions[0])[0]["action"]
    if isinstance(first, list) and len(first) > 1:
        return len(first)
    raise ValueError(
        f"{source.root}/info.json has no action_space: pass the action names as action_meanings"
    )


def _read_frames(session: Path, times: Sequence[int], size: int | None) -> np.ndarray:
    video = session / "frames.mp4"
    found = _video_frames(video) if video.exists() else None
    frames = []
    for time in times:
        frame: np.ndarray | None
        if found is None:
            frame = cv2.imread(str(session / "frames" / f"{time:06d}.jpg"), cv2.IMREAD_COLOR)
        else:
            frame = found.get(time)
        if frame is None:
            raise FileNotFoundError(
                f"frame {time} of {session} is missing or unreadable: restore it"
            )
        rgb = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        frames.append(rgb if size is None else fit_square(rgb, size))
    return np.stack(frames)


def _video_frames(path: Path) -> dict[int, np.ndarray]:
    """Returns the frames of a video by frame number."""
    capture = cv2.VideoCapture(str(path))
    frames: dict[int, np.ndarray] = {}
    while True:
        more, frame = capture.read()
        if not more:
            capture.release()
            return frames
        frames[len(frames)] = frame
