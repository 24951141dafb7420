"""A play server in this process, and clients of its sockets."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from websockets.sync.client import connect

from genie_gym.play.engine import Engine
from genie_gym.play.library import Library
from genie_gym.play.server import Address, PlayApp, running


@contextmanager
def engine(
    world: Path | str, recordings: Path, seed: int | None = None, **options
) -> Iterator[Engine]:
    """The engine of a server."""
    running_engine = Engine(Library(str(world), **options), recordings, seed)
    try:
        yield running_engine
    finally:
        running_engine.close()


@contextmanager
def served(
    of: Engine, *, max_sessions: int = 8, idle_seconds: float = 60.0, **address
) -> Iterator[str]:
    """A server of an engine; its address."""
    app = PlayApp(of, max_sessions=max_sessions, idle_seconds=idle_seconds)
    with running(app.app, Address(**address)) as url:
        yield url


class Client:
    """A page without a browser: it confirms each frame that it reads."""

    def __init__(self, url: str, *, origin: str | None = None, **options):
        place = urlsplit(url).netloc
        opening = connect(f"ws://{place}/socket", origin=origin or f"http://{place}", **options)
        self.socket = opening.__enter__()
        self.hello: dict = {}

    def send(self, do: str, value=None, key: int = 0) -> None:
        self.socket.send(json.dumps({"do": do, "value": value, "key": key}))

    def read(self, seconds: float = 20.0) -> dict:
        """The next frame, or the next message."""
        message = self.socket.recv(timeout=seconds)
        if isinstance(message, str):
            told = json.loads(message)
            self.hello = told.get("hello", self.hello)
            return told
        self.send("got", 0)
        (length,) = struct.unpack_from("<I", message)
        frame = json.loads(message[4 : 4 + length])
        size, at = self.hello["size"], 4 + length
        for dream in frame["dreams"]:
            pixels = np.frombuffer(message, np.uint8, size * size * 3, at)
            dream["frame"] = pixels.reshape(size, size, 3)
            at += size * size * 3 + self.hello["grid"] ** 2
        return frame

    def until(self, holds, seconds: float = 20.0) -> dict:
        """Read until a frame or message is as wanted."""
        while True:
            told = self.read(seconds)
            if holds(told):
                return told

    def frame(self, holds=lambda frame: True) -> dict:
        return self.until(lambda told: "dreams" in told and holds(told))

    def go_on(self) -> None:
        """Dream on, also where the dream believes that the episode has ended."""
        self.send("pause", False)

    def close(self) -> None:
        self.socket.close()
