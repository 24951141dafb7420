"""The binary message that sends the newest frames to a web page.

The message consists of these parts:

1. The length of the header, as four little-endian bytes.
2. The header, as JSON.
3. For each dream, the frame and then the uncertainty about each patch.
4. The real game's frame, if there is a real game.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from genie_gym.play.moment import Moment

__all__ = ["pack"]


def pack(header: dict[str, Any], dreams: list[Moment], real: Moment | None) -> bytes:
    """Pack a header and frames into a message."""
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [struct.pack("<I", len(text)), text]
    for moment in dreams:
        assert moment.patches is not None
        parts += [moment.frame.tobytes(), moment.patches.tobytes()]
    if real is not None:
        parts.append(real.frame.tobytes())
    return b"".join(parts)
