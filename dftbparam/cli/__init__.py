"""The command line: parse, call, print. Everything it does is a documented Python call of the other packages."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of the ``dftbparam`` command."""
    from dftbparam.cli.app import app

    app(prog_name="dftbparam")
