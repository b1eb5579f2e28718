"""Training: from structures with differences to a calibrated model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from dftbparam.delta.basis import Basis
from dftbparam.delta.descriptors import Array, DescriptorSettings, Integers
from dftbparam.delta.domain import Environments, domain_of
from dftbparam.delta.evidence import (
    HeldOut,
    Hyperparameters,
    Structure,
    cross_validate,
    learning_curve,
    maximise,
    posterior,
)
from dftbparam.delta.features import ElementMap, describe, fit_maps
from dftbparam.delta.inputs import check_features, need_features, refuse_derivatives
from dftbparam.delta.kernels import RadialKernel, choose
from dftbparam.delta.model import DeltaModel, Level
from dftbparam.delta.statistics import Sample, Statistics, collect
from dftbparam.errors import ParameterError, ReferenceDataError

KERNELS: Final = (
    RadialKernel("matern52", 1.0),
    RadialKernel("matern52", 2.0),
    RadialKernel("matern52", 4.0),
    RadialKernel("matern52", 8.0),
    RadialKernel("rbf", 1.0),
    RadialKernel("rbf", 2.0),
    RadialKernel("rbf", 4.0),
)
"""Kernels compared by their marginal likelihood unless one is given."""

CANDIDATES: Final = 4000
"""Environments of an element among which inducing ones are chosen."""

SEARCH_SAMPLES: Final = 200
"""Structures from which the kernel is chosen; all of them train the model."""

SEARCH_INDUCING: Final = 200

FOLDS: Final = 10
"""Groups are held out in at most so many portions."""

DOUBTED: Final = 10
"""Groups that weigh as much as the posterior itself where held-out errors ask for narrower error bars: with six
crystals of Si or Cu in training, unseen ones had 53 and 86 % within one and two of bars narrowed in full, 71 and 96 %
within the posterior's own (three seeds of `benchmarks/delta.py`, delta, 5 to 48 structures). One group alone, frames of
one simulation, hardly narrows them."""

SAME: Final = 1e-3
"""Squared distance, in units of the mean one of training environments, up to which two environments are the same."""

WITHIN: Final = (0.6827, 0.9545)
"""Parts of a normal distribution within one and two standard deviations."""


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained.

    Attributes
    ----------
    kernels
        Candidates; the one of largest marginal likelihood is taken.
    inducing
        Inducing environments at most, over all elements.
    structure
        How levels share what they learn, see `dftbparam.delta.evidence.maximise`; of no meaning for one level.
    compare
        Whether to find out, on the same held-out structures, what a model without the base would have done.
    features
        Results of DFTB that are inputs beside the descriptors, of `dftbparam.delta.inputs.FEATURES`; the model then
        learns and predicts energies alone.
    curves
        Whether to find out how held-out errors fall with the number of structures.
    """

    descriptors: DescriptorSettings = field(default_factory=DescriptorSettings)
    kernels: tuple[RadialKernel, ...] = KERNELS
    inducing: int = 600
    structure: Structure = "autoregressive"
    folds: int = FOLDS
    seed: int = 0
    compare: bool = True
    curves: bool = True
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that train nothing, with `ParameterError`."""
        object.__setattr__(self, "features", check_features(self.features))
        if not self.kernels:
            raise ParameterError("no kernel is given; one at least is needed")
        if not 1 <= self.inducing <= 5000:
            raise ParameterError(f"inducing is {self.inducing}; it must be 1 to 5000")
        if not 2 <= self.folds <= 1000:
            raise ParameterError(f"folds is {self.folds}; it must be 2 to 1000")
        if self.structure not in ("autoregressive", "coregional"):
            raise ParameterError(f"structure is {self.structure!r}; it must be 'autoregressive' or 'coregional'")


def assign_folds(groups: Sequence[str], folds: int, seed: int = 0) -> Integers:
    """Put whole groups into folds of nearly equal size; where there is one group only, its structures in order.

    Returns
    -------
    (n,), numbers from 0; at most ``folds`` different ones, and at least two where there are two structures.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) == 1:
        parts = min(5, folds, len(groups))
        return np.asarray(np.arange(len(groups)) * parts // max(len(groups), 1), dtype=np.int64)
    sizes = np.bincount(index)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(min(folds, len(names)), dtype=np.int64)
    fold = np.zeros(len(names), dtype=np.int64)
    for name in order:
        fold[name] = int(np.argmin(filled))
        filled[fold[name]] += sizes[name]
    return np.asarray(fold[index], dtype=np.int64)


def train(
    samples: Sequence[Sample],
    levels: Sequence[Level] = (Level("reference"),),
    options: TrainingOptions | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] | None = None,
) -> DeltaModel:
    """Train a model.

    Parameters
    ----------
    samples
        Structures with differences, of all levels; data of levels need not be nested.
    levels
        From the lowest to the highest, which is the one that is predicted by default.
    base
        What was subtracted, for the model's file.
    tell
        Called with a line for every step.

    Raises
    ------
    ReferenceDataError
        No structures, numbers that are none, or a level without structures.
    EngineMissing
        gpytorch or featomic is not installed.
    """
    options = options or TrainingOptions()
    tell = tell or (lambda line: None)
    check_samples(samples, levels)
    _check_features(samples, options.features)
    structure: Structure = "single" if len(levels) == 1 else options.structure
    folds = assign_folds([sample.group for sample in samples], options.folds, options.seed)
    maps = _maps(samples, options)
    tell(f"descriptors: {', '.join(f'{z}: {chart.axes.shape[1]} axes' for z, chart in maps.items())}")
    environments = _environments(samples, folds, options, maps)
    kernel, compared = _choose_kernel(samples, folds, len(levels), structure, options, maps, environments, tell)
    basis, origins = _basis(kernel, options.descriptors, maps, environments, options.inducing)
    tell(f"kernel {kernel.kind}, length {kernel.length:g}; {basis.size} inducing environments")
    statistics = _collect(basis, origins, environments, samples, folds, len(levels))
    hyper = maximise(statistics, structure)
    held_out = cross_validate(statistics, hyper)
    grouped = len({sample.group for sample in samples}) > 1
    metrics: dict[str, Any] = {"grouped": grouped, "folds": int(folds.max()) + 1, "levels": {}}
    finished = []
    for at, level in enumerate(levels):
        groups = len({sample.group for sample in samples if sample.level == at})
        factor, scores = calibrate(held_out, hyper, at, groups)
        finished.append(Level(level.name, level.cost, factor))
        metrics["levels"][level.name] = scores
        tell(f"{level.name}: held-out error {1e3 * scores['rmse']:.1f} meV/atom rms, error bars times {factor:.2f}")
    other = None
    if options.compare:
        # Without DFTB there are no results of it either.
        plain = _plain_statistics(samples, folds, len(levels), kernel, options) if options.features else statistics
        other = plain.without_base()
    without = None if other is None else (other, maximise(other, structure))
    if without is not None:
        _compare(metrics, cross_validate(*without), levels)
    metrics["held_out"] = _held_out_record(samples, statistics.energies, held_out, hyper, finished)
    if options.curves:
        metrics["learning"] = _curves(levels, learning_curve(statistics, hyper), without and learning_curve(*without))
    domains = tuple(
        domain_of(at, basis.points, origins, environments, [s.atoms for s in samples if s.level == at])
        for at in range(len(levels))
    )
    return DeltaModel(
        basis,
        structure,
        hyper,
        posterior(statistics, hyper),
        statistics.offsets,
        tuple(finished),
        domains,
        dict(base or {}),
        metrics,
        _provenance(samples, options.seed, compared),
    )


