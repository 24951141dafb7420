"""The web framework and server that the `play` extra installs."""

from __future__ import annotations

from typing import Any

from world_models.extras import require

__all__ = ["applications", "responses", "routing", "staticfiles", "uvicorn", "websockets"]

_WHAT = "serving a page needs a web server"

applications: Any = require("starlette.applications", extra="play", what=_WHAT)
responses: Any = require("starlette.responses", extra="play", what=_WHAT)
routing: Any = require("starlette.routing", extra="play", what=_WHAT)
staticfiles: Any = require("starlette.staticfiles", extra="play", what=_WHAT)
websockets: Any = require("starlette.websockets", extra="play", what=_WHAT)
uvicorn: Any = require("uvicorn", extra="play", what=_WHAT)
require("websockets", extra="play", what=_WHAT)  # uvicorn needs it for WebSockets
