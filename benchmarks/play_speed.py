"""Measure a dream in the browser: frames per second, and latency from key press to frame.

A headless Chromium plays on the `genie-gym play` page at the highest speed, with real key presses.

Run: python -m benchmarks.play_speed [--world W] [--quick] [--json FILE]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.browser import driven, until
from benchmarks.report import Measured, run_benchmark
from world_models.extras import require

FASTEST = 60  # frames per second that the page asks for
PRESS_SECONDS = (0.15, 0.35)  # range of how long a key is held, and of the pause after it


def measure(given: Namespace) -> Measured:
    seconds, presses = (8, 20) if given.quick else (30, 100)
    with _served(given.world) as url, driven() as driver:
        driver.get(url)
        frame = "return window.play && play.frame"
        until(lambda: driver.execute_script(frame), 120)
        _choose_speed(driver, FASTEST)
        _settle(driver)
        rates = [_rate(driver, seconds / 5) for _ in range(5)]
        delays = _delays(driver, presses)
    figures = {
        "play_fps": statistics.median(rates),
        "key_to_picture_ms": statistics.median(delays),
        "key_to_picture_90_ms": float(np.percentile(delays, 90)),
    }
    rows = [
        {"what": "frames per second", "median": figures["play_fps"], "worst": min(rates)},
        {
            "what": "ms from key to picture",
            "median": figures["key_to_picture_ms"],
            "worst": max(delays),
        },
    ]
    return figures, rows


@contextmanager
def _served(world: str) -> Iterator[str]:
    """Serve the page in another process; yield the page's URL."""
    with tempfile.TemporaryDirectory() as recordings:
        options = ["--port", "0", "--record-to", recordings]
        command = [sys.executable, "-m", "genie_gym.cli", "play", world, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                line = server.stdout.readline()
                if not line.startswith("open http"):
                    raise RuntimeError(f"the server did not start: {line}")
                yield line.split()[1]
            finally:
                server.terminate()


def _choose_speed(driver: Any, fps: int) -> None:
    driver.execute_script(
        "const speed = document.getElementById('speed'); speed.value = arguments[0];"
        "speed.dispatchEvent(new Event('change'))",
        fps,
    )
    until(lambda: driver.execute_script("return play.frame.fps") == fps)


def _settle(driver: Any) -> None:
    """Play past the first frames, which are slower."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        _keep_on(driver)
        time.sleep(0.1)


def _keep_on(driver: Any) -> None:
    """Continue the dream if it has ended."""
    driver.execute_script("if (play.frame.paused) play.link.send('pause', false)")


def _rate(driver: Any, seconds: float) -> float:
    """Return the number of frames drawn per second."""
    script = "return [performance.now(), play.meter.total]"
    begin, first = driver.execute_script(script)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _keep_on(driver)
        time.sleep(0.05)
    now, last = driver.execute_script(script)
    return 1000 * (last - first) / (now - begin)


def _delays(driver: Any, presses: int) -> list[float]:
    """Press a key at random moments; return the milliseconds from each press to its frame."""
    selenium = require("selenium.webdriver", extra="dev", what="pressing keys needs Selenium")
    rng = np.random.default_rng(0)
    driver.execute_script("play.meter.delays.length = 0")
    for _ in range(presses):
        _keep_on(driver)
        selenium.ActionChains(driver).key_down(selenium.Keys.ARROW_RIGHT).perform()
        time.sleep(rng.uniform(*PRESS_SECONDS))
        selenium.ActionChains(driver).key_up(selenium.Keys.ARROW_RIGHT).perform()
        time.sleep(rng.uniform(*PRESS_SECONDS))
    delays = driver.execute_script("return play.meter.delays")
    if len(delays) < presses * 0.8:
        raise RuntimeError(f"a frame was shown for only {len(delays)} of {presses} key presses")
    return delays


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--world", default="CoinRun", help="name or path of the world")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("play_speed", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()
