"""Anderson mixing of the SCC charges (Eyert, J. Comput. Phys. 124, 271 (1996))."""

from __future__ import annotations

from typing import Final

import numpy as np

from dftbparam.engine.base import Array

HISTORY: Final = 8
"""Earlier steps kept; more only adds noise to the small least-squares problem."""

CONDITION: Final = 1e-9
"""Singular values below this share of the largest are dropped: differences of converged steps are all noise."""


class AndersonMixer:
    """Finds x with f(x) = x from successive x and f(x). ``factor`` is the simple-mixing share of the residual."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
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
        return guess + self.factor * rest