def _provenance(samples: Sequence[Sample], seed: int, compared: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "samples": len(samples),
        "samples_with_forces": sum(sample.forces is not None for sample in samples),
        "samples_with_stress": sum(sample.stress is not None for sample in samples),
        "groups": sorted({sample.group for sample in samples}),
        "data_sha256": data_checksum(samples),
        "seed": seed,
        "kernels_compared": compared,
        "versions": versions(),
    }


def _check_features(samples: Sequence[Sample], names: Sequence[str]) -> None:
    """Raise `ParameterError` where inputs are missing, or forces would have to be learnt that cannot be predicted."""
    for sample in samples if names else ():
        need_features(sample.features, sample.atoms, names)
        if sample.forces is not None or sample.stress is not None:
            refuse_derivatives(names)


def _maps(samples: Sequence[Sample], options: TrainingOptions) -> dict[int, ElementMap]:
    features = [sample.features for sample in samples if sample.features is not None]
    return fit_maps(
        [sample.atoms for sample in samples],
        options.descriptors,
        seed=options.seed,
        inputs=options.features,
        features=features if options.features else (),
    )


def _plain_statistics(
    samples: Sequence[Sample], folds: Integers, levels: int, kernel: RadialKernel, options: TrainingOptions
) -> Statistics:
    """Collect the same observations for a model without inputs from DFTB."""
    options = replace(options, features=())
    maps = _maps(samples, options)
    environments = _environments(samples, folds, options, maps)
    basis, origins = _basis(kernel, options.descriptors, maps, environments, options.inducing)
    return _collect(basis, origins, environments, samples, folds, levels)


