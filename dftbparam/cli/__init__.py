"""The command line: parse, call, print. Everything it does is a documented Python call of the other packages."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["main"]

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What numerical libraries look at when they are loaded."""


def main() -> None:
    """Run the command line; the entry point of the ``dftbparam`` command.

    Numerical libraries get one thread, unless the environment says otherwise: the matrices are so small that a second
    thread makes the eigensolver ten times slower. It has to be said before numpy is loaded, which happens below.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    from dftbparam.cli.app import app

    app(prog_name="dftbparam")
