"""A web server on this machine that serves files from memory, as well or as badly as it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Site:
    """What the server has and how it behaves; `log` has each GET's path and Range."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.cut_after: int | None = None  # bytes of a body after which the connection breaks
        self.log: list[tuple[str, str | None]] = []
        self.sent = 0
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.site.log.append((self.path, self.headers.get("Range")))
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        data = self.site.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start, end = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and self.site.ranges:
            start = int(asked[1])
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if body:
            self.send(data[start:end])

    def send(self, data: bytes) -> None:
        site = self.site
        cut = len(data) if site.cut_after is None else site.cut_after
        for begin in range(0, min(cut, len(data)), 4096):
            block = data[begin : min(begin + 4096, cut)]
            try:
                self.wfile.write(block)
            except OSError:  # the client has left
                break
            site.sent += len(block)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """A server of this site on a free port, for the time of the block."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
