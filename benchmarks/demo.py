"""Implements `genie-gym demo`: play the real games, then compare a dream with its real game."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import fidelity
from genie_gym.demo import play_real_games
from world_models.command_line import parse

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Plays the real games, then runs a world model and compares it with its real game.

    Example: genie-gym demo --world GenieRedux/Pong-v0

    Attributes:
        out: Output folder for the images.
        world: World model to run: its env id, name or path.
        steps: Number of steps to play in each real game.
        frames: Number of frames to generate and compare.
        seed: Seed of the envs and of the random policy.
    """

    out: Path = Path("outputs/demo")
    world: str = "GenieRedux/CoinRun-v0"
    steps: int = 60
    frames: int = 20
    seed: int = 0


def main(argv: list[str]) -> int:
    """Run the command line; return the exit status."""
    config = parse(DemoConfig, argv)
    play_real_games(config.out, config.steps, config.seed)
    print(f"\n{config.world}, dreamed from one real frame with the actions of the real game")
    amounts = {"windows": 8, "event-windows": 8, "steps": config.frames, "long-frames": 0}
    options = [f"--{name}={value}" for name, value in amounts.items()]
    options += ["--episodes=8", "--max-steps=150", f"--pictures={config.out}"]
    options += [f"--json={config.out / 'fidelity.json'}"]
    return fidelity.main([config.world, *options])
