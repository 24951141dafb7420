"""Errors that users of several modules can meet; each message says what to type next."""

from __future__ import annotations

from world_models.extras import MissingDependencyError

__all__ = ["MissingDependencyError", "MissingRomError", "WorkerDiedError"]


class MissingRomError(FileNotFoundError):
    """The game is known, but its ROM has not been imported on this machine."""


class WorkerDiedError(RuntimeError):
    """The process that ran an emulator ended, or stopped answering."""
