"""One style of options and help for every command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tyro

__all__ = ["parse"]

_STYLE = (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)


def parse(
    config: Any, argv: Sequence[str] | None, *markers: Any, default: Any = None, **more: Any
) -> Any:
    """Parses the arguments of a command.

    Args:
        config: The dataclass, or union of subcommands, to make.
        argv: The arguments; None for those of `sys.argv`.
        markers: Further markers of `tyro.conf`.
        default: An instance whose values are the options' defaults; None for the defaults of the
            dataclass. Only with an instance can the user set an option to None.
        more: Further arguments of `tyro.cli`, such as `prog`.
    """
    if default is not None:
        more["default"] = default
    else:
        markers = (tyro.conf.DisallowNone, *markers)
    return tyro.cli(config, args=argv, config=(*_STYLE, *markers), **more)
