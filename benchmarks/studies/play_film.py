"""Record the `genie-gym play` page for the README: a dream beside the real game, and a rewind.

Run: python -m benchmarks.studies.play_film [--world W] [--seed N] [--out docs/images/play.gif]
"""

from __future__ import annotations

import io
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.browser import driven, until
from benchmarks.report import prog
from genie_gym.play.engine import Engine
from genie_gym.play.library import Library
from genie_gym.play.server import Address, PlayApp, running

SIZE = (1280, 800)
SHOWN = (880, 550)  # size of the film
MILLISECONDS = 110  # duration of each frame in the film
COLOURS = 96
RIGHT, LEFT, JUMP_RIGHT = 1, 2, 4
RUN = [RIGHT] * 7 + [JUMP_RIGHT] * 6 + [RIGHT] * 7  # what the player does
AGAIN = [LEFT] * 12  # what the player does after rewinding


class Film:
    """Steps the page and collects screenshots."""

    def __init__(self, driver: Any):
        self.driver = driver
        self.pictures: list[Image.Image] = []

    def ask(self, wish: str, value: object = None) -> None:
        self.driver.execute_script("play.link.send(arguments[0], arguments[1])", wish, value)

    def click(self, name: str) -> None:
        self.driver.execute_script("document.getElementById(arguments[0]).click()", name)

    def hide(self, name: str) -> None:
        self.driver.execute_script("document.getElementById(arguments[0]).hidden = true", name)

    def frame(self, entry: str) -> Any:
        return self.driver.execute_script(f"return play.frame && play.frame.{entry}")

    def shoot(self, times: int = 1) -> None:
        picture = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        picture = picture.resize(SHOWN, Image.Resampling.LANCZOS)
        self.pictures += [picture] * times

    def play(self, actions: list[int]) -> None:
        for action in actions:
            before = self.frame("now")
            self.ask("act", action)
            self.ask("step")
            until(lambda before=before: self.frame("now") == before + 1)  # type: ignore[misc]
            self.shoot()

    def rewind(self, steps: int) -> None:
        for back in range(2, steps + 1, 2):
            self.ask("rewind", back)
            until(lambda back=back: self.frame("end - play.frame.now") == back)  # type: ignore[misc]
            self.shoot()

    def save(self, path: Path) -> None:
        palette = self.pictures[len(self.pictures) // 2].quantize(COLOURS)
        frames = [
            picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in self.pictures
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)


def film(world: str, seed: int, out: Path) -> None:
    """Play, rewind, continue with other actions, and write the screenshots as a GIF."""
    with tempfile.TemporaryDirectory() as recordings:
        engine = Engine(Library(world), Path(recordings), seed)
        app = PlayApp(engine, max_sessions=1, idle_seconds=600).app
        try:
            with running(app, Address()) as url, driven(*SIZE) as driver:
                driver.get(url)
                shot = Film(driver)
                until(lambda: shot.frame("end"), 120)
                # The film steps the page, so its frames per second are meaningless.
                shot.hide("status")
                shot.ask("pause", True)
                shot.ask("real", True)
                until(lambda: shot.frame("real"), 120)
                shot.ask("reset", seed)
                until(lambda: shot.frame("end === 0"), 120)
                shot.shoot(4)
                shot.play(RUN[:10])
                shot.click("unsure")
                shot.play(RUN[10:])
                shot.rewind(12)
                shot.ask("branch")
                shot.ask("pause", True)
                until(lambda: shot.frame("dreams.length") == 2)
                shot.click("unsure")
                shot.play(AGAIN)
                shot.shoot(8)
                shot.save(out)
        finally:
            engine.close()
    print(f"wrote {out}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = ArgumentParser(prog=prog("studies.play_film"), description=__doc__)
    parser.add_argument("--world", default="CoinRun", help="name or path of the world")
    parser.add_argument("--seed", type=int, default=5, help="seed of the real game and the dream")
    parser.add_argument("--out", type=Path, default=Path("docs/images/play.gif"))
    given = parser.parse_args(argv)
    film(given.world, given.seed, given.out)
    return 0


if __name__ == "__main__":
    main()
