"""Errors that several modules raise; each message says what to do next."""

from __future__ import annotations

from world_models.extras import MissingDependencyError

__all__ = ["MissingDependencyError", "MissingRomError", "WorkerDiedError"]


class MissingRomError(FileNotFoundError):
    """Raised if a game is known but its ROM has not been imported on this machine."""


class WorkerDiedError(RuntimeError):
    """Raised if a worker process, such as an emulator, ends unexpectedly or does not respond."""