def _collect(
    basis: Basis,
    origins: Mapping[int, Environments],
    environments: Mapping[int, Environments],
    samples: Sequence[Sample],
    folds: Integers,
    levels: int,
) -> Statistics:
    """Collect observations, and find for each fold what a model without its inducing environments has.

    One stays where another fold has the same environment, which would have been chosen in its place; and all of an
    element stay where none would, as long as other folds have environments of it.
    """
    apart = {number: _apart(origins[number], environments[number]) for number in origins}

    def subspace(fold: int) -> Array:
        kept = {}
        for number, some in origins.items():
            stays = (some.folds != fold) | (apart[number] <= SAME)
            if not stays.any() and (environments[number].folds != fold).any():
                stays[:] = True
            kept[number] = np.flatnonzero(stays)
        return basis.subspace(kept)

    return replace(collect(basis, samples, [int(fold) for fold in folds], levels), subspace=subspace)


def _apart(chosen: Environments, all_of_them: Environments) -> Array:
    """Squared distance of each chosen environment to the nearest one of another fold, (m,); infinite without one."""
    squares = np.einsum("nq,nq->n", all_of_them.x, all_of_them.x)
    found = np.full(len(chosen.x), np.inf)
    for k, (x, fold) in enumerate(zip(chosen.x, chosen.folds, strict=True)):
        others = all_of_them.folds != fold
        if others.any():
            found[k] = max(float((squares[others] - 2.0 * (all_of_them.x[others] @ x)).min() + x @ x), 0.0)
    return found


def check_samples(samples: Sequence[Sample], levels: Sequence[Level]) -> None:
    """Raise `ReferenceDataError` for numbers that are none, shapes that do not fit, and levels without structures."""
    if not samples:
        raise ReferenceDataError("no structures to train on")
    for index, sample in enumerate(samples):
        where = sample.source or f"structure {index}"
        if not 0 <= sample.level < len(levels):
            raise ReferenceDataError(f"{where}: level {sample.level}, but there are {len(levels)}", source=where)
        for name, values, shape in (
            ("energy", sample.energy, ()),
            ("forces", sample.forces, (len(sample.atoms), 3)),
            ("stress", sample.stress, (6,)),
        ):
            if values is not None and (np.shape(values) != shape or not np.isfinite(values).all()):
                raise ReferenceDataError(f"{where}: {name} are not {shape or 'one'} finite numbers", source=where)
        if sample.stress is not None and not sample.atoms.pbc.all():
            raise ReferenceDataError(f"{where}: stress of a structure that is not periodic", source=where)
    for at, level in enumerate(levels):
        if not any(sample.level == at for sample in samples):
            raise ReferenceDataError(f"no structure has the level {level.name!r}", level=level.name)


