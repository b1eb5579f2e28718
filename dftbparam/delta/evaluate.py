"""How good a model is on structures that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dftbparam.delta.descriptors import Array
from dftbparam.delta.model import DeltaModel
from dftbparam.delta.statistics import Sample

LEVELS_OF_CONFIDENCE: Final = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Parts of a normal distribution at which calibration is looked at."""


@dataclass(frozen=True)
class Evaluation:
    """Errors of one level on some structures; prediction minus reference.

    Attributes
    ----------
    energies, predicted, stds
        (n,), eV/atom: reference and prediction of the whole energy (base included), and error bar.
    outside
        (n,): whether the structure is outside the training domain.
    forces, stress
        All components of all structures that have them, eV/Angstrom and eV/Angstrom^3: (k, 2), reference, prediction.
    """

    level: str
    sources: tuple[str, ...]
    groups: tuple[str, ...]
    energies: Array
    predicted: Array
    stds: Array
    base: Array
    outside: tuple[bool, ...]
    forces: Array
    stress: Array

    @property
    def errors(self) -> Array:
        """(n,), eV/atom."""
        return self.predicted - self.energies

    def relative_errors(self) -> Array:
        """Errors within each group, whose mean is taken out: what energy differences of one crystal have."""
        errors = self.errors.copy()
        names = np.asarray(self.groups)
        for name in set(self.groups):
            errors[names == name] -= errors[names == name].mean()
        return errors

    def scores(self) -> dict[str, Any]:
        """Figures of the whole, JSON."""
        return {
            "level": self.level,
            **_scores(self.errors, self.stds),
            "rmse_within_groups": _rms(self.relative_errors()),
            "outside": int(sum(self.outside)),
            "rmse_forces": _rms(self.forces[:, 1] - self.forces[:, 0]) if len(self.forces) else None,
            "rmse_stress": _rms(self.stress[:, 1] - self.stress[:, 0]) if len(self.stress) else None,
            "calibration": [[p, share] for p, share in self.calibration()],
        }

    def by_group(self) -> list[dict[str, Any]]:
        """The figures of each group, in alphabetical order."""
        names = np.asarray(self.groups)
        found = []
        for name in sorted(set(self.groups)):
            mine = names == name
            outside = sum(flag for flag, group in zip(self.outside, self.groups, strict=True) if group == name)
            found.append({"group": name, **_scores(self.errors[mine], self.stds[mine]), "outside": int(outside)})
        return found

    def calibration(self) -> list[tuple[float, float]]:
        """Part of errors within the interval that should hold a part p of them, for several p."""
        from scipy.special import erfinv

        ratio = np.abs(self.errors) / self.stds
        return [(p, float(np.mean(ratio <= np.sqrt(2.0) * erfinv(p)))) for p in LEVELS_OF_CONFIDENCE]


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _scores(errors: Array, stds: Array) -> dict[str, Any]:
    ratio = np.abs(errors) / stds
    return {
        "structures": len(errors),
        "rmse": _rms(errors),
        "mae": float(np.mean(np.abs(errors))),
        "mean": float(np.mean(errors)),
        "largest": float(np.max(np.abs(errors))),
        "mean_std": _rms(stds),
        "within_one_std": float(np.mean(ratio <= 1.0)),
        "within_two_std": float(np.mean(ratio <= 2.0)),
    }


def evaluate(
    model: DeltaModel,
    samples: Sequence[Sample],
    *,
    level: str | None = None,
    tell: Callable[[int], None] | None = None,
) -> Evaluation:
    """Predict structures and compare with their references.

    Parameters
    ----------
    samples
        From `dftbparam.delta.data.differences` with the model's base; ``Sample.level`` is not looked at.
    level
        Which of the model's levels the references are, the highest unless named.
    """
    at = model.levels[model.level(level)].name
    rows, forces, stress = [], [np.zeros((0, 2))], [np.zeros((0, 2))]
    outside = []
    for index, sample in enumerate(samples, start=1):
        # A model without derivatives is judged by its energies.
        derivatives = not model.basis.features and (sample.forces is not None or sample.stress is not None)
        found = model.predict(sample.atoms, at, derivatives=derivatives, features=sample.features)
        n = len(sample.atoms)
        rows.append(
            (
                (sample.energy + sample.base_energy) / n,
                (found.energy + sample.base_energy) / n,
                found.energy_std,
                sample.base_energy / n,
            )
        )
        outside.append(bool(found.outside))
        for wanted, got, below, store in (
            (sample.forces, found.forces, sample.base_forces, forces),
            (sample.stress, found.stress, sample.base_stress, stress),
        ):
            if wanted is not None and got is not None:
                extra = np.zeros_like(wanted) if below is None else below
                store.append(np.stack([(wanted + extra).ravel(), (got + extra).ravel()], axis=1))
        if tell is not None:
            tell(index)
    energies, predicted, stds, base = np.array(rows).reshape(-1, 4).T
    return Evaluation(
        at,
        tuple(sample.source for sample in samples),
        tuple(sample.group for sample in samples),
        energies,
        predicted,
        stds,
        base,
        tuple(outside),
        np.concatenate(forces),
        np.concatenate(stress),
    )
