"""Errors that users of several modules can meet; each message says what to type next."""

from __future__ import annotations

__all__ = ["MissingDependencyError", "MissingRomError", "WorkerDiedError"]


class MissingDependencyError(ImportError):
    """A part of genie-gym needs a package that is not installed, or has no build here."""


class MissingRomError(FileNotFoundError):
    """The game is known, but its ROM has not been imported on this machine."""


class WorkerDiedError(RuntimeError):
    """The process that ran an emulator ended, or stopped answering."""
