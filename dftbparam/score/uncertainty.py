"""How well a search pins its answer down: the near-optimal ensemble, sensitivities, and what they imply for a crystal.

The ensemble of a search is every trial whose objective is at most (1 + tolerance) times the best. Its spread is not a
posterior: a search samples densely where it expects improvement, so that the spread in a direction that it did not
explore is too small rather than too large. Two figures per parameter say where that matters, both from a Gaussian
process through log objective (its leave-one-out R^2 is reported; with a low one they mean little):

- the *tolerance interval*: how far the parameter alone may move from the best trial before the predicted objective has
  grown by the tolerance;
- the *total effect* over the whole search space, the total-order index of Sobol' : the share of the variance of log
  objective that would stay if all other parameters were known (Homma and Saltelli, Reliab. Eng. Syst. Saf. 52, 1
  (1996)). Points are weighted as the cube weights them: uniformly on a parameter's own scale, or by its prior.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dftbparam.errors import ParameterError

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

TOLERANCE: Final = 0.10
"""Relative excess of the objective up to which a trial counts as good as the best: a tenth of an error one can live
with, where the best is of the order of one (see `dftbparam.score.objective`)."""

MODEL_POINTS: Final = 200
"""Trials the Gaussian process is fitted to, the better half of them the best ones."""

LEAST_POINTS: Final = 5
"""Trials per parameter below which there is no model, and no sensitivities."""

LEAST_R2: Final = 0.5
"""Leave-one-out R^2 below which a model is not asked: it explains less than half of what it ought to."""

EFFECT_POINTS: Final = 512
"""Base points of the total effects, a power of two; each costs d + 2 predictions."""

GRID: Final = 201
"""Points along a parameter at which its tolerance interval is looked for."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spread(_Record):
    """A number over the ensemble: the best trial's, and mean, standard deviation, least and greatest of all members."""

    best: float
    mean: float
    std: float
    low: float
    high: float


class ParameterUncertainty(_Record):
    """One parameter, in its own unit.

    Attributes
    ----------
    spread
        Over the ensemble.
    share_of_range
        Length of the ensemble's range in units of the search range, on the parameter's own scale.
    interval
        Tolerance interval; None without a model of some worth (`LEAST_R2`).
    total_effect
        Of the whole search space, 0 to 1; None as above.
    """

    name: str
    spread: Spread
    share_of_range: float
    interval: tuple[float, float] | None = None
    total_effect: float | None = None


class CrystalUncertainty(_Record):
    """One crystal: spread of its errors, by the fits of the search, which are coarser than the report card's.

    Attributes
    ----------
    dV, dB
        Errors of volume and bulk modulus, percent; None where the best member has no such number.
    dE
        Error of the energy above the most stable crystal, eV/atom.
    without_minimum
        Members in which the crystal has no minimum.
    """

    name: str
    dV: Spread | None = None
    dB: Spread | None = None
    dE: Spread | None = None
    without_minimum: int = 0


class Uncertainty(_Record):
    """What `uncertainty` finds.

    ``members`` are indices of trials, best first; ``model_r2`` the leave-one-out coefficient of determination of log
    objective, None where there were too few trials for a model.
    """

    tolerance: float
    best_objective: float
    members: tuple[int, ...]
    parameters: tuple[ParameterUncertainty, ...]
    crystals: tuple[CrystalUncertainty, ...] = ()
    model_r2: float | None = None


def near_optimal(objectives: Sequence[float] | Array, tolerance: float = TOLERANCE) -> Indices:
    """Positions of objectives (n,) of at most (1 + tolerance) times the smallest, best first.

    Raises
    ------
    ParameterError
        A tolerance that is not positive, or no objective.
    """
    y = np.asarray(objectives, dtype=np.float64)
    if not tolerance > 0.0:
        raise ParameterError(f"the tolerance of an ensemble must be positive, e.g. {TOLERANCE}, got {tolerance}")
    if y.size == 0 or not np.isfinite(y).all():
        raise ParameterError(f"an ensemble needs at least one objective, all of them finite; got {y.tolist()[:5]}")
    order = np.argsort(y, kind="stable")
    within: Indices = order[y[order] <= y.min() + tolerance * abs(y.min())]
    return within


