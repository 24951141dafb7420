"""Drives a headless Chromium with real key presses and clicks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from world_models.extras import require

__all__ = ["FLAGS", "browser", "complaints", "driven", "prefer", "requests", "resize", "until"]

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
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str:
    """Return the path of this machine's browser."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    raise FileNotFoundError(f"none of {NAMES} is installed; run: apt-get install chromium")


@contextmanager
def driven(width: int = 1280, height: int = 800, *flags: str) -> Iterator[Any]:
    """Yield a browser with this page size that logs its pages' requests and console messages."""
    selenium = require("selenium.webdriver", extra="dev", what="driving a browser needs Selenium")
    service = require("selenium.webdriver.chrome.service", extra="dev", what="it needs Selenium")
    options = selenium.ChromeOptions()
    options.binary_location = browser()
    # Pages measure real time, so background tabs must not be throttled.
    steady = ("--disable-background-timer-throttling", "--disable-renderer-backgrounding")
    for flag in (*FLAGS, *steady, *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=service.Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(30)
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, width: int, height: int, *, phone: bool = False) -> None:
    """Set the page's size in CSS pixels; `phone` emulates a mobile device."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(driver: Any, scheme: str) -> None:
    """Set the preferred colour scheme, "light" or "dark"."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def requests(driver: Any) -> list[str]:
    """Return the URLs that pages requested since the last call, including WebSockets."""
    urls = []
    for line in driver.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            urls.append(message["params"]["url"])
    return urls


def complaints(driver: Any) -> list[str]:
    """Return the console's warnings and errors since the last call."""
    return [x["message"] for x in driver.get_log("browser") if x["level"] in ("WARNING", "SEVERE")]


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"timed out after {seconds} s waiting for {condition}")
        time.sleep(0.02)
    return value