def calibrate(held_out: HeldOut, hyper: Hyperparameters, level: int, groups: int) -> tuple[float, dict[str, Any]]:
    """Find the factor of standard deviations that fits held-out errors of one level, and the errors themselves.

    The factor is the geometric mean of those that would put 68.3 % within one and 95.4 % within two standard
    deviations: errors have heavier tails than a normal distribution, and the two disagree a little. Errors within a
    group go together, and few groups seldom have the one that is far off: a factor below one, bars narrower than the
    posterior's own, is believed as far as there are groups, its logarithm times G / (G + `DOUBTED`).
    """
    mine = held_out.levels == level
    errors = held_out.errors[mine]
    std = np.sqrt(held_out.variances[mine] + hyper.noise[level, "energy"] ** 2)
    ratio = np.abs(errors) / std
    factor = 1.0
    if len(errors) >= 5:
        one, two = (float(np.quantile(ratio, part)) for part in WITHIN)
        factor = float(np.clip(np.sqrt(one * two / 2.0), 0.1, 10.0))
        if factor < 1.0:
            factor = float(factor ** (groups / (groups + DOUBTED)))
    within = [float(np.mean(ratio <= k * factor)) for k in (1.0, 2.0)]
    return factor, {
        "structures": len(errors),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(np.abs(errors))),
        "within_one_std": within[0],
        "within_two_std": within[1],
        "within_one_std_uncalibrated": float(np.mean(ratio <= 1.0)),
        "calibration": factor,
        "noise": {kind: value for (at, kind), value in hyper.noise.items() if at == level},
    }


def _compare(metrics: dict[str, Any], direct: HeldOut, levels: Sequence[Level]) -> None:
    """Write beside each level's error that of a model without the base, and whether the base hurts."""
    for at, level in enumerate(levels):
        errors = direct.errors[direct.levels == at]
        scores = metrics["levels"][level.name]
        scores["rmse_without_base"] = float(np.sqrt(np.mean(errors**2)))
        scores["negative_transfer"] = scores["rmse"] > scores["rmse_without_base"]


def _held_out_record(
    samples: Sequence[Sample], energies: Array, held_out: HeldOut, hyper: Hyperparameters, levels: Sequence[Level]
) -> dict[str, Any]:
    """Write down every held-out energy of each level, for plots: eV/atom without element offsets, six digits."""
    record = {}
    for at, level in enumerate(levels):
        mine = np.flatnonzero(held_out.levels == at)
        names, index = np.unique([samples[int(k)].group for k in mine], return_inverse=True)
        std = level.calibration * np.sqrt(held_out.variances[mine] + hyper.noise[at, "energy"] ** 2)
        record[level.name] = {
            "groups": [str(name) for name in names],
            "group": [int(k) for k in index],
            "reference": _digits(energies[mine]),
            "predicted": _digits(energies[mine] + held_out.errors[mine]),
            "std": _digits(std),
        }
    return record