def uncertainty(
    x: Array,
    objectives: Sequence[float] | Array,
    crystals: Sequence[Mapping[str, Mapping[str, Any]]],
    *,
    names: Sequence[str],
    from_unit: Callable[[Array], Mapping[str, Any]],
    ranges: Mapping[str, tuple[float, float, bool]],
    indices: Sequence[int] | None = None,
    tolerance: float = TOLERANCE,
) -> Uncertainty:
    """Describe the ensemble of a search.

    Parameters
    ----------
    x
        Points of the trials that succeeded, (n, d), unit cube.
    objectives
        Theirs, (n,), not negative.
    crystals
        Per trial (n), by crystal: ``dV``, ``dB``, ``dE``, numbers or None.
    names
        Of the parameters (d,).
    from_unit
        Maps a point (d,) to values by name. Parameters whose values are not numbers are left out.
    ranges
        Ends of each parameter's range, and whether its scale is logarithmic.
    indices
        Of the trials; 0 to n - 1 without.
    tolerance
        See `near_optimal`.

    Raises
    ------
    ParameterError
        As `near_optimal`, or arrays that do not fit together.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(objectives, dtype=np.float64)
    if x.shape != (len(y), len(names)) or len(crystals) != len(y):
        raise ParameterError(f"{len(y)} objectives of {len(names)} parameters do not fit points of shape {x.shape}")
    members = near_optimal(y, tolerance)
    model = _Model.fitted(x, y) if len(y) >= LEAST_POINTS * len(names) and (y > 0.0).all() and np.ptp(y) > 0.0 else None
    r2 = None if model is None else model.r2
    if model is not None and model.r2 < LEAST_R2:
        model = None
    effects = None if model is None else total_effects(model.predict, x.shape[1])
    values = [from_unit(x[i]) for i in members]
    parameters = []
    for i, name in enumerate(names):
        if not all(isinstance(v[name], int | float) for v in values):
            continue
        interval = None
        if model is not None:
            ends = _interval(model, x[members[0]], i, float(np.log1p(tolerance)))
            low, high = (float(from_unit(_moved(x[members[0]], i, end))[name]) for end in ends)
            interval = (min(low, high), max(low, high))
        spread = _spread([float(v[name]) for v in values])
        assert spread is not None
        parameters.append(
            ParameterUncertainty(
                name=name,
                spread=spread,
                share_of_range=_share([float(v[name]) for v in values], *ranges[name]),
                interval=interval,
                total_effect=None if effects is None else float(effects[i]),
            )
        )
    return Uncertainty(
        tolerance=tolerance,
        best_objective=float(y[members[0]]),
        members=tuple(int(i) if indices is None else int(indices[i]) for i in members),
        parameters=tuple(parameters),
        crystals=_crystals([crystals[i] for i in members]),
        model_r2=r2,
    )


def total_effects(function: Callable[[Array], Array], dimensions: int, points: int = EFFECT_POINTS) -> Array:
    """Total-order Sobol' indices of a function on the unit cube, (d,), each within 0 and 1.

    Parameters
    ----------
    function
        Of points (n, d), giving (n,).
    points
        Base points, a power of two; the plain Sobol sequence, so that the answer is always the same.
    """
    from scipy.stats import qmc, sobol_indices

    both = qmc.Sobol(2 * dimensions, scramble=False).random(points)
    a, b = both[:, :dimensions], both[:, dimensions:]
    mixed = np.repeat(a[None], dimensions, axis=0)
    for i in range(dimensions):
        mixed[i, :, i] = b[:, i]
    f_ab = function(mixed.reshape(-1, dimensions)).reshape(dimensions, 1, points)
    f_a = function(a)
    if np.ptp(f_a) == 0.0:
        return np.zeros(dimensions)
    found = sobol_indices(func={"f_A": f_a[None], "f_B": function(b)[None], "f_AB": f_ab}, n=points)
    effects: Array = np.clip(np.asarray(found.total_order, dtype=np.float64).reshape(dimensions), 0.0, 1.0)
    return effects


class _Model:
    """Gaussian process through log objective: Matern 5/2 with one length per parameter, and noise."""

    def __init__(self, process: Any, r2: float) -> None:
        self._process = process
        self.r2 = r2

    @classmethod
    def fitted(cls, x: Array, y: Array) -> _Model:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
        from threadpoolctl import threadpool_limits

        order = np.argsort(y, kind="stable")
        if len(y) > MODEL_POINTS:
            half = MODEL_POINTS // 2
            rest = order[half:]
            order = np.concatenate([order[:half], rest[np.linspace(0, len(rest) - 1, half).round().astype(np.intp)]])
        rows = np.sort(order)
        t = np.log(y[rows])
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(
            np.full(x.shape[1], 0.5), [(0.05, 20.0)] * x.shape[1], nu=2.5
        ) + WhiteKernel(1e-3, (1e-7, 1.0))
        process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=0)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            # Lengths that end on a bound: the parameter does not matter, which is an answer.
            warnings.simplefilter("ignore")
            process.fit(x[rows], t)
            # Rasmussen and Williams (2006), eq. 5.12, in the normalised units of the fit.
            inverse = np.linalg.inv(process.kernel_(x[rows]) + process.alpha * np.eye(len(rows)))
            normal = (t - t.mean()) / (t.std() or 1.0)
            residuals = (inverse @ normal) / np.diag(inverse)
        r2 = 1.0 - float(residuals @ residuals) / float(normal @ normal)
        return cls(process, r2)

    def predict(self, points: Array) -> Array:
        """Log objective at points (n, d)."""
        mean: Array = self._process.predict(points)
        return mean


def _interval(model: _Model, best: Array, i: int, allowed: float) -> tuple[float, float]:
    """Ends, in the unit cube, of the range around best[i] where log objective rises by no more than ``allowed``."""
    grid = np.unique(np.append(np.linspace(0.0, 1.0, GRID), best[i]))
    points = np.repeat(best[None], len(grid), axis=0)
    points[:, i] = grid
    fine = model.predict(points) <= model.predict(best[None])[0] + allowed
    at = int(np.searchsorted(grid, best[i]))
    low = high = at
    while low > 0 and fine[low - 1]:
        low -= 1
    while high < len(grid) - 1 and fine[high + 1]:
        high += 1
    return float(grid[low]), float(grid[high])


def _moved(x: Array, i: int, value: float) -> Array:
    moved = x.copy()
    moved[i] = value
    return moved


def _spread(values: Sequence[float]) -> Spread | None:
    """Spread of the members' values, the best member's first; None where there is none."""
    if not values:
        return None
    array = np.asarray(values)
    std = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return Spread(best=values[0], mean=float(array.mean()), std=std, low=float(array.min()), high=float(array.max()))


def _share(values: Sequence[float], low: float, high: float, log: bool) -> float:
    """Length of the values' range over that from low to high, on the parameter's scale."""
    if log:
        return float(np.log(max(values) / min(values)) / np.log(high / low))
    return (max(values) - min(values)) / (high - low)


def _crystals(members: Sequence[Mapping[str, Mapping[str, Any]]]) -> tuple[CrystalUncertainty, ...]:
    found = []
    for name in dict.fromkeys(name for member in members for name in member):
        spreads: dict[str, Spread | None] = {}
        rows = [member.get(name, {}) for member in members]
        for key in ("dV", "dB", "dE"):
            numbers = [float(row[key]) for row in rows if row.get(key) is not None]
            # Without the best member's own number the first of the others must not pass for it.
            spreads[key] = _spread(numbers) if rows[0].get(key) is not None else None
        without = sum(row.get("dV") is None for row in rows)
        found.append(CrystalUncertainty(name=name, without_minimum=without, **spreads))
    return tuple(found)
