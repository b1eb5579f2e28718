"""The inner search: the repulsion of an element, for fixed tables.

The electronic energy does not depend on the repulsion, so that the repulsion's one to three parameters are optimised
inside every evaluation at almost no cost (variable projection): repulsive energies of all crystals and volumes are sums
over neighbour shells that are listed once, by pair of elements. In a fit on binaries the element's parameters enter two
of the three kinds of pairs, O-O and O-X by the form's combination rule; X-X is the partner's own and a constant. The
search is deterministic: a Sobol set over the form's ranges, then Nelder and Mead's simplex from its best points.
Parameters that the outer search gives are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import qmc

from dftbparam.elements import element
from dftbparam.engine.embedded import neighbour_shells
from dftbparam.errors import ParameterError
from dftbparam.reference import CrystalReference
from dftbparam.repulsion.forms import PairPotential, get_form
from dftbparam.score.objective import Objective
from dftbparam.score.short_range import DISTANCES, contact_distance, wall_violation
from dftbparam.space import ElementParameters, RepulsionParameters, SearchSpace
from dftbparam.units import HARTREE

Array = NDArray[np.float64]

SAMPLES: Final = 256
"""Points of the global stage; a power of two, as Sobol's sequence wants."""

FEW_SAMPLES: Final = 64
"""The same for a form of one parameter in a fit on binaries, whose sums over neighbours are several times longer."""

STARTS: Final = 2
"""Simplex searches, from the best samples."""

SIMPLEX_CALLS: Final = 240
"""Calls of the objective per simplex search; three parameters converge in about 150."""

SIMPLEX_SIZE: Final = 0.08
"""Edge of the first simplex in the unit cube."""


@dataclass(frozen=True)
class RepulsionFit:
    """The best repulsion for some tables.

    Its record, the objective, the repulsive energies of the crystals (m, n) in eV/atom, and the violation of the wall
    by the worst pair in eV.
    """

    parameters: RepulsionParameters
    objective: float
    energies: Array
    wall: float


@dataclass(frozen=True)
class _PairSum:
    """Neighbour shells of one pair of elements in some of the curves, laid end to end.

    ``rows`` tells which of the m x n points have them; ``r`` (s,) distances in Bohr, ``weights`` (s,) half the number
    of neighbours per atom in eV per Hartree, ``starts`` where each point's shells begin.
    """

    rows: NDArray[np.int64]
    r: Array
    weights: Array
    starts: NDArray[np.int64]

    def energies(self, potential: PairPotential) -> Array:
        """Energies of ``rows`` in eV/atom."""
        return np.asarray(np.add.reduceat(self.weights * potential.value(self.r), self.starts))


