"""`genie-gym demo`: the real games, and CoinRun dreamed beside the real one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import fidelity
from genie_gym.demo import play_real_games

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Plays the real games, then dreams one and compares the dream with the real game.

    Attributes:
        out: Folder for the pictures.
        world: What is dreamed: an env id, or the name or path of a world.
        steps: How many steps each real game is played.
        frames: How many frames are dreamed and compared.
        seed: Of the envs and of the random player.
    """

    out: Path = Path("outputs/demo")
    world: str = "GenieRedux/CoinRun-v0"
    steps: int = 60
    frames: int = 20
    seed: int = 0


def main(argv: list[str]) -> int:
    """The command line."""
    config = tyro.cli(DemoConfig, args=argv)
    play_real_games(config.out, config.steps, config.seed)
    print(f"\n{config.world}, dreamed from one real frame with the actions of the real game")
    amounts = {"windows": 8, "event-windows": 8, "steps": config.frames, "long-frames": 0}
    options = [f"--{name}={value}" for name, value in amounts.items()]
    options += ["--episodes=8", "--max-steps=150", f"--pictures={config.out}"]
    return fidelity.main([config.world, *options])
