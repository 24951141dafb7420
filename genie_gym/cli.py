"""The command `genie-gym`: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches

__all__ = ["main"]

# Name -> ("module:function" taking the remaining arguments, one line of help). Layers above this
# one are reached by these strings alone.
COMMANDS: dict[str, tuple[str, str]] = {
    "roms": (
        "genie_gym.retroact.commands:roms_main",
        "which games can be played here; import ROMs by checksum",
    ),
    "games": (
        "genie_gym.retroact.games_commands:games_main",
        "the games by what they look like and how they play; what their buttons do",
    ),
    "collect": (
        "genie_gym.collect.command:main",
        "collect episodes of any env with any policy; stopped or killed, it goes on",
    ),
    "train": (
        "world_models.train:main",
        "train a tokenizer, a latent action model or the dynamics on a dataset",
    ),
    "worlds": (
        "genie_gym.worlds_commands:main",
        "the worlds on this machine: list, show, verify; make the shipped ones anew",
    ),
    "train-agent": (
        "agents.train:main",
        "PPO on a real env's own reward, for trained-agent data",
    ),
    "explore": (
        "agents.explore:main",
        "train an agent that looks for what a world does not know (AutoExplore)",
    ),
    "loop": (
        "agents.loop.command:main",
        "collect, train a world, explore what it does not know, and again",
    ),
    "data": (
        "genie_gym.data.commands:main",
        "look at, verify, merge, import and export episode datasets",
    ),
    "bench": (
        "benchmarks.command:main",
        "measure: how true a dream is (fidelity), and how fast everything runs",
    ),
    "demo": ("benchmarks.demo:main", "play the real games, dream one beside the real one"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = argv[0], argv[1:]
    if name == "--version":
        from genie_gym import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(f"genie-gym: no command {name!r}.{hint}\n\n{_help()}", file=sys.stderr)
        return 2
    module, function = COMMANDS[name][0].split(":")
    sys.argv = [f"genie-gym {name}", *rest]  # so that a command's own --help names it rightly
    try:
        return getattr(importlib.import_module(module), function)(rest)
    except (ValueError, OSError, ImportError, RuntimeError) as failure:
        print(f"genie-gym {name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"genie-gym {name}: stopped", file=sys.stderr)
        return 130


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: genie-gym COMMAND ...",
            "",
            *lines,
            "",
            "genie-gym COMMAND --help says what a command takes.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
