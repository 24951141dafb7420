"""`genie-gym play WORLD`: serves a web page for playing a dream in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from world_models.command_line import parse

__all__ = ["Play", "main"]


@dataclass(frozen=True, kw_only=True)
class Play:
    """Serves a web page on which you play a world model's dream next to the real game."""

    world: Annotated[str, tyro.conf.Positional] = "CoinRun"
    """Name or path of the world model that the page opens first."""
    policy: tuple[str, ...] = ()
    """Folders of saved policies that can play instead of you."""
    record_to: Path = Path("recordings")
    """Folder with the datasets to which recordings are added."""
    seed: int | None = None
    """Seed for each new session; random by default. In a blind test, the seed determines the clips
    and their order, and the default is 0."""
    host: str = "127.0.0.1"
    """Network interface to listen on. If other machines can reach it, visitors need the token in
    the printed URL."""
    port: int = 8765
    """Port to listen on; 0 chooses a free port."""
    token: str | None = None
    """Token that visitors must send. The default is a random token if other machines can reach the
    host, and no token otherwise."""
    max_sessions: int = 8
    """Maximum number of players at once."""
    idle_minutes: float = 15.0
    """End a session after this many minutes without input."""
    blind_test: tuple[str, str] | None = None
    """Compare two world models by eye instead of playing: the page shows pairs of clips and asks
    which clip is closer to the real game. Use `real` in place of a world model to show the real
    clip itself."""
    pairs: int = 20
    """Blind test: number of pairs of clips to judge."""
    clip_frames: int = 30
    """Blind test: number of frames that each world model generates after 4 real frames."""
    data: Path | None = None
    """Blind test: dataset of real episodes; by default, new ones are played in the real game."""
    result: Path = Path("blind_test.json")
    """Blind test: file to which the answers are written."""
    device: str = "auto"
    """Torch device; auto uses a GPU if there is one."""
    dtype: str = "auto"
    """float32, bfloat16 or float16; auto is the fastest type that the device natively supports."""

    def __post_init__(self) -> None:
        if self.max_sessions < 1:
            raise ValueError(f"max_sessions must be at least 1, got {self.max_sessions}")
        if self.idle_minutes <= 0:
            raise ValueError(f"idle_minutes must be positive, got {self.idle_minutes}")


def main(argv: list[str]) -> int:
    """Runs the command line."""
    config = parse(Play, argv, prog="genie-gym play", description=Play.__doc__)
    address = {"host": config.host, "port": config.port, "token": config.token}
    if config.blind_test is not None:
        _blind_test(config, config.blind_test, address)
    else:
        _play(config, address)
    return 0


def _play(config: Play, address: dict[str, Any]) -> None:
    from genie_gym.play.engine import Engine
    from genie_gym.play.library import Library
    from genie_gym.play.server import Address, PlayApp, run

    library = Library(config.world, config.policy, device=config.device, dtype=config.dtype)
    engine = Engine(library, config.record_to, config.seed)
    try:
        app = PlayApp(
            engine, max_sessions=config.max_sessions, idle_seconds=60 * config.idle_minutes
        )
        run(app.app, Address(**address))
    finally:
        engine.close()


def _blind_test(config: Play, names: tuple[str, str], address: dict[str, Any]) -> None:
    from genie_gym.play.blind_test import BlindTest
    from genie_gym.play.server import Address, run
    from genie_gym.play.trials import ClipOptions, make_trials

    if config.result.exists():
        raise FileExistsError(f"{config.result} has earlier answers: choose another --result")
    seed = config.seed or 0
    options = ClipOptions(num=config.pairs, frames=config.clip_frames, data=config.data, seed=seed)
    print(f"making {config.pairs} pairs of clips", flush=True)
    trials = make_trials(*names, options, device=config.device, dtype=config.dtype)
    short = (Path(names[0]).name, Path(names[1]).name)
    names = short if short[0] != short[1] else names
    test = BlindTest(names, trials, config.result, seed)
    run(test.app, Address(**address))
    summary = test.summary()
    if summary["answers"]:
        low, high = summary["interval_95"]
        print(
            f"{names[0]} was nearer in {summary['share_of_first']:.0%} of {summary['answers']} "
            f"answers (95% interval: {low:.0%} to {high:.0%}); wrote {config.result}"
        )
