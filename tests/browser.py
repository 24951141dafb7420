"""A real browser without a screen: it shows a page once, or is driven as a person would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
# For a page that is shown once: its console, and its scripts' waits at once.
ONCE = ("--enable-logging=stderr", "--virtual-time-budget=3000")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str:
    """The browser of this machine."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    raise FileNotFoundError(f"none of {NAMES} is installed: apt-get install chromium")


def rendered(page: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's document after its scripts ran, and what the console said."""
    with tempfile.TemporaryDirectory() as profile:
        result = subprocess.run(
            [
                browser(),
                *FLAGS,
                *ONCE,
                *flags,
                f"--user-data-dir={profile}",
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


@contextmanager
def driven(width: int = 1280, height: int = 800, *flags: str) -> Iterator[Chrome]:
    """A browser to drive; its pages are this large, and log what they ask for and complain of."""
    options = ChromeOptions()
    options.binary_location = browser()
    # A page measures time, so the clock is the real one and no tab sleeps.
    steady = ("--disable-background-timer-throttling", "--disable-renderer-backgrounding")
    for flag in (*FLAGS, *steady, *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(30)
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()


def resize(driver: Chrome, width: int, height: int, *, phone: bool = False) -> None:
    """Give the page this size, in CSS pixels; a phone has fingers and denser pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(driver: Chrome, scheme: str) -> None:
    """Make the reader prefer "light" or "dark" pages."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def requests(driver: Chrome) -> list[str]:
    """The addresses that pages have asked for since the last call, WebSockets included."""
    urls = []
    for line in driver.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            urls.append(message["params"]["url"])
    return urls


def complaints(driver: Chrome) -> list[str]:
    """The warnings and errors of the console since the last call."""
    return [x["message"] for x in driver.get_log("browser") if x["level"] in ("WARNING", "SEVERE")]


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {seconds} s: {condition}")
        time.sleep(0.02)
    return value


def visible_text(document: str) -> str:
    """What a document says to a reader."""
    without = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", document, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", without)).split())
