"""Training: from structures with differences to a calibrated model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dftbparam.delta.basis import Basis
from dftbparam.delta.descriptors import Array, DescriptorSettings, Integers
from dftbparam.delta.domain import Domain, reach_of, surroundings
from dftbparam.delta.evidence import (
    HeldOut,
    Hyperparameters,
    Structure,
    cross_validate,
    maximise,
    posterior,
)
from dftbparam.delta.features import ElementMap, describe, fit_maps
from dftbparam.delta.kernels import RadialKernel, choose
from dftbparam.delta.model import DeltaModel, Level
from dftbparam.delta.statistics import Sample, collect
from dftbparam.errors import ParameterError, ReferenceDataError

KERNELS: Final = (
    RadialKernel("matern52", 1.0),
    RadialKernel("matern52", 2.0),
    RadialKernel("matern52", 4.0),
    RadialKernel("rbf", 1.0),
    RadialKernel("rbf", 2.0),
)
"""Kernels compared by their marginal likelihood unless one is given."""

CANDIDATES: Final = 4000
"""Environments of an element among which inducing ones are chosen."""

SEARCH_SAMPLES: Final = 200
"""Structures from which the kernel is chosen; all of them train the model."""

SEARCH_INDUCING: Final = 200

FOLDS: Final = 10
"""Groups are held out in at most so many portions."""

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
    """

    descriptors: DescriptorSettings = field(default_factory=DescriptorSettings)
    kernels: tuple[RadialKernel, ...] = KERNELS
    inducing: int = 600
    structure: Structure = "autoregressive"
    folds: int = FOLDS
    seed: int = 0
    compare: bool = True

    def __post_init__(self) -> None:
        """Refuse values that train nothing, with `ParameterError`."""
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
    structure: Structure = "single" if len(levels) == 1 else options.structure
    folds = assign_folds([sample.group for sample in samples], options.folds, options.seed)
    maps = fit_maps([sample.atoms for sample in samples], options.descriptors, seed=options.seed)
    tell(f"descriptors: {', '.join(f'{z}: {chart.axes.shape[1]} axes' for z, chart in maps.items())}")
    environments = _environments(samples, folds, options, maps)
    kernel, compared = _choose_kernel(samples, folds, len(levels), structure, options, maps, environments, tell)
    basis, origins = _basis(kernel, options.descriptors, maps, environments, options.inducing)
    tell(f"kernel {kernel.kind}, length {kernel.length:g}; {basis.size} inducing environments")
    statistics = collect(basis, samples, [int(fold) for fold in folds], len(levels))
    hyper = maximise(statistics, structure)
    held_out = cross_validate(statistics, hyper)
    grouped = len({sample.group for sample in samples}) > 1
    metrics: dict[str, Any] = {"grouped": grouped, "folds": int(folds.max()) + 1, "levels": {}}
    finished = []
    for at, level in enumerate(levels):
        factor, scores = calibrate(held_out, hyper, at)
        finished.append(Level(level.name, level.cost, factor))
        metrics["levels"][level.name] = scores
        tell(f"{level.name}: held-out error {1e3 * scores['rmse']:.1f} meV/atom rms, error bars times {factor:.2f}")
    other = statistics.without_base() if options.compare else None
    if other is not None:
        _compare(metrics, cross_validate(other, maximise(other, structure)), levels)
    domain = Domain(
        {z: reach_of(basis.points[z], origins[z], *environments[z]) for z in basis.numbers},
        *surroundings([sample.atoms for sample in samples]),
    )
    return DeltaModel(
        basis,
        structure,
        hyper,
        posterior(statistics, hyper),
        statistics.offsets,
        tuple(finished),
        domain,
        dict(base or {}),
        metrics,
        {
            "samples": len(samples),
            "samples_with_forces": sum(sample.forces is not None for sample in samples),
            "samples_with_stress": sum(sample.stress is not None for sample in samples),
            "groups": sorted({sample.group for sample in samples}),
            "data_sha256": data_checksum(samples),
            "seed": options.seed,
            "kernels_compared": compared,
            "versions": versions(),
        },
    )


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


def calibrate(held_out: HeldOut, hyper: Hyperparameters, level: int) -> tuple[float, dict[str, Any]]:
    """Find the factor of standard deviations that fits held-out errors of one level, and the errors themselves.

    The factor is the geometric mean of those that would put 68.3 % within one and 95.4 % within two standard
    deviations: errors have heavier tails than a normal distribution, and the two disagree a little.
    """
    mine = held_out.levels == level
    errors = held_out.errors[mine]
    std = np.sqrt(held_out.variances[mine] + hyper.noise[level, "energy"] ** 2)
    ratio = np.abs(errors) / std
    factor = 1.0
    if len(errors) >= 5:
        one, two = (float(np.quantile(ratio, part)) for part in WITHIN)
        factor = float(np.clip(np.sqrt(one * two / 2.0), 0.1, 10.0))
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


Environments = dict[int, tuple[Array, Integers]]
"""Per atomic number coordinates (n, q) of training environments, and their folds."""


def _environments(
    samples: Sequence[Sample], folds: Integers, options: TrainingOptions, maps: Mapping[int, ElementMap]
) -> Environments:
    """Different environments of each element, at most `CANDIDATES`."""
    found: dict[int, list[Array]] = {}
    for sample, fold in zip(samples, folds, strict=True):
        for local in describe(sample.atoms, options.descriptors, maps):
            _, first = np.unique(np.round(local.x, 6), axis=0, return_index=True)
            rows = local.x[np.sort(first)]
            found.setdefault(local.number, []).append(np.column_stack([rows, np.full(len(rows), float(fold))]))
    rng = np.random.default_rng(options.seed)
    chosen = {}
    for number, tables in sorted(found.items()):
        table = np.concatenate(tables)
        if len(table) > CANDIDATES:
            table = table[np.sort(rng.choice(len(table), CANDIDATES, replace=False))]
        chosen[number] = (np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.int64))
    return chosen


def _basis(
    kernel: RadialKernel,
    descriptors: DescriptorSettings,
    maps: Mapping[int, ElementMap],
    environments: Environments,
    inducing: int,
) -> tuple[Basis, dict[int, Integers]]:
    """Choose inducing environments; elements with few of them leave their share to the others."""
    points, origins = {}, {}
    left = inducing
    order = sorted(environments, key=lambda z: len(environments[z][0]))
    for position, number in enumerate(order):
        table, folds = environments[number]
        picked = choose(kernel, table, max(1, left // (len(order) - position)))
        points[number], origins[number] = table[picked], folds[picked]
        left -= len(picked)
    return Basis(descriptors, dict(maps), kernel, points), origins


def _choose_kernel(
    samples: Sequence[Sample],
    folds: Integers,
    levels: int,
    structure: Structure,
    options: TrainingOptions,
    maps: Mapping[int, ElementMap],
    environments: Environments,
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
