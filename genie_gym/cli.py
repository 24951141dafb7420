"""The command `genie-gym`: a table of subcommands, each imported on use."""

from __future__ import annotations

import importlib
import os
import sys
from difflib import get_close_matches

__all__ = ["main"]

# Name -> ("module:function", which takes the remaining arguments, and one line of help). Modules
# are given as strings, because this layer must not import the layers above it.
COMMANDS: dict[str, tuple[str, str]] = {
    "build": (
        "genie_gym.build.command:main",
        "make the dream of a game within a time limit: play, train, check, pack",
    ),
    "roms": (
        "genie_gym.retroact.commands:roms_main",
        "list the games that can be played here; import ROMs; add your own games",
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
        "play a world model in the browser, beside the real game",
    ),
    "train-agent": (
        "agents.train:main",
        "train PPO on a real env's own reward, for collecting data",
    ),
    "dream-train": (
        "agents.dream_command:main",
        "train an agent in a dream and evaluate it in the real game",
    ),
    "explore": (
        "agents.explore:main",
        "train an agent to find what a world model cannot predict (AutoExplore)",
    ),
    "loop": (
        "agents.loop.command:main",
        "train a world model, explore where it is uncertain, fine-tune it, repeat",
    ),
    "data": (
        "genie_gym.data.commands:main",
        "show, verify, merge, import and export episode datasets",
    ),
    "bench": (
        "benchmarks.command:main",
        "measure the fidelity of dreams and the speed of everything",
    ),
    "doctor": (
        "genie_gym.doctor:main",
        "show the CPU, GPU, precision, ROMs, extras and compiler found here",
    ),
    "demo": ("benchmarks.demo:main", "play the real games; show a dream beside the real game"),
}


EXAMPLES = (
    "genie-gym build RetroAct/Boxing-Atari2600-v0 --minutes 20",
    "genie-gym worlds list",
    "genie-gym bench fidelity GenieRedux/CoinRun-v0",
    "genie-gym collect Procgen/CoinRun-v0 --policy mixed --episodes 100 --out data/coinrun",
    "genie-gym doctor",
)
COMPLETION = """# Tab completion of genie-gym: commands, then files. In bash:
#   source <(genie-gym completion)
# In zsh, first: autoload -U bashcompinit && bashcompinit
_genie_gym() {{
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "${{COMP_WORDS[1]}}"))
    fi
}}
complete -o default -F _genie_gym genie-gym"""


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand.

    Returns:
        The exit status: 0 for success, 1 for failure, 2 for wrong usage, and 130 if stopped with
        Ctrl-C. To resume long work, run the same command again.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = argv[0], argv[1:]
    if name == "--version":
        from genie_gym import __version__

        print(f"genie-gym {__version__}")
        return 0
    if name == "completion":
        print(COMPLETION.format(commands=" ".join(COMMANDS)))
        return 0
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(
            f"genie-gym: unknown command {name!r}.{hint} genie-gym --help lists all commands.",
            file=sys.stderr,
        )
        return 2
    module, function = COMMANDS[name][0].split(":")
    # When other processes are busy, torch is several times as fast if its threads do not spin while
    # they wait for each other. Torch reads this variable when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.argv = [f"genie-gym {name}", *rest]  # the --help of a command shows argv[0]
    try:
        return getattr(importlib.import_module(module), function)(rest)
    except BrokenPipeError:
        raise
    except _expected() as failure:
        print(f"genie-gym {name}: {_text(failure)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"genie-gym {name}: stopped", file=sys.stderr)
        return 130


def _expected() -> tuple[type[Exception], ...]:
    """Returns the errors that the user can fix; any other error is a bug in the program."""
    usual = (ValueError, OSError, ImportError, RuntimeError)
    gymnasium = sys.modules.get("gymnasium")
    return usual if gymnasium is None else (*usual, gymnasium.error.Error)


def _text(failure: Exception) -> str:
    return str(failure) or type(failure).__name__


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: genie-gym COMMAND ...",
            "",
            *lines,
            "",
            "examples:",
            *(f"  {example}" for example in EXAMPLES),
            "",
            "genie-gym COMMAND --help lists the options of a command with their defaults.",
            "genie-gym --version prints the version; genie-gym completion, a completion script.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
