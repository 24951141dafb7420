"""Errors that several modules raise; each message says what to type next."""

from __future__ import annotations

from world_models.extras import MissingDependencyError

__all__ = ["MissingDependencyError", "MissingRomError", "WorkerDiedError"]


class MissingRomError(FileNotFoundError):
    """The game is known, but its ROM has not been imported on this machine."""


class WorkerDiedError(RuntimeError):
    """A worker process, such as an emulator, ended unexpectedly or stopped responding."""
