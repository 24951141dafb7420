"""The command `genie-gym`: a table of subcommands, imported on use."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches

__all__ = ["main"]

# Name -> ("module:function" taking the remaining arguments, one line of help). Strings, because
# this layer must not import the layers above it.
COMMANDS: dict[str, tuple[str, str]] = {
    "roms": (
        "genie_gym.retroact.commands:roms_main",
        "list the games that can be played here; import ROMs",
    ),
    "games": (
        "genie_gym.retroact.games_commands:games_main",
        "search the catalogue of games; measure what their buttons do",
    ),
    "collect": (
        "genie_gym.collect.command:main",
        "collect episodes of any env with any policy; resumes after an interruption",
    ),
    "train": (
        "world_models.train:main",
        "train a tokenizer, a latent action model or the dynamics on a dataset",
    ),
    "worlds": (
        "genie_gym.worlds_commands:main",
        "list, show, verify, pull and push worlds; rebuild the shipped ones",
    ),
    "play": (
        "genie_gym.play.command:main",
        "play a world in the browser, beside the real game",
    ),
    "train-agent": (
        "agents.train:main",
        "train PPO on a real env's own reward, to collect data with",
    ),
    "dream-train": (
        "agents.dream_command:main",
        "train an agent in a dream and evaluate it in the real game",
    ),
    "explore": (
        "agents.explore:main",
        "train an agent to find what a world cannot predict (AutoExplore)",
    ),
    "loop": (
        "agents.loop.command:main",
        "train a world, explore where it is uncertain, fine-tune it, repeat",
    ),
    "data": (
        "genie_gym.data.commands:main",
        "show, verify, merge, import and export episode datasets",
    ),
    "bench": (
        "benchmarks.command:main",
        "measure the fidelity of dreams and the speed of everything",
    ),
    "demo": ("benchmarks.demo:main", "play the real games; show a dream beside the real game"),
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
    sys.argv = [f"genie-gym {name}", *rest]  # a command's own --help shows argv[0]
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
            "genie-gym COMMAND --help lists the options of a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
