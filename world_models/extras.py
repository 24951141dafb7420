"""Packages that only some features need: what to type where one is missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["MissingDependencyError", "require"]


class MissingDependencyError(ImportError):
    """A part of genie-gym needs a package that is not installed, or has no build here."""


def require(module: str, *, extra: str, what: str) -> Any:
    """Imports what an extra of genie-gym brings.

    Args:
        module: What to import.
        extra: The extra whose installation brings it.
        what: What cannot go on without it, as the error begins: "training needs Lightning".

    Returns:
        The module.

    Raises:
        MissingDependencyError: If it cannot be imported; the message ends in what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise MissingDependencyError(
            f"{what} ({missing}). Type: pip install 'genie-gym[{extra}]'"
        ) from missing
