"""Optional packages: import one, or say how to install it."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["MissingDependencyError", "require"]


class MissingDependencyError(ImportError):
    """A feature needs a package that is not installed, or that is not available here."""


def require(module: str, *, extra: str, what: str) -> Any:
    """Import an optional module, or raise MissingDependencyError with the pip command.

    `extra` is the extra of genie-gym that installs it, `what` the start of the message, such as
    "training needs Lightning".
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise MissingDependencyError(
            f"{what} ({missing}). Type: pip install 'genie-gym[{extra}]'"
        ) from missing
