"""Imports optional packages, or says how to install them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["MissingDependencyError", "require"]


class MissingDependencyError(ImportError):
    """A feature needs a package that is not installed or not available on this platform."""


def require(module: str, *, extra: str, what: str) -> Any:
    """Import an optional module, or raise MissingDependencyError with the pip command.

    `extra` is the genie-gym extra that installs the module. `what` is the beginning of the error
    message, such as "training needs Lightning".
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise MissingDependencyError(
            f"{what} ({missing}). Run: pip install 'genie-gym[{extra}]'"
        ) from missing
