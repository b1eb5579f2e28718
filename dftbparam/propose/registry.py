"""Proposers by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from dftbparam.errors import ParameterError
from dftbparam.propose.base import Proposer


def _sobol(**options: Any) -> Proposer:
    from dftbparam.propose.sobol import SobolProposer

    return SobolProposer(**options)


def _random(**options: Any) -> Proposer:
    from dftbparam.propose.sobol import RandomProposer

    return RandomProposer(**options)


def _skopt(**options: Any) -> Proposer:
    from dftbparam.propose.skopt import SkoptProposer

    return SkoptProposer(**options)


def _cmaes(**options: Any) -> Proposer:
    from dftbparam.propose.cmaes import CmaesProposer

    return CmaesProposer(**options)


def _botorch(**options: Any) -> Proposer:
    from dftbparam.propose.botorch import BotorchProposer

    return BotorchProposer(**options)


def _turbo(**options: Any) -> Proposer:
    from dftbparam.propose.turbo import TurboProposer

    return TurboProposer(**options)


# Functions, so that naming a proposer imports only its own libraries.
_MAKERS: dict[str, Callable[..., Proposer]] = {
    "skopt": _skopt,
    "sobol": _sobol,
    "random": _random,
    "cmaes": _cmaes,
    "botorch": _botorch,
    "turbo": _turbo,
}


def proposer_names() -> tuple[str, ...]:
    """Names `proposer` knows, the default first."""
    return tuple(_MAKERS)


def proposer(name: str, **options: Any) -> Proposer:
    """Return the proposer called ``name``.

    Raises
    ------
    ParameterError
        No such name (the message lists them), or options it does not take.
    EngineMissing
        The proposer's library is not installed; the message says how to install it.
    """
    try:
        maker = _MAKERS[name]
    except KeyError:
        close = get_close_matches(name, _MAKERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ParameterError(f"no proposer {name!r}; there are: {', '.join(_MAKERS)}{hint}", name=name) from None
    try:
        return maker(**options)
    except TypeError as error:
        raise ParameterError(f"proposer {name!r}: {error}", name=name) from None
