"""Engines by name."""

from __future__ import annotations

from typing import Final, Literal

from dftbparam.engine.base import Engine
from dftbparam.errors import ParameterError

ENGINES: Final = ("embedded", "dftb+")


def make_engine(
    engine: str | Engine, *, command: str | None = None, keep: Literal["never", "failed", "always"] = "failed"
) -> Engine:
    """Return the engine of a name, or the engine itself.

    Parameters
    ----------
    command, keep
        For DFTB+: its program (None: ``DFTBPLUS_COMMAND``, else ``dftb+`` on the PATH), and which scratch folders stay
        behind; see `dftbparam.engine.dftbplus.DftbPlusEngine`.

    Raises
    ------
    ParameterError
        No engine has this name, or a command is given for one that runs no program.
    EngineMissing
        DFTB+ is asked for and not installed; the message says how to install it.
    """
    if command is not None and engine != "dftb+":
        name = engine if isinstance(engine, str) else engine.name
        raise ParameterError(
            f"a DFTB+ command ({command}) is given, but the engine is {name!r}; choose the engine 'dftb+', or leave "
            "the command out",
            command=command,
        )
    if not isinstance(engine, str):
        return engine
    if engine == "embedded":
        from dftbparam.engine.embedded import EmbeddedEngine

        return EmbeddedEngine()
    if engine == "dftb+":
        from dftbparam.engine.dftbplus import DftbPlusEngine

        return DftbPlusEngine(command, keep=keep)
    raise ParameterError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}, or an Engine", engine=engine)
