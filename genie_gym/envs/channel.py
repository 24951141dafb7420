"""Messages between an env and its emulator processes, over a pair of sockets."""

from __future__ import annotations

import select
import socket
import struct

__all__ = ["Channel"]

_HEADER = struct.Struct("<cI")  # kind, length of the content
_CHUNK = 1 << 16


class Channel:
    """One end of a connection on which the two sides take turns.

    A message consists of one byte for its kind, its length, and its content.

    Args:
        end: A connected stream socket; the channel closes it.
    """

    def __init__(self, end: socket.socket):
        self._socket = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def send(self, kind: bytes, content: bytes = b"", *, timeout: float | None = None) -> None:
        """Sends a message.

        Raises:
            TimeoutError: If the other side does not read the message within ``timeout`` seconds.
            OSError: If the connection is closed.
        """
        self._socket.settimeout(timeout)
        self._socket.sendall(_HEADER.pack(kind, len(content)) + content)

    def wait(self, seconds: float) -> bool:
        """Returns whether a message or the end of the stream arrives within this time."""
        return bool(self._readable.poll(seconds * 1000))

    def receive(self, *, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Waits for a message; returns its kind and content.

        Raises:
            TimeoutError: If nothing arrives for ``timeout`` seconds.
            EOFError: If the connection is closed.
        """
        self._socket.settimeout(timeout)
        data = self._some()
        while len(data) < _HEADER.size:
            data += self._some()
        kind, length = _HEADER.unpack_from(data)
        parts, missing = [data[_HEADER.size :]], _HEADER.size + length - len(data)
        while missing > 0:
            parts.append(self._some())
            missing -= len(parts[-1])
        return kind, b"".join(parts)

    def close(self) -> None:
        """Closes the connection; the other side sees the end of the stream."""
        self._socket.close()

    def _some(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionError as gone:
            raise EOFError from gone
        if not data:
            raise EOFError
        return data
