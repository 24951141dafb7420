"""Measure how fast exported world models dream in a browser: frames per second in WebAssembly.

Each model is exported with `genie-gym worlds export-web`. A headless Chromium opens its page from a
plain static server and dreams on one thread. The table also shows Python's speed on one thread.

Run: python -m benchmarks.web_speed [--world W ...] [--quick] [--json FILE]
"""

from __future__ import annotations

import http.server
import statistics
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.browser import driven, until
from benchmarks.report import Measured, Row, run_benchmark
from genie_gym.web.export import export_web
from world_models.worlds.bundle import load_world
from world_models.worlds.find import find_world

WORLDS = ("CoinRun", "CrazyClimber", "Freeway", "Hero", "Pong")
SEED, WARM_UP, PARTS = 3, 20, 5


def measure(given: Namespace) -> Measured:
    frames = 8 if given.quick else 40
    rows = []
    with tempfile.TemporaryDirectory() as work, _served(Path(work)) as url, driven() as driver:
        driver.set_script_timeout(300)
        for world in given.world:
            name = Path(world).name
            folder = export_web(world, Path(work) / name)
            row = {"world": name, **_in_the_browser(driver, f"{url}/{name}", frames)}
            row["fps in Python"] = _in_python(world, frames)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            rows.append({**row, "MB": size / 1e6})
    return {f"web_fps_{row['world']}": row["web_fps"] for row in rows}, rows


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve the folder with a plain static server; yield the server's URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _actions(frames: int) -> list[int]:
    return [frame // 4 % 5 for frame in range(frames)]


def _in_the_browser(driver: Any, address: str, frames: int) -> Row:
    driver.get(f"{address}/index.html")
    until(lambda: driver.execute_script("return window.play && play.frame"), 120)

    def dream(num: int) -> dict[str, Any]:
        script = "play.link.measure({seed: arguments[0], actions: arguments[1], temperature: null})"
        return driver.execute_async_script(f"{script}.then(arguments[2])", SEED, _actions(num))

    dream(WARM_UP)  # the browser compiles while it runs
    parts = [dream(frames) for _ in range(PARTS)]
    rates = [1000 * frames / sum(part["times"]) for part in parts]
    passes = statistics.mean(parts[0]["passes"])
    return {"web_fps": statistics.median(rates), "worst": min(rates), "passes": passes}


def _in_python(name: str, frames: int) -> float:
    """Return the frames per second of the same dream in Python, in float32 on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    world = load_world(find_world(name))
    model = world.model.eval()
    at = SEED % len(world.starts.frames)
    begin, between = world.starts.frames[at][None], world.starts.actions[at][None]
    times = []
    for num in (WARM_UP, *[frames] * PARTS):
        state = model.start(begin, between, torch.tensor([SEED]))
        started = time.perf_counter()
        for action in _actions(num):
            state, _ = model.step(state, torch.tensor([action]))
        times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return frames / statistics.median(times[1:])


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--world", nargs="+", default=WORLDS, help="names or paths of worlds")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("web_speed", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()
