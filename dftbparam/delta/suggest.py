"""What to compute next: structure and level that lower the error of the level that counts most, for their cost.

With the model as it is, an energy at (structure c, level t) would lower the variances of the targets by

    Σ_j cov(j, ct)² / (var(ct) + σ_t²)

(this is no estimate: a Gaussian's variance does not depend on the value observed; D. MacKay, Neural Comput. 4, 590
(1992)). The best gain per cost is taken, the covariance is conditioned on it, and the next one is chosen, so that
a batch does not ask the same question many times. Calculations that are already running condition it first.

The covariance of two structures at two levels is that of the posterior plus what inducing environments do not span,
computed from all pairs of atoms, so that structures that are new in kind are seen as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import solve_triangular

from dftbparam.delta.descriptors import Array, power_spectra
from dftbparam.delta.evidence import expand
from dftbparam.delta.inputs import BaseFeatures, input_coordinates, need_features
from dftbparam.delta.model import DeltaModel
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from ase import Atoms

MOST_ATOMS: Final = 6000
"""Atoms of one element in all structures together: their covariance matrix has 290 MB."""


SAME: Final = 1e-3
"""Angstrom; files of structures have eight decimals or so, and no two candidates are as near to each other."""


@dataclass(frozen=True)
class Suggestion:
    """One calculation.

    Attributes
    ----------
    index, level
        Which of the candidates, at which level.
    gain
        By how much it lowers the mean variance of the targets, (eV/atom)^2, given those before it in the batch.
    cost
        Of the level.
    std_before, std_after
        Root mean square error bar of the targets, eV/atom, before and after it.
    outside
        Whether the candidate is outside the domain of the training data of this level.
    """

    index: int
    level: str
    gain: float
    cost: float
    std_before: float
    std_after: float
    outside: bool


def suggest(
    model: DeltaModel,
    candidates: Sequence[Atoms],
    count: int = 1,
    *,
    targets: Sequence[Atoms] | None = None,
    levels: Sequence[str] | None = None,
    target_level: str | None = None,
    pending: Sequence[tuple[Atoms, str]] = (),
    computed: Sequence[tuple[Atoms, str]] = (),
    costs: Mapping[str, float] | None = None,
    features: Callable[[Sequence[Atoms]], Sequence[BaseFeatures | None]] | None = None,
) -> list[Suggestion]:
    """Choose a batch of calculations.

    Parameters
    ----------
    candidates
        Structures that could be computed, at any of ``levels`` (all unless given).
    targets
        Structures whose error bars at ``target_level`` (the highest unless given) are to shrink; the candidates unless
        given.
    pending
        Calculations that are running: their values are not known, but that they will be.
    computed
        Calculations that are done and that the model was trained on. Neither these nor those that are running are
        chosen again.
    costs
        Per level, instead of the model's.
    features
        Gives the results of DFTB of structures, for a model that takes some as inputs.

    Returns
    -------
    At most ``count`` suggestions in the order of choice; fewer where nothing else is left to compute.

    Raises
    ------
    ParameterError
        No candidates, an unknown level, a cost that is not positive, results of DFTB that the model needs.
    ElementError
        An element that the model does not know.
    """
    if not candidates:
        raise ParameterError("no candidates are given")
    if count < 1:
        raise ParameterError(f"count is {count}; it must be 1 or more")
    allowed = [model.level(name) for name in levels] if levels else list(range(len(model.levels)))
    price = {at: level.cost for at, level in enumerate(model.levels)}
    for name, cost in (costs or {}).items():
        price[model.level(name)] = float(cost)
    for at, cost in price.items():
        if not 0.0 < cost < 1e12:
            raise ParameterError(f"the cost of {model.levels[at].name} is {cost}; it must be positive")
    top = model.level(target_level)
    aims = list(candidates) if targets is None else list(targets)
    structures = [*candidates, *([] if targets is None else aims), *(atoms for atoms, _ in pending)]
    first_aim = 0 if targets is None else len(candidates)
    # Rows of the joint distribution: the targets, every possible calculation, those that are running.
    rows = [(first_aim + j, top) for j in range(len(aims))]
    options = [(c, at) for c in range(len(candidates)) for at in allowed]
    first_option = len(rows)
    rows += options
    first_pending = len(rows)
    running = len(candidates) + (0 if targets is None else len(aims))
    rows += [(running + k, model.level(name)) for k, (_, name) in enumerate(pending)]
    inputs = _inputs(model, structures, features)
    covariance = joint_covariance(model, structures, rows, inputs)
    noise = {at: model.hyper.noise.get((at, "energy"), 1e-3) ** 2 for at in range(len(model.levels))}
    for k in range(first_pending, len(rows)):
        _condition(covariance, k, noise[rows[k][1]])
    outside = [
        model.predict(atoms, derivatives=False, features=one).outside_levels
        for atoms, one in zip(candidates, inputs, strict=False)
    ]
    weights = np.array([1.0 / price[at] for _, at in options])
    taken = [(atoms, model.level(name)) for atoms, name in (*pending, *computed)]
    free = np.array([not any(at == t and same_structure(candidates[c], a) for a, t in taken) for c, at in options])
    factor = model.levels[top].calibration
    found: list[Suggestion] = []
    noises = np.array([noise[at] for _, at in options])
    for _ in range(min(count, int(free.sum()))):
        cross = covariance[:first_option, first_option:first_pending]
        own = np.diag(covariance)[first_option:first_pending]
        gains = (cross**2).mean(axis=0) / (own + noises)
        best = int(np.argmax(np.where(free, gains * weights, -np.inf)))
        before = _rms(covariance, first_option)
        _condition(covariance, first_option + best, float(noises[best]))
        free[best] = False
        candidate, at = options[best]
        after = _rms(covariance, first_option)
        found.append(
            Suggestion(
                candidate,
                model.levels[at].name,
                float(gains[best]) * factor**2,
                price[at],
                factor * before,
                factor * after,
                bool(outside[candidate][model.levels[at].name]),
            )
        )
    return found


def _inputs(
    model: DeltaModel,
    structures: Sequence[Atoms],
    features: Callable[[Sequence[Atoms]], Sequence[BaseFeatures | None]] | None,
) -> list[BaseFeatures | None]:
    """Results of DFTB of each structure; None for a model that takes none."""
    if not model.basis.features:
        return [None] * len(structures)
    found = [] if features is None else features(structures)
    return [
        need_features(found[k] if k < len(found) else None, atoms, model.basis.features)
        for k, atoms in enumerate(structures)
    ]


def same_structure(first: Atoms, second: Atoms) -> bool:
    """Whether two structures are one to `SAME`, atom by atom in their order, lattice vectors aside."""
    if len(first) != len(second) or (first.numbers != second.numbers).any() or (first.pbc != second.pbc).any():
        return False
    if np.abs(first.cell.array - second.cell.array)[first.pbc].max(initial=0.0) > SAME:
        return False
    away = second.positions - first.positions
    if first.pbc.any() and first.cell.rank == 3:
        steps = np.linalg.solve(first.cell.array.T, away.T).T
        away = away - np.where(first.pbc, np.round(steps), 0.0) @ first.cell.array
    return bool(np.abs(away).max() <= SAME)


def _rms(covariance: Array, count: int) -> float:
    return float(np.sqrt(max(float(np.diag(covariance)[:count].mean()), 0.0)))


def _condition(covariance: Array, index: int, noise: float) -> None:
    """Condition a covariance matrix, in place, on an observation with this noise variance."""
    column = covariance[:, index].copy()
    covariance -= np.outer(column, column) / (column[index] + noise)


def joint_covariance(
    model: DeltaModel,
    structures: Sequence[Atoms],
    rows: Sequence[tuple[int, int]],
    inputs: Sequence[BaseFeatures | None] | None = None,
) -> Array:
    """Posterior covariance of energies per atom, (n, n), eV^2, for rows of (structure, level)."""
    inputs = [None] * len(structures) if inputs is None else inputs
    basis, mixing = model.basis, model.hyper.mixing
    elements = len(basis.numbers)
    features, counts = [], []
    for atoms, one in zip(structures, inputs, strict=True):
        row, _ = basis.energy_row(basis.describe(atoms, features=one))
        features.append(row / len(atoms))
        counts.append(basis.counts(atoms) / len(atoms))
    table = np.concatenate([np.array(features), np.array(counts)], axis=1)
    left = prior_covariance(model, structures, inputs) - np.array(features) @ np.array(features).T
    index = np.array([which for which, _ in rows])
    levels = np.array([at for _, at in rows])
    whole = np.concatenate([expand(table[which][None], at, elements, mixing) for which, at in rows])
    half = solve_triangular(model.posterior.triangle, whole.T, trans="T", check_finite=False)
    shared = (mixing @ mixing.T)[levels][:, levels]
    found: Array = half.T @ half + shared * left[index][:, index]
    return found


def prior_covariance(
    model: DeltaModel, structures: Sequence[Atoms], inputs: Sequence[BaseFeatures | None] | None = None
) -> Array:
    """Covariance of energies per atom for unit variance of local energies, from all pairs of atoms, (n, n)."""
    basis = model.basis
    n = len(structures)
    total = np.zeros((n, n))
    blocks = [power_spectra(atoms, basis.settings) for atoms in structures]
    scales = {z: chart.inputs for z, chart in basis.maps.items()}
    given = [None] * n if inputs is None else inputs
    extra = [input_coordinates(scales, atoms, one) for atoms, one in zip(structures, given, strict=True)]
    for number in basis.numbers:
        mine = [(which, block) for which, some in enumerate(blocks) for block in some if block.number == number]
        widths = {pair: values.shape[1] for _, block in mine for pair, values in block.values.items()}
        starts, width = {}, 0
        for pair in sorted(widths):
            starts[pair] = width
            width += widths[pair]
        owner = np.concatenate([np.full(len(block.atoms), which) for which, block in mine] or [np.zeros(0, dtype=int)])
        if not len(owner):
            continue
        if len(owner) > MOST_ATOMS:
            raise ParameterError(
                f"{len(owner)} atoms of one element in all candidates and targets; at most {MOST_ATOMS}: give fewer"
            )
        table = np.zeros((len(owner), width))
        row = 0
        for _, block in mine:
            lengths = block.norms()[:, None]
            for pair, values in block.values.items():
                table[row : row + len(lengths), starts[pair] : starts[pair] + widths[pair]] = values / lengths
            row += len(lengths)
        square = np.maximum(2.0 - 2.0 * (table @ table.T), 0.0) / basis.maps[number].scale ** 2
        more = np.concatenate([extra[which][block.atoms] for which, block in mine])
        for column in more.T:
            square += (column[:, None] - column) ** 2
        kernel, _ = basis.kernel(square)
        member = np.zeros((n, len(owner)))
        member[owner, np.arange(len(owner))] = 1.0
        total += member @ kernel @ member.T
    sizes = np.array([len(atoms) for atoms in structures], dtype=np.float64)
    return total / np.outer(sizes, sizes)