class RepulsionSearch:
    """Searches the repulsion of one element; the neighbour shells are listed at construction.

    Parameters
    ----------
    symbol, form
        Element, and name of the repulsive form.
    references, objective
        The crystals and the objective of their curves, in the same order.
    partners
        Parameters of the other elements in the crystals; their repulsion has the same form.

    Raises
    ------
    ParameterError
        A partner is missing, or has another form of repulsion or none.
    """

    def __init__(
        self,
        symbol: str,
        form: str,
        references: Sequence[CrystalReference],
        objective: Objective,
        partners: Mapping[str, ElementParameters] | None = None,
    ) -> None:
        self.form = get_form(form)
        self.symbol = symbol
        self.objective = objective
        self._partners = _partner_values(symbol, form, references, partners or {})
        atom = element(symbol)
        self.space = SearchSpace(tuple(self.form.parameters(atom.number, atom.covalent_radius)))
        corners = [self.space.from_unit([x] * len(self.space)) for x in (0.0, 1.0)]
        pairs = sorted({pair for reference in references for pair in _pairs(reference)})
        self._fixed = np.zeros(objective.volumes.shape)
        self._sums: dict[tuple[str, str], _PairSum] = {}
        for pair in pairs:
            reach = max(self._potential(pair, values).cutoff for values in corners)
            found = _pair_sum(pair, references, objective, reach)
            if symbol in pair:
                self._sums[pair] = found
            else:
                self._fixed.ravel()[found.rows] += found.energies(self._potential(pair, corners[0]))
        # The dimer of the element itself, and of it with each partner: none may collapse.
        self.dimers = ((symbol, symbol), *((symbol, partner) for partner in self._partners))
        self._distances = {
            pair: 0.5 * sum(contact_distance(s) for s in pair) * np.array(DISTANCES) for pair in self.dimers
        }
        self._inner: dict[frozenset[str], tuple[SearchSpace, list[Array]]] = {}

    def _inner_space(self, given: Mapping[str, float]) -> tuple[SearchSpace, list[Array]]:
        """What is left to search where some values are given, and the points of the global stage; made once."""
        key = frozenset(given)
        if key not in self._inner:
            space = SearchSpace(tuple(p for p in self.space.parameters if p.name not in key))
            few = bool(self._partners) and len(space) == 1
            points = qmc.Sobol(len(space), scramble=False).random(FEW_SAMPLES if few else SAMPLES)
            self._inner[key] = space, [np.asarray(u) for u in points]
        return self._inner[key]

    def _potential(self, pair: tuple[str, str], values: Mapping[str, float]) -> PairPotential:
        """The repulsion of a pair with ``values`` for the element that is searched."""
        atoms = [element(s) for s in pair]
        a, b = (self._partners.get(s, values) for s in pair)
        return self.form.pair(
            a, b, numbers=(atoms[0].number, atoms[1].number), radii=(atoms[0].covalent_radius, atoms[1].covalent_radius)
        )

    def energies(self, values: dict[str, float]) -> Array:
        """Repulsive energies (m, n) of all crystals and volumes, eV/atom."""
        total = self._fixed.copy()
        flat = total.ravel()
        for pair, found in self._sums.items():
            flat[found.rows] += found.energies(self._potential(pair, values))
        return total

    def dimer(self, values: dict[str, float]) -> Array:
        """Repulsive energies (p, k) of the pairs of ``dimers`` at `short_range.DISTANCES`, eV."""
        return np.array([HARTREE * self._potential(pair, values).value(r) for pair, r in self._distances.items()])

    def wall(self, dimer: Array) -> float:
        """Violation of the wall, eV, by the worst of total energies (p, k), eV, of the pairs of ``dimers``."""
        return max(wall_violation(DISTANCES, one) for one in dimer)

    def value(self, values: dict[str, float], electronic: Array, dimer: Array, other: float = 0.0) -> float:
        """J of a repulsion; arguments as for `fit`."""
        wall = self.wall(dimer + self.dimer(values))
        return self.objective.value(self.objective.measure(electronic + self.energies(values)), wall, other)

    def fit(
        self, electronic: Array, dimer: Array, other: float = 0.0, given: Mapping[str, float] | None = None
    ) -> RepulsionFit:
        """Find the repulsion that goes best with electronic energies.

        Parameters
        ----------
        electronic
            Of the crystals (m, n), eV/atom.
        dimer
            Of the pairs of ``dimers`` (p, k), eV; (k,) where there is but one.
        other
            What targets that do not depend on the repulsion add to J: `Objective.electronic`.
        given
            Values of parameters that are not to be searched here, inside the form's ranges; may be all of them.
        """
        known = dict(given or {})
        if set(known) >= set(self.space.names):
            return self._fitted({name: known[name] for name in self.space.names}, electronic, dimer, other)
        space, samples = self._inner_space(known)

        def values_at(u: Array) -> dict[str, float]:
            found = {**known, **space.from_unit(u)}
            return {name: found[name] for name in self.space.names}

        def loss(u: Array) -> float:
            inside = np.clip(u, 0.0, 1.0)
            # Beyond the ranges the value at the border plus the distance, so that the simplex comes back.
            return self.value(values_at(inside), electronic, dimer, other) + 100.0 * float(np.sum((u - inside) ** 2))

        losses = np.array([loss(u) for u in samples])
        best_u, best = samples[int(np.argmin(losses))], float(losses.min())
        for k in np.argsort(losses, kind="stable")[:STARTS]:
            start = samples[int(k)]
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
        return self._fitted(values_at(best_u), electronic, dimer, other)

    def _fitted(self, values: dict[str, float], electronic: Array, dimer: Array, other: float) -> RepulsionFit:
        return RepulsionFit(
            parameters=RepulsionParameters(form=self.form.name, values=values),
            objective=self.value(values, electronic, dimer, other),
            energies=self.energies(values),
            wall=self.wall(dimer + self.dimer(values)),
        )


def _pairs(reference: CrystalReference) -> list[tuple[str, str]]:
    """Pairs of elements in a crystal, each once."""
    names = reference.symbols
    return sorted({(min(a, b), max(a, b)) for a in names for b in names})


def _pair_sum(
    pair: tuple[str, str], references: Sequence[CrystalReference], objective: Objective, reach: float
) -> _PairSum:
    """List the neighbours of a pair within ``reach`` (Bohr) in all curves that have both elements."""
    rows, distances, weights, starts = [], [], [], [0]
    for i, (reference, volumes) in enumerate(zip(references, objective.volumes, strict=True)):
        if pair not in _pairs(reference):
            continue
        for j, v in enumerate(volumes):
            r, multiplicity = neighbour_shells(reference.atoms(float(v)), reach, pair)
            rows.append(i * len(volumes) + j)
            # One shell beyond the reach keeps the sums of empty lists apart (reduceat has no empty segments).
            distances.append(np.append(r, reach + 1.0))
            weights.append(np.append(0.5 * HARTREE * multiplicity, 0.0))
            starts.append(starts[-1] + len(r) + 1)
    return _PairSum(np.array(rows), np.concatenate(distances), np.concatenate(weights), np.array(starts[:-1]))


def _partner_values(
    symbol: str, form: str, references: Sequence[CrystalReference], partners: Mapping[str, ElementParameters]
) -> dict[str, Mapping[str, float]]:
    """Values of the repulsion of every other element in the crystals."""
    values: dict[str, Mapping[str, float]] = {}
    for name in sorted({s for reference in references for s in reference.symbols} - {symbol}):
        if name not in partners:
            raise ParameterError(
                f"the crystals of {symbol} hold {name}, but no parameters of {name} are given; there are: "
                f"{', '.join(sorted(partners)) or 'none'}",
                symbol=name,
            )
        repulsion = partners[name].repulsion
        if repulsion is None or repulsion.form != form:
            has = "none" if repulsion is None else repulsion.form
            raise ParameterError(
                f"the repulsion of {symbol} is {form}, that of its partner {name} {has}: only equal forms combine",
                symbol=name,
            )
        values[name] = repulsion.values
    return values
