"""The web server for `genie-gym play`."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_gym.play.commands import MAX_MESSAGE, read_command
from genie_gym.play.engine import Engine
from genie_gym.play.guard import Guard, is_loopback
from genie_gym.play.outbox import Outbox
from genie_gym.play.web import (
    applications,
    responses,
    routing,
    staticfiles,
    uvicorn,
    websockets,
)

__all__ = ["PAGE", "Address", "PlayApp", "run", "running"]

PAGE = Path(__file__).parent / "page"

_BUSY, _POLICY = 1013, 1008  # WebSocket close codes
_MESSAGES_PER_SECOND = 240  # a page sends a few per drawn frame
_BURST = 480


@dataclass(frozen=True, kw_only=True)
class Address:
    """The address that a server listens on.

    Attributes:
        host: Host name or IP address of the network interface.
        port: Port; 0 chooses a free port.
        token: Token that visitors must send. The default is a random token if other machines can
            reach the host, and no token otherwise.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None

    def secret(self) -> str | None:
        """Return the token that visitors must send; None if they need no token."""
        if self.token is None and is_loopback(self.host):
            return None
        return self.token or secrets.token_urlsafe(16)


class PlayApp:
    """The pages and WebSockets of the play server.

    Args:
        engine: The engine that owns the sessions.
        max_sessions: Maximum number of sessions at once.
        idle_seconds: Seconds without a command after which a session is ended.
    """

    def __init__(self, engine: Engine, *, max_sessions: int, idle_seconds: float):
        self.engine = engine
        self.max_sessions, self.idle_seconds = max_sessions, idle_seconds
        self._num_sessions = 0
        self.app = applications.Starlette(
            routes=[
                routing.Route("/", self._index),
                routing.WebSocketRoute("/socket", self._socket),
                routing.Route("/films/{name}", self._film),
                routing.Mount("/page", staticfiles.StaticFiles(directory=PAGE)),
            ]
        )

    async def _index(self, request: Any) -> Any:
        return responses.FileResponse(PAGE / "index.html")

    async def _film(self, request: Any) -> Any:
        name = Path(request.path_params["name"]).name
        film = self.engine.films / name
        if not film.is_file():
            return responses.Response("this film was deleted\n", status_code=404)
        return responses.FileResponse(film, filename=f"dream{film.suffix}")

    async def _socket(self, page: Any) -> None:
        await page.accept()
        if self._num_sessions >= self.max_sessions:
            await page.close(_BUSY, "all places are taken")
            return
        self._num_sessions += 1
        name = secrets.token_urlsafe(12)
        outbox = Outbox(asyncio.get_running_loop())
        self.engine.open(name, outbox)
        sender = asyncio.create_task(outbox.send_to(page))
        try:
            code, reason = await self._listen(name, page, outbox)
            if code:
                await page.close(code, reason)
        except (websockets.WebSocketDisconnect, RuntimeError, OSError):
            pass  # the page was closed
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self.engine.end(name)
            self._num_sessions -= 1

    async def _listen(self, name: str, page: Any, outbox: Outbox) -> tuple[int, str]:
        """Take commands until the page is idle or sends a bad message; return why to close it."""
        allowed, last = float(_BURST), time.monotonic()
        heard = last
        while True:
            left = heard + self.idle_seconds - time.monotonic()
            try:
                text = await asyncio.wait_for(page.receive_text(), max(0.0, left))
            except (asyncio.TimeoutError, TimeoutError):
                return _POLICY, "nobody has touched the controls for a long time"
            except KeyError:
                return _POLICY, "a message must be text"
            now = time.monotonic()
            allowed = min(_BURST, allowed + (now - last) * _MESSAGES_PER_SECOND) - 1
            last = now
            if allowed < 0:
                return _POLICY, "too many messages"
            try:
                command = read_command(text)
            except ValueError as fault:
                return _POLICY, str(fault)
            if command.do == "got":
                outbox.drawn()
            else:
                heard = now
                self.engine.obey(name, command)


def _server(app: Any, address: Address) -> tuple[Any, socket.socket, str]:
    """Return a server that is ready to run, its socket, and the URL to visit."""
    six = ":" in address.host
    family = socket.AF_INET6 if six else socket.AF_INET
    listening = socket.create_server((address.host, address.port), family=family)
    secret = address.secret()
    config = uvicorn.Config(
        Guard(app, secret),
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,
        limit_concurrency=256,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    query = "" if secret is None else f"?token={secret}"
    host = f"[{address.host}]" if six else address.host
    url = f"http://{host}:{listening.getsockname()[1]}/{query}"
    return uvicorn.Server(config), listening, url


def run(app: Any, address: Address) -> None:
    """Print the URL to visit, then serve until Ctrl-C is pressed."""
    server, listening, url = _server(app, address)
    print(f"open {url}\npress Ctrl-C to stop the server", flush=True)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


@contextmanager
def running(app: Any, address: Address) -> Iterator[str]:
    """Serve an app from another thread inside the `with` block; yield the URL to open."""
    server, listening, url = _server(app, address)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
