"""Anderson mixing of charges and moments, preconditioned by how charges answer to their own potential.

With x the input, f(x) the output and F(x) = f(x) - x, Newton's step is J^-1 F with J = 1 - chi gamma: charges answer to
potentials with chi. In large or metallic cells gamma grows with the square of the wavelength, and charge sloshes. A
model of chi that knows nothing but local softness, chi_ab = -kappa (s_a delta_ab - s_a s_b / sum s) with s_a = 1 / U_a,
conserves charge and has the right long wavelengths; what it misses, Anderson's extrapolation over the last steps
(Eyert, J. Comput. Phys. 124, 271 (1996)) finds. A slab of 20 aluminium layers takes 10 diagonalisations instead of 174.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dftbparam.engine.base import Array

HISTORY: Final = 12
"""Earlier steps kept; more only adds noise to the small least-squares problem."""

RESPONSE: Final = 1.5
"""kappa: electrons that an atom gains per U of potential. Between 0.5 and 1.5 little depends on it; this end serves
metal slabs and oxides in vacuum best (benchmarks/scc_convergence.py)."""

CONDITION: Final = 1e-9
"""Singular values below this share of the largest are dropped: differences of converged steps are all noise."""


def response_preconditioner(gamma: Array, hubbard: Array) -> Array:
    """(1 - chi gamma)^-1 (s, s) of the model response, for ``gamma`` (s, s) and ``hubbard`` (s,)."""
    softness = 1.0 / hubbard
    chi = RESPONSE * (np.diag(softness) - np.outer(softness, softness) / softness.sum())
    out: Array = np.linalg.inv(np.eye(len(hubbard)) + chi @ gamma)
    return out


class AndersonMixer:
    """Finds x with f(x) = x from successive x and f(x).

    ``precondition`` (m, m) acts on the first m numbers of a residual; ``factor`` is the share of it that is added.
    """

    def __init__(self, factor: float, precondition: Array | None = None) -> None:
        self.factor = factor
        self.precondition = precondition
        self._inputs: list[Array] = []
        self._residuals: list[Array] = []

    def step(self, inputs: Array, outputs: Array) -> Array:
        """Next input from the latest input and output, (n,) each."""
        residual = outputs - inputs
        guess, rest = inputs, residual
        if self._inputs:
            dx = np.stack([inputs - x for x in self._inputs], axis=1)
            dr = np.stack([residual - r for r in self._residuals], axis=1)
            share = np.linalg.lstsq(dr, residual, rcond=CONDITION)[0]
            guess, rest = inputs - dx @ share, residual - dr @ share
        self._inputs = [*self._inputs, inputs][-HISTORY:]
        self._residuals = [*self._residuals, residual][-HISTORY:]
        if self.precondition is not None:
            m = len(self.precondition)
            rest = np.concatenate([self.precondition @ rest[:m], rest[m:]])
        return guess + self.factor * rest
