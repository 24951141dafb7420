"""Records a session as an episode and as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.data.pictures import save_frames
from genie_gym.play.moment import Moment
from world_models.episodes import Episode, EpisodeInfo, EpisodeWriter
from world_models.worlds.card import WorldCard

__all__ = ["MAX_FRAMES", "Recording", "Take"]

MAX_FRAMES = 3000
"""Maximum length of a recording, in frames; it limits the memory use."""

_GAP = 2  # pixels between the dream and the real game


class Take:
    """The recorded steps of the dream or the real game.

    Args:
        first: The moment at which the recording starts.

    Attributes:
        moments: The first moment, then one per action.
        actions: The actions taken since the first moment.
    """

    def __init__(self, first: Moment):
        self.moments = [first]
        self.actions: list[int] = []

    def add(self, action: int, moment: Moment) -> None:
        """Record a step."""
        self.actions.append(action)
        self.moments.append(moment)

    def keep(self, steps: int) -> None:
        """Keep only the first `steps` steps."""
        del self.actions[steps:], self.moments[steps + 1 :]

    def episode(self, info: EpisodeInfo) -> Episode:
        """Return the take as an episode, truncated unless the game itself ended it."""
        terminated = self.moments[-1].ended and not self.moments[-1].truncated
        return Episode(
            frames=self.frames(),
            actions=np.array(self.actions),
            rewards=np.array([moment.reward for moment in self.moments[1:]], np.float32),
            terminated=terminated,
            truncated=not terminated,
            info=info,
        )

    def frames(self) -> NDArray[np.uint8]:
        """Return the frames, ``(T, H, W, 3)``."""
        return np.stack([moment.frame for moment in self.moments])


class Recording:
    """An ongoing recording of the dream, and of the real game if that is on.

    Args:
        card: Card of the world model.
        seed: Seed of the session.
        fps: Frame rate of the video.
        dream: The dream's latest frame and step result, with which the recording begins.
        real: The same for the real game; None if the real game is off.
    """

    def __init__(self, *, card: WorldCard, seed: int, fps: int, dream: Moment, real: Moment | None):
        self.card, self.seed, self.fps = card, seed, fps
        self.dream = Take(dream)
        self.real = None if real is None else Take(real)
        self.drivers: set[str] = set()

    def __len__(self) -> int:
        """Return the number of recorded steps."""
        return len(self.dream.actions)

    def undo(self, steps: int) -> None:
        """Drop the last `steps` recorded steps, because the session was rewound."""
        kept = len(self) - steps
        self.dream.keep(kept)
        if self.real is not None:
            self.real.keep(kept)

    def store(self, folder: Path) -> Path:
        """Add the recording to the datasets in a folder; return the path of the dream's dataset."""
        where = folder / self.card.name
        self._write(where, self.dream, f"GenieRedux/{self.card.name}-v0", {})
        if self.real is not None and self.real.actions:
            beside = folder / f"{self.card.name}-real"
            self._write(beside, self.real, self.card.env_id, self.card.env_kwargs)
        return where

    def film(self, path: Path) -> None:
        """Write a GIF or MP4 file, depending on the suffix; the real game is on the right."""
        frames = self.dream.frames()
        if self.real is not None:
            real = self.real.frames()
            # After the real game has ended, its last frame is repeated.
            real = real[np.minimum(np.arange(len(frames)), len(real) - 1)]
            gap = np.full((*frames.shape[:2], _GAP, 3), 24, np.uint8)
            frames = np.concatenate((frames, gap, real), axis=2)
        save_frames(frames, path, fps=self.fps)

    def _write(self, where: Path, take: Take, env_id: str, env_kwargs: dict[str, Any]) -> None:
        info = EpisodeInfo(
            env_id=env_id,
            action_set=self.card.action_set,
            action_meanings=self.card.action_meanings,
            seed=self.seed,
            policy="+".join(sorted(self.drivers)),
            extra={"recorded_by": "genie-gym play", "env_kwargs": env_kwargs},
        )
        with EpisodeWriter(where, name="play") as writer:
            writer.add(take.episode(info))
