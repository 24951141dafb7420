"""Accepts only requests from the server's own page, which must have the token if one is set."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from genie_gym.play.web import responses

__all__ = ["COOKIE", "Guard", "is_loopback", "same_secret"]

COOKIE = "genie_play"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on this host."""
    return host in _LOOPBACK


def same_secret(given: str, secret: str) -> bool:
    """Compare two strings in a time that does not depend on the secret."""
    hashes = [hashlib.sha256(text.encode()).digest() for text in (given, secret)]
    return hmac.compare_digest(*hashes)


class Guard:
    """Refuses requests from foreign pages, and requests without the token if one is set.

    Any page that is open in a browser can make the browser send requests to this server. Therefore,
    requests that open a WebSocket or change something must have this server as their `Origin`. If
    no token is set, the `Host` of every request must be this machine.

    Args:
        app: The ASGI application that receives the accepted requests.
        token: Token that visitors must send; None if only this machine can reach the server.
    """

    def __init__(self, app: Callable, token: str | None):
        self._app, self._token = app, token

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        if not self._may_come(scope, headers):
            await self._refuse(scope, receive, send)
        elif self._token is not None and self._in_query(scope) and scope["type"] == "http":
            # Redirect, so that the token does not stay in the address bar.
            response = responses.RedirectResponse("/", status_code=303)
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _may_come(self, scope: dict[str, Any], headers: dict[str, str]) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        changes = scope["type"] == "websocket" or scope.get("method") not in ("GET", "HEAD")
        if changes and (origin is None or urlsplit(origin).netloc != host):
            return False
        if self._token is None:
            # A foreign page can give this machine another name (DNS rebinding): refuse that name.
            return is_loopback(urlsplit(f"//{host}").hostname or "")
        return self._in_query(scope) or same_secret(_cookie(headers), self._token)

    def _in_query(self, scope: dict[str, Any]) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin1")).get("token", [""])[0]
        return self._token is not None and same_secret(given, self._token)

    @staticmethod
    async def _refuse(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            refusal = responses.PlainTextResponse("not allowed\n", status_code=403)
            await refusal(scope, receive, send)


def _cookie(headers: dict[str, str]) -> str:
    cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    return "" if cookie is None else cookie.value


def _with_headers(send: Callable) -> Callable:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_HEADERS]}
        await send(message)

    return sending
