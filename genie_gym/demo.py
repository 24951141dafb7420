"""Plays every real game that is playable on this machine and makes an image of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from genie_gym.errors import MissingDependencyError
from genie_gym.pictures import contact_sheet, scaled, side_by_side, write_png
from genie_gym.retroact import catalogue

__all__ = ["play", "play_real_games"]

_HEIGHT = 192  # height of the images in pixels: three times the height of a frame


def play_real_games(out: Path, steps: int, seed: int) -> Path:
    """Plays every playable real game with random actions; returns the path of a contact sheet."""
    pictures, labels = [], []
    for env_id in _playable_ids():
        try:
            native, observed, total = play(env_id, steps, seed)
        except MissingDependencyError as missing:
            print(f"  skipped {env_id}: {missing}")
            continue
        pair = [scaled(picture, height=_HEIGHT) for picture in (native, observed)]
        pictures.append(side_by_side(pair))
        labels.append(env_id.split("/")[1].removesuffix("-v0"))
        print(f"  {env_id:<44} {steps} steps, reward {total:g}", flush=True)
    path = out / "contact_sheet.png"
    write_png(path, contact_sheet(pictures, labels, columns=5))
    print(f"{len(pictures)} games: the screen, and the 64x64 frame that an agent sees")
    print(f"wrote {path}")
    return path


def play(env_id: str, steps: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """Takes random actions; returns the last screen, last observation and total reward."""
    env = gym.make(env_id, render_mode="rgb_array")
    env.action_space.seed(seed)
    frame, _ = env.reset(seed=seed)
    total = 0.0
    for _ in range(steps):
        frame, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        total += float(reward)
        if terminated or truncated:
            frame, _ = env.reset()
    screen = env.render()
    env.close()
    return np.asarray(screen), frame, total


def _playable_ids() -> Iterator[str]:
    yield "Procgen/CoinRun-v0"
    for game in catalogue.playable_games():
        yield game.env_id
