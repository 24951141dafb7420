"""Makes policies from their specification on the command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genie_gym.actions import ActionSet
from genie_gym.collect.plans import PLANS
from genie_gym.collect.policies import EpsilonGreedy, Mixture, Planned, Policy

__all__ = ["MIXED", "checked_spec", "make_policy"]

MIXED = "random=3,sticky=3,held=2,alternating=2"
"""What the policy ``mixed`` stands for."""

# Loads a saved agent. A string, because this layer must not import the layer above.
_LOAD_AGENT = "agents.saved_policy:load_policy"


def checked_spec(spec: str) -> str:
    """Returns the specification in full: shares instead of ``mixed``, absolute folders.

    Raises:
        ValueError: If it is malformed.
    """
    if spec == "mixed":
        return MIXED
    if "=" in spec:
        shares = _shares(spec)
        return ",".join(f"{checked_spec(one)}={share:g}" for one, share in shares.items())
    if spec in PLANS or _is_function(spec):
        return spec
    if not Path(spec).is_dir():
        raise ValueError(
            f"policy must be one of {', '.join(PLANS)}, mixed, the folder of a saved agent, "
            f"MODULE:FUNCTION, or shares such as sticky=2,FOLDER=1; got {spec!r}"
        )
    return str(Path(spec).resolve())


def make_policy(
    spec: str,
    actions: ActionSet,
    *,
    num_envs: int,
    max_steps: int,
    epsilon: float = 0.0,
    temperature: float = 1.0,
    env_kwargs: dict[str, Any] | None = None,
) -> Policy:
    """Makes a policy from the options of the command line.

    Args:
        spec: The name of a plan; ``"mixed"``; the folder of a saved agent; ``"MODULE:FUNCTION"``,
            a function that takes the action set and the number of rows and returns a `Policy`; or
            several of these with their shares of the episodes: ``"sticky=2,FOLDER=1"``.
        actions: The env's action set.
        num_envs: Number of sub-envs, called rows.
        max_steps: Maximum steps per episode.
        epsilon: Probability that an action is replaced by a uniformly random one.
        temperature: Temperature of a saved agent's action distribution; 0 takes the most likely
            action.
        env_kwargs: The env's keyword arguments; a saved agent checks those it depends on.
    """

    def make(one: str) -> Policy:
        if one in PLANS:
            return Planned(PLANS[one](actions), num_envs, max_steps)
        if _is_function(one):
            return _imported(one)(actions, num_envs)
        return _imported(_LOAD_AGENT)(
            Path(one),
            actions=actions,
            env_kwargs=env_kwargs or {},
            num_envs=num_envs,
            temperature=temperature,
        )

    spec = checked_spec(spec)
    if "=" in spec:
        shares = _shares(spec)
        policy: Policy = Mixture([make(one) for one in shares], list(shares.values()), num_envs)
    else:
        policy = make(spec)
    if epsilon == 0:
        return policy
    return EpsilonGreedy.over(
        policy,
        epsilon=epsilon,
        num_actions=len(actions),
        num_envs=num_envs,
        max_steps=max_steps,
    )


def _shares(spec: str) -> dict[str, float]:
    """Reads ``NAME=SHARE,NAME=SHARE``."""
    shares: dict[str, float] = {}
    for part in spec.split(","):
        name, _, text = part.rpartition("=")
        try:
            share = float(text)
        except ValueError:
            share = 0.0
        if not name or "=" in name or name == "mixed" or not 0 < share < float("inf"):
            raise ValueError(f"expected NAME=SHARE with a positive share, got {part!r} in {spec!r}")
        shares[name] = shares.get(name, 0.0) + share
    return shares


def _is_function(spec: str) -> bool:
    module, colon, function = spec.partition(":")
    return bool(colon) and function.isidentifier() and not Path(spec).is_dir()


def _imported(name: str) -> Callable[..., Any]:
    module, function = name.split(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as fault:
        raise ValueError(f"cannot import the policy {name!r}: {fault}") from None
