"""Parses the arguments of all commands, with the same style of options and help."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tyro

__all__ = ["parse", "show_usage"]

_STYLE = (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)


def parse(
    config: Any, argv: Sequence[str] | None, *markers: Any, default: Any = None, **more: Any
) -> Any:
    """Parses the arguments of a command.

    Args:
        config: The dataclass, or union of subcommands, to build from the arguments.
        argv: The arguments; None uses `sys.argv`.
        markers: Additional `tyro.conf` markers.
        default: An instance that provides the default values; None uses the dataclass's own
            defaults. The user can set an option to None only if an instance is given.
        more: Additional arguments for `tyro.cli`, such as `prog`.
    """
    if default is not None:
        more["default"] = default
    else:
        markers = (tyro.conf.DisallowNone, *markers)
    return tyro.cli(config, args=argv, config=(*_STYLE, *markers), **more)


def show_usage(usage: str, argv: Sequence[str]) -> int:
    """Prints how to use a command, and returns its exit status: 0 if the user asked for help."""
    asked = any(argument in ("-h", "--help") for argument in argv)
    print(usage.rstrip("\n"), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2
