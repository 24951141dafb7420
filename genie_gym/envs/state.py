"""The saved state of one row (sub-env): the simulator's state, a header and a checksum."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

__all__ = ["RowState"]

_MAGIC = b"GGSTATE1"
_PREFIX = struct.Struct("<8sIII")  # magic, crc32 of the rest, header length, frame length


@dataclass(frozen=True, kw_only=True)
class RowState:
    """The full state of one row (sub-env).

    Attributes:
        kind: Kind of env; a state can only be loaded into an env of the same kind.
        elapsed: Steps since the start of the episode.
        ended: Whether the episode has ended and the row waits for a reset.
        rng: State of the row's random generator (``bit_generator.state``).
        frame: The frame of this state, as raw bytes.
        simulator: State saved by the emulator, procgen or the world model.
    """

    kind: str
    elapsed: int
    ended: bool
    rng: dict[str, Any]
    frame: bytes
    simulator: bytes

    def to_bytes(self) -> bytes:
        """Packs the state and a checksum into bytes."""
        header = json.dumps(
            {"kind": self.kind, "elapsed": self.elapsed, "ended": self.ended, "rng": self.rng}
        ).encode()
        body = header + self.frame + self.simulator
        return _PREFIX.pack(_MAGIC, zlib.crc32(body), len(header), len(self.frame)) + body

    @classmethod
    def from_bytes(cls, data: bytes, *, kind: str) -> RowState:
        """Unpacks the result of `to_bytes`.

        Raises:
            ValueError: If the bytes are damaged or belong to another kind of env.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ValueError(f"expected a saved state as bytes, got {type(data).__name__}")
        data = bytes(data)
        if len(data) < _PREFIX.size or not data.startswith(_MAGIC):
            raise ValueError(
                f"expected the result of save_state(), got {len(data)} bytes in another format"
            )
        _, checksum, header_size, frame_size = _PREFIX.unpack_from(data)
        body = data[_PREFIX.size :]
        if zlib.crc32(body) != checksum:
            raise ValueError(
                f"this saved state is damaged ({len(data)} bytes, wrong checksum): save it again"
            )
        header = json.loads(body[:header_size])
        if header["kind"] != kind:
            raise ValueError(
                f"this state was saved by {header['kind']!r}, but the env is {kind!r}: load it "
                "into an env made with the same arguments"
            )
        frame_end = header_size + frame_size
        return cls(frame=body[header_size:frame_end], simulator=body[frame_end:], **header)
