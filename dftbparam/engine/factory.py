"""Engines by name."""

from __future__ import annotations

from typing import Final

from dftbparam.engine.base import Engine
from dftbparam.errors import ParameterError

ENGINES: Final = ("embedded", "dftb+")


def make_engine(engine: str | Engine) -> Engine:
    """Return the engine of a name, or the engine itself.

    Raises
    ------
    ParameterError
        No engine has this name.
    EngineMissing
        DFTB+ is asked for and not installed; the message says how to install it.
    """
    if not isinstance(engine, str):
        return engine
    if engine == "embedded":
        from dftbparam.engine.embedded import EmbeddedEngine

        return EmbeddedEngine()
    if engine == "dftb+":
        from dftbparam.engine.dftbplus import DftbPlusEngine

        return DftbPlusEngine()
    raise ParameterError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}, or an Engine", engine=engine)