def _digits(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _curves(
    levels: Sequence[Level],
    own: Sequence[Sequence[tuple[float, float]]],
    other: Sequence[Sequence[tuple[float, float]]] | None,
) -> dict[str, Any]:
    """Learning curves of each level: structures and error, of the model and of one without the base."""
    return {
        level.name: {
            "model": [list(point) for point in own[at]],
            "without_base": None if other is None else [list(point) for point in other[at]],
        }
        for at, level in enumerate(levels)
    }


def _environments(
    samples: Sequence[Sample], folds: Integers, options: TrainingOptions, maps: Mapping[int, ElementMap]
) -> dict[int, Environments]:
    """Different environments of each element, some `CANDIDATES` of them, of which every level keeps its share."""
    found: dict[int, list[Array]] = {}
    for sample, fold in zip(samples, folds, strict=True):
        for local in describe(sample.atoms, options.descriptors, maps, features=sample.features):
            _, first = np.unique(np.round(local.x, 6), axis=0, return_index=True)
            rows = local.x[np.sort(first)]
            origin = np.tile([float(fold), float(sample.level)], (len(rows), 1))
            found.setdefault(local.number, []).append(np.column_stack([rows, origin]))
    rng = np.random.default_rng(options.seed)
    chosen = {}
    for number, tables in sorted(found.items()):
        table = np.concatenate(tables)
        if len(table) > CANDIDATES:
            table = table[_thinned(table[:, -1], rng)]
        x = np.ascontiguousarray(table[:, :-2])
        chosen[number] = Environments(x, table[:, -2].astype(np.int64), table[:, -1].astype(np.int64))
    return chosen


def _thinned(levels: Array, rng: np.random.Generator) -> Integers:
    """Rows of about `CANDIDATES` environments; a level of few structures keeps enough to know its domain."""
    names = np.unique(levels)
    kept = []
    for level in names:
        mine = np.flatnonzero(levels == level)
        share = max(CANDIDATES * len(mine) // len(levels), CANDIDATES // (4 * len(names)))
        kept.append(rng.choice(mine, share, replace=False) if len(mine) > share else mine)
    return np.asarray(np.sort(np.concatenate(kept)), dtype=np.int64)


def _basis(
    kernel: RadialKernel,
    descriptors: DescriptorSettings,
    maps: Mapping[int, ElementMap],
    environments: Mapping[int, Environments],
    inducing: int,
) -> tuple[Basis, dict[int, Environments]]:
    """Choose inducing environments, and say where they are from; few of an element leave their share to others."""
    points, origins = {}, {}
    left = inducing
    order = sorted(environments, key=lambda z: len(environments[z].x))
    for position, number in enumerate(order):
        table = environments[number]
        picked = choose(kernel, table.x, max(1, left // (len(order) - position)))
        points[number], origins[number] = table.x[picked], table.take(picked)
        left -= len(picked)
    return Basis(descriptors, dict(maps), kernel, points), origins


def _choose_kernel(
    samples: Sequence[Sample],
    folds: Integers,
    levels: int,
    structure: Structure,
    options: TrainingOptions,
    maps: Mapping[int, ElementMap],
    environments: Mapping[int, Environments],
    tell: Callable[[str], None],
) -> tuple[RadialKernel, list[dict[str, Any]]]:
    if len(options.kernels) == 1:
        return options.kernels[0], []
    rng = np.random.default_rng(options.seed)
    some: list[int] = []
    for level in range(levels):
        mine = np.flatnonzero([sample.level == level for sample in samples])
        # Every level keeps its share, and at least ten.
        share = max(10, SEARCH_SAMPLES * len(mine) // len(samples))
        some += [int(i) for i in (rng.choice(mine, share, replace=False) if len(mine) > share else mine)]
    some.sort()
    compared: list[dict[str, Any]] = []
    for kernel in options.kernels:
        basis, _ = _basis(kernel, options.descriptors, maps, environments, min(options.inducing, SEARCH_INDUCING))
        statistics = collect(basis, [samples[i] for i in some], [int(folds[i]) for i in some], levels)
        hyper = maximise(statistics, structure, steps=40)
        compared.append({"kind": kernel.kind, "length": kernel.length, "evidence": hyper.evidence})
        tell(f"kernel {kernel.kind}, length {kernel.length:g}: log evidence {hyper.evidence:.1f}")
    best = int(np.argmax([entry["evidence"] for entry in compared]))
    return options.kernels[best], compared


def data_checksum(samples: Sequence[Sample]) -> str:
    """SHA-256 of structures and values in order, rounded to 1e-9: the same data give the same number."""
    digest = hashlib.sha256()
    for sample in samples:
        tables: tuple[Any, ...] = (
            sample.atoms.numbers, sample.atoms.positions, sample.atoms.cell.array, sample.atoms.pbc,
            sample.energy, sample.forces, sample.stress, sample.level,
        )  # fmt: skip
        for values in tables:
            digest.update(b"-" if values is None else np.round(np.asarray(values, dtype=np.float64), 9).tobytes())
        digest.update(sample.group.encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of everything that decides a model's numbers."""
    import dftbparam

    found = {"dftbparam": dftbparam.__version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "torch", "gpytorch", "featomic"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
