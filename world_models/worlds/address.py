"""Parses the addresses of world models on other machines, and opens files at such addresses."""

from __future__ import annotations

import http.client
import re
from typing import IO, Any
from urllib import error, request

from world_models.extras import MissingDependencyError, require
from world_models.worlds.card import CARD

__all__ = ["filesystem", "hub_repository", "open_file", "parse_address"]

TIMEOUT = 60.0  # seconds to wait for the next byte

_HUB_PAGE = re.compile(
    r"https://huggingface\.co/(?P<repo>[\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve)/(?P<revision>[^/]+))?"
)
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?")


def parse_address(text: str) -> str:
    """Return the address of the folder that holds a world bundle.

    `text` is this address, a link to the bundle's card, or a link to the bundle's page on the
    Hugging Face Hub.
    """
    text = text.rstrip("/").removesuffix(f"/{CARD}")
    if page := _HUB_PAGE.fullmatch(text):
        revision = page["revision"]
        return f"hf://{page['repo']}" + (f"@{revision}" if revision not in (None, "main") else "")
    hub_repository(text)  # raises ValueError if a part is missing
    return text


def hub_repository(address: str) -> str | None:
    """Return the ``user/name`` of a Hugging Face Hub address; None for any other address."""
    found = _HUB.fullmatch(address)
    if found is None and address.startswith("hf://"):
        raise ValueError(f"expected hf://USER/NAME or hf://USER/NAME@REVISION, got {address!r}")
    return None if found is None else found["repo"]


def open_file(address: str, start: int = 0) -> tuple[IO[bytes], int]:
    """Open a file for reading, beginning at byte `start`.

    Returns:
        The file, and the byte at which it begins: `start`, or 0 if the server cannot skip bytes.

    Raises:
        FileNotFoundError: If the file does not exist.
        OSError: If the file cannot be read for another reason.
    """
    if address.startswith(("https://", "http://")):
        return _open_http(address, start)
    fs, path = filesystem(address)
    file = fs.open(path, "rb")
    if start:
        try:
            file.seek(start)
        except (OSError, ValueError):
            return file, 0
    return file, start


def filesystem(address: str) -> tuple[Any, str]:
    """Return the fsspec file system for an address, and the path within it."""
    if address.startswith("hf://"):
        require("huggingface_hub", extra="share", what="hf:// addresses need huggingface_hub")
    import fsspec  # imported here, because worlds on this machine do not need it

    try:
        return fsspec.url_to_fs(address)
    except ImportError as missing:  # its message names the missing package
        raise MissingDependencyError(f"{address} cannot be opened: {missing}") from missing


def _open_http(address: str, start: int) -> tuple[IO[bytes], int]:
    headers = {"User-Agent": "genie-gym", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        reply = request.urlopen(request.Request(address, headers=headers), timeout=TIMEOUT)
    except error.HTTPError as refusal:
        if refusal.code in (404, 410):
            raise FileNotFoundError(f"{address} does not exist (HTTP {refusal.code})") from None
        if refusal.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return _open_http(address, 0)
        raise OSError(f"{address} cannot be read: HTTP {refusal.code} {refusal.reason}") from None
    except error.URLError as fault:
        raise OSError(f"{address} cannot be reached: {fault.reason}") from None
    return reply, start if reply.status == http.client.PARTIAL_CONTENT else 0
