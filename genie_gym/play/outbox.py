"""Sends messages and the newest frames to a web page."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

__all__ = ["Outbox"]

_IN_FLIGHT = 3  # maximum frames sent but not yet drawn, so that a slow page is not flooded
_MESSAGES = 32


class Outbox:
    """Sends messages and frames to one web page. Any thread may call `show` and `tell`.

    `show` and `tell` never block. The page confirms each frame that it has drawn. While the page
    lags behind, a newer frame replaces the waiting frame. Frames are never queued.

    Args:
        loop: The server's event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._ready = asyncio.Event()
        self._frame: bytes | None = None
        self._messages: deque[str] = deque(maxlen=_MESSAGES)
        self._in_flight = 0

    def show(self, packet: bytes) -> None:
        """Send this packet of frames next, in place of any packet that still waits."""
        self._frame = packet
        self._wake()

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self._messages.append(json.dumps(message))
        self._wake()

    def drawn(self) -> None:
        """Note that the page has drawn a frame."""
        self._in_flight = max(0, self._in_flight - 1)
        self._ready.set()

    async def send_to(self, page: Any) -> None:
        """Send messages and frames until the page is closed."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._messages:
                await page.send_text(self._messages.popleft())
            frame = self._frame
            if frame is not None and self._in_flight < _IN_FLIGHT:
                self._frame = None
                self._in_flight += 1
                await page.send_bytes(frame)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the server has stopped
            pass
