"""Makes policies from specifications given on the command line."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genie_gym.actions import ActionSet
from genie_gym.collect.plans import PLANS
from genie_gym.collect.policies import EpsilonGreedy, Mixture, Planned, Policy

__all__ = ["MIXED", "checked_spec", "half_by", "make_policy", "shares_of"]

MIXED = "random=3,sticky=3,held=2,alternating=2"
"""The specification that the name ``mixed`` stands for."""

# The function that loads a saved agent. A string: this layer must not import the layer above it.
_LOAD_AGENT = "agents.saved_policy:load_policy"


def checked_spec(spec: str) -> str:
    """Returns the specification with ``mixed`` expanded and folders as absolute paths.

    Raises:
        ValueError: If the specification is malformed.
    """
    shares = shares_of(spec)
    return _joined(shares) if len(shares) > 1 else next(iter(shares))


def shares_of(spec: str) -> dict[str, float]:
    """Returns the policies of a specification with their weights.

    An existing folder counts as one policy, even if its name contains ``=``.

    Raises:
        ValueError: If the specification is malformed.
    """
    spec = MIXED if spec == "mixed" else spec
    if "=" not in spec or Path(spec).is_dir():
        return {_checked(spec): 1.0}
    shares: dict[str, float] = defaultdict(float)
    for name, share in _parsed(spec):
        shares[_checked(name)] += share
    return dict(shares)


def half_by(agent: Path, others: str) -> str:
    """Returns a mixture in which an agent plays half of the episodes and other policies the rest.

    Args:
        agent: Folder of a saved agent, which need not exist yet.
        others: Specification of the other policies.

    Raises:
        ValueError: If `others` is malformed, or if a folder's path looks like ``NAME=SHARE``.
    """
    shares, name = shares_of(others), str(agent.resolve())
    return _joined({**shares, name: shares.get(name, 0.0) + sum(shares.values())})


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
    """Makes a policy from command-line options.

    Args:
        spec: The name of a plan; ``"mixed"``; the folder of a saved agent; ``"MODULE:FUNCTION"``,
            a function that takes the action set and the number of sub-envs and returns a `Policy`;
            or several of these with weights: ``"sticky=2,FOLDER=1"``.
        actions: The env's action set.
        num_envs: Number of sub-envs.
        max_steps: Maximum number of steps per episode.
        epsilon: Probability that an action is replaced with a uniformly random one.
        temperature: Temperature of a saved agent's action distribution; 0 takes the most likely
            action.
        env_kwargs: The env's keyword arguments, by default none. Loading a saved agent fails if the
            arguments that the agent depends on have other values.
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

    shares = shares_of(spec)
    policies = [make(one) for one in shares]
    policy = policies[0]
    if len(policies) > 1:
        policy = Mixture(policies, list(shares.values()), num_envs)
    if epsilon == 0:
        return policy
    return EpsilonGreedy(
        policy,
        epsilon=epsilon,
        num_actions=len(actions),
        num_envs=num_envs,
        max_steps=max_steps,
    )


def _checked(name: str) -> str:
    """Returns the name of one policy if it is valid; makes the path of a folder absolute."""
    if name in PLANS or _is_function(name):
        return name
    if not Path(name).is_dir():
        raise ValueError(
            f"policy must be one of {', '.join(PLANS)}, mixed, the folder of a saved agent, "
            f"MODULE:FUNCTION, or a mixture such as sticky=2,FOLDER=1; got {name!r}"
        )
    return str(Path(name).resolve())


def _parsed(spec: str) -> list[tuple[str, float]]:
    """Reads ``NAME=SHARE,NAME=SHARE``; a name may itself contain ``=`` and commas."""
    found, part = [], ""
    for piece in spec.split(","):
        part += piece
        name, _, share = part.rpartition("=")
        if name and name != "mixed" and _is_positive(share):
            found.append((name, float(share)))
            part = ""
        else:  # the comma belongs to the name
            part += ","
    if part:
        raise ValueError(
            f"expected NAME=SHARE with a positive share, got {part[:-1]!r} in {spec!r}"
        )
    return found


def _joined(shares: Mapping[str, float]) -> str:
    """Returns the specification of several policies; the inverse of `_parsed`."""
    spec = ",".join(f"{name}={share:g}" for name, share in shares.items())
    if [name for name, _ in _parsed(spec)] != list(shares):
        raise ValueError(
            f"the policies in {spec!r} are ambiguous: rename the folder whose path contains a "
            "number between = and a comma"
        )
    return spec


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _is_function(spec: str) -> bool:
    module, colon, function = spec.partition(":")
    return bool(colon) and function.isidentifier() and not Path(spec).is_dir()


def _imported(name: str) -> Callable[..., Any]:
    module, function = name.split(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as fault:
        raise ValueError(f"cannot import the policy {name!r}: {fault}") from None
