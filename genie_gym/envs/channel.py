"""Messages between a program and its emulator processes, over a pair of sockets."""

from __future__ import annotations

import select
import socket
import struct

__all__ = ["Channel"]

_HEADER = struct.Struct("<cI")  # kind, length of the content
_CHUNK = 1 << 16


class Channel:
    """One end of a conversation in which each side speaks in turn.

    A message is one byte that says what it is, and some bytes of content.

    Args:
        end: A connected stream socket; the channel owns it.
    """

    def __init__(self, end: socket.socket):
        self._socket = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def send(self, kind: bytes, content: bytes = b"", *, timeout: float | None = None) -> None:
        """Sends a message.

        Raises:
            TimeoutError: If the other side does not take it within ``timeout`` seconds.
            OSError: If the other side is gone.
        """
        self._socket.settimeout(timeout)
        self._socket.sendall(_HEADER.pack(kind, len(content)) + content)

    def wait(self, seconds: float) -> bool:
        """Whether a message, or the end of the stream, comes within some seconds."""
        return bool(self._readable.poll(seconds * 1000))

    def receive(self, *, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Waits for a message; returns its kind and content.

        Raises:
            TimeoutError: If nothing comes for ``timeout`` seconds.
            EOFError: If the other side is gone.
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
        """Ends the conversation: the other side sees the end of the stream."""
        self._socket.close()

    def _some(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionError as gone:
            raise EOFError from gone
        if not data:
            raise EOFError
        return data
