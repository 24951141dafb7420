"""Optional packages: import one, or say how to install it."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["MissingDependencyError", "require"]


class MissingDependencyError(ImportError):
    """A feature of genie-gym needs a package that is not installed or cannot be."""


def require(module: str, *, extra: str, what: str) -> Any:
    """Import an optional module.

    Args:
        module: The module.
        extra: The extra of genie-gym that installs it.
        what: Start of the error message, such as "training needs Lightning".

    Returns:
        The module.

    Raises:
        MissingDependencyError: If it cannot be imported; the message ends with the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise MissingDependencyError(
            f"{what} ({missing}). Type: pip install 'genie-gym[{extra}]'"
        ) from missing
