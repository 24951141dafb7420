"""`genie-gym play WORLD`: serves the page on which a dream is played."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from world_models.extras import require

__all__ = ["Play", "main"]


@dataclass(frozen=True, kw_only=True)
class Play:
    """Serves a page on which you play a world in the browser, beside its real game."""

    world: Annotated[str, tyro.conf.Positional] = "CoinRun"
    """Name or path of the world that the page begins with."""
    policy: tuple[str, ...] = ()
    """Folders of saved policies that can take the controls."""
    record_to: Path = Path("recordings")
    """Folder of the datasets that recordings are added to."""
    host: str = "127.0.0.1"
    """Network interface to listen on. If others can reach it, they need the token that is shown."""
    port: int = 8765
    """Port to listen on; 0 for any free one."""
    token: str | None = None
    """What visitors must know; by default a random one, where others can reach the host."""
    max_sessions: int = 8
    """Maximum number of players at once."""
    idle_minutes: float = 15.0
    """A session ends when its controls are not touched for so long."""
    device: str = "auto"
    """A torch device; auto uses a GPU if there is one."""
    dtype: str = "auto"
    """float32, bfloat16, float16, or auto for the fastest that the device computes natively."""

    def __post_init__(self) -> None:
        if self.max_sessions < 1:
            raise ValueError(f"max_sessions must be at least 1, got {self.max_sessions}")
        if self.idle_minutes <= 0:
            raise ValueError(f"idle_minutes must be positive, got {self.idle_minutes}")


def main(argv: list[str]) -> int:
    """Runs the command line."""
    config = tyro.cli(Play, args=argv, description=Play.__doc__)
    for module in ("starlette", "uvicorn", "websockets"):
        require(module, extra="play", what="the page needs a web server")
    from genie_gym.play.engine import Engine
    from genie_gym.play.library import Library
    from genie_gym.play.server import Address, PlayApp, run

    library = Library(config.world, config.policy, device=config.device, dtype=config.dtype)
    engine = Engine(library, config.record_to)
    try:
        app = PlayApp(
            engine, max_sessions=config.max_sessions, idle_seconds=60 * config.idle_minutes
        )
        run(app.app, Address(host=config.host, port=config.port, token=config.token))
    finally:
        engine.close()
    return 0
