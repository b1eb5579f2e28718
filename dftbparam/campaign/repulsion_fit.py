"""The inner search: the repulsion of an element, for fixed tables.

The electronic energy does not depend on the repulsion, so that the repulsion's two or three parameters are optimised
inside every evaluation at almost no cost (variable projection): repulsive energies of all crystals and volumes are sums
over neighbour shells that are listed once. The search is deterministic: a Sobol set over the form's ranges, then
Nelder and Mead's simplex from its best points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import qmc

from dftbparam.elements import element
from dftbparam.engine.embedded import neighbour_shells
from dftbparam.reference import CrystalReference
from dftbparam.repulsion.forms import get_form
from dftbparam.score.objective import Objective
from dftbparam.score.short_range import DISTANCES, contact_distance, wall_violation
from dftbparam.space import RepulsionParameters, SearchSpace
from dftbparam.units import HARTREE

Array = NDArray[np.float64]

SAMPLES: Final = 256
"""Points of the global stage; a power of two, as Sobol's sequence wants."""

STARTS: Final = 2
"""Simplex searches, from the best samples."""

SIMPLEX_CALLS: Final = 240
"""Calls of the objective per simplex search; three parameters converge in about 150."""

SIMPLEX_SIZE: Final = 0.08
"""Edge of the first simplex in the unit cube."""


@dataclass(frozen=True)
class RepulsionFit:
    """The best repulsion for some tables.

    Its record, the objective, the repulsive energies of the crystals (m, n) in eV/atom, and the dimer's violation of
    the wall in eV.
    """

    parameters: RepulsionParameters
    objective: float
    energies: Array
    wall: float


class RepulsionSearch:
    """Searches the repulsion of one element; the neighbour shells are listed at construction.

    Parameters
    ----------
    symbol, form
        Element, and name of the repulsive form.
    references, objective
        The crystals and the objective of their curves, in the same order.
    """

    def __init__(self, symbol: str, form: str, references: Sequence[CrystalReference], objective: Objective) -> None:
        self.form = get_form(form)
        self.objective = objective
        atom = element(symbol)
        self._atom = {"number": atom.number, "radius": atom.covalent_radius}
        ranges = self.form.parameters(atom.number, atom.covalent_radius)
        self.space = SearchSpace(tuple(ranges))
        corners = [self.space.from_unit([x] * len(self.space)) for x in (0.0, 1.0)]
        reach = max(self.form.homonuclear(v, number=atom.number, radius=atom.covalent_radius).cutoff for v in corners)
        distances, weights, starts = [], [], [0]
        for reference, volumes in zip(references, objective.volumes, strict=True):
            for v in volumes:
                r, multiplicity = neighbour_shells(reference.atoms(float(v)), reach)
                # One shell beyond the reach keeps the sums of empty lists apart (reduceat has no empty segments).
                distances.append(np.append(r, reach + 1.0))
                weights.append(np.append(0.5 * HARTREE * multiplicity, 0.0))
                starts.append(starts[-1] + len(r) + 1)
        contact = contact_distance(symbol)
        self._dimer = contact * np.array(DISTANCES)
        self._r = np.concatenate(distances)
        self._weights = np.concatenate(weights)
        self._starts = np.array(starts[:-1])
        self._samples = [np.asarray(u) for u in qmc.Sobol(len(self.space), scramble=False).random(SAMPLES)]

    def energies(self, values: dict[str, float]) -> Array:
        """Repulsive energies (m, n) of all crystals and volumes, eV/atom."""
        potential = self.form.homonuclear(values, number=int(self._atom["number"]), radius=self._atom["radius"])
        sums = np.add.reduceat(self._weights * potential.value(self._r), self._starts)
        return np.asarray(sums.reshape(self.objective.volumes.shape))

    def dimer(self, values: dict[str, float]) -> Array:
        """Repulsive energies (k,) of the dimer at `short_range.DISTANCES`, eV."""
        potential = self.form.homonuclear(values, number=int(self._atom["number"]), radius=self._atom["radius"])
        return HARTREE * potential.value(self._dimer)

    def value(self, values: dict[str, float], electronic: Array, dimer: Array) -> float:
        """J of a repulsion with electronic energies of the crystals (m, n), eV/atom, and of the dimer (k,), eV."""
        wall = wall_violation(DISTANCES, dimer + self.dimer(values))
        return self.objective.value(self.objective.measure(electronic + self.energies(values)), wall)

    def fit(self, electronic: Array, dimer: Array) -> RepulsionFit:
        """Find the repulsion that goes best with electronic energies of the crystals (m, n) and of the dimer (k,)."""

        def loss(u: Array) -> float:
            inside = np.clip(u, 0.0, 1.0)
            # Beyond the ranges the value at the border plus the distance, so that the simplex comes back.
            return self.value(self.space.from_unit(inside), electronic, dimer) + 100.0 * float(
                np.sum((u - inside) ** 2)
            )

        losses = np.array([loss(u) for u in self._samples])
        best_u, best = self._samples[int(np.argmin(losses))], float(losses.min())
        for k in np.argsort(losses, kind="stable")[:STARTS]:
            start = self._samples[int(k)]
            steps = np.where(start < 0.5, SIMPLEX_SIZE, -SIMPLEX_SIZE)
            simplex = np.vstack([start, start + np.diag(steps)])
            found = minimize(
                loss,
                start,
                method="Nelder-Mead",
                options={"initial_simplex": simplex, "maxfev": SIMPLEX_CALLS, "xatol": 1e-5, "fatol": 1e-6},
            )
            if found.fun < best:
                best_u, best = np.clip(found.x, 0.0, 1.0), float(found.fun)
        values = self.space.from_unit(best_u)
        return RepulsionFit(
            parameters=RepulsionParameters(form=self.form.name, values=values),
            objective=self.value(values, electronic, dimer),
            energies=self.energies(values),
            wall=wall_violation(DISTANCES, dimer + self.dimer(values)),
        )
