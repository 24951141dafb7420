"""The binary message that sends the newest frames to a page.

Four bytes with the length of the header, little-endian; the header, JSON; then for each dream its
frame and the uncertainty of its patches, and the frame of the real game if there is one.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from genie_gym.play.moment import Moment

__all__ = ["pack"]


def pack(header: dict[str, Any], dreams: list[Moment], real: Moment | None) -> bytes:
    """Pack a message."""
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [struct.pack("<I", len(text)), text]
    for moment in dreams:
        assert moment.patches is not None
        parts += [moment.frame.tobytes(), moment.patches.tobytes()]
    if real is not None:
        parts.append(real.frame.tobytes())
    return b"".join(parts)
