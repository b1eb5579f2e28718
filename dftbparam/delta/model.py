"""The trained model: corrections of energy, forces and stress with their error bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dftbparam.delta.basis import Basis
from dftbparam.delta.descriptors import Array
from dftbparam.delta.domain import Domain, outside
from dftbparam.delta.evidence import OFFSET_WIDTH, Hyperparameters, Posterior, Structure, expand
from dftbparam.delta.inputs import BaseFeatures
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Level:
    """A level of theory: its name, what one structure costs at it (any unit, the same for all), its error bars.

    ``calibration`` multiplies standard deviations so that held-out errors fit them; 1 where that could not be checked.
    """

    name: str
    cost: float = 1.0
    calibration: float = 1.0


@dataclass(frozen=True)
class Prediction:
    """What a model adds to the base calculation of one structure.

    Attributes
    ----------
    energy
        Total, eV.
    forces, stress
        (n, 3), eV/Angstrom, the exact derivative of ``energy``; (6,) in Voigt order, eV/Angstrom^3, ASE's sign. None
        where derivatives were not asked for, and of the stress where the structure is not periodic in all directions.
    energy_std
        Calibrated standard deviation of base plus correction against the reference, eV/atom.
    outside
        Why the structure is outside the domain of the training data of the level predicted; empty where it is inside.
    outside_levels
        The same for each level of the model by its name, the level predicted included.
    """

    energy: float
    energy_std: float
    outside: tuple[str, ...]
    forces: Array | None = None
    stress: Array | None = None
    outside_levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DeltaModel:
    """A sparse Gaussian process of local energies for one or more levels of theory.

    Attributes
    ----------
    base
        What the correction is added to, see `dftbparam.delta.data.Base.record`; empty for a model that learns without.
    offsets
        (levels, elements), eV per atom, subtracted before training; posterior shifts of them are in ``posterior``.
    domains
        What each level has been trained on.
    metrics
        Held-out errors and coverage by level, see `dftbparam.delta.training.train`.
    provenance
        Data checksum, versions, seed, options.
    """

    basis: Basis
    structure: Structure
    hyper: Hyperparameters
    posterior: Posterior
    offsets: Array
    levels: tuple[Level, ...]
    domains: tuple[Domain, ...]
    base: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def level(self, name: str | None = None) -> int:
        """Index of a level, the highest unless named; `ParameterError` says which there are."""
        names = [level.name for level in self.levels]
        if name is None:
            return len(names) - 1
        if name not in names:
            raise ParameterError(f"the model has no level {name!r}; it has {', '.join(names)}", name=name)
        return names.index(name)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Elements that the model knows."""
        from ase.data import chemical_symbols

        return tuple(str(chemical_symbols[z]) for z in self.basis.numbers)

    def element_offsets(self, level: int) -> Array:
        """Energy of each element at a level with what training has added, (elements,), eV."""
        found: Array = self.offsets[level] + OFFSET_WIDTH * self._shift(level)
        return found

    def _shift(self, level: int) -> Array:
        elements = len(self.basis.numbers)
        start = self.hyper.mixing.shape[1] * self.basis.size + level * elements
        found: Array = self.posterior.mean[start : start + elements]
        return found

    @cached_property
    def _weights(self) -> dict[int, dict[int, Array]]:
        """Local weights by level and element; filled as they are asked for."""
        return {}

    def weights(self, level: int) -> dict[int, Array]:
        """Weights w of each element at a level."""
        if level not in self._weights:
            latent = self.hyper.mixing.shape[1]
            blocks = self.posterior.mean[: latent * self.basis.size].reshape(latent, self.basis.size)
            self._weights[level] = self.basis.local_weights(self.hyper.mixing[level] @ blocks)
        return self._weights[level]

    def predict(
        self,
        atoms: Atoms,
        level: str | None = None,
        *,
        derivatives: bool = True,
        features: BaseFeatures | None = None,
    ) -> Prediction:
        """Predict the correction of one structure at a level, the highest unless named.

        Parameters
        ----------
        features
            Results of DFTB for this structure, where the model takes some as inputs.

        Raises
        ------
        ParameterError
            No such level; features are missing; derivatives of a model that has none (`dftbparam.delta.inputs`).
        ElementError
            An element that the model was not trained on.
        StructureError
            See `dftbparam.delta.descriptors.power_spectra`.
        """
        at = self.level(level)
        weights = self.weights(at)
        counts = self.basis.counts(atoms)
        energy = float(counts @ self.element_offsets(at))
        forces, strain = np.zeros((len(atoms), 3)), np.zeros(6)
        local = self.basis.describe(atoms, derivatives=derivatives, project=False, features=features)
        for one in local:
            if derivatives:
                energies, some_forces, some_strain = self.basis.derivatives(one, weights[one.number], len(atoms))
                forces += some_forces
                strain += some_strain
            else:
                energies = self.basis.energies(one, weights[one.number])
            energy += float(energies.sum())
        variance = self.variance(*self.basis.energy_row(local), counts, at) / len(atoms) ** 2
        noise = self.hyper.noise.get((at, "energy"), 0.0)
        std = self.levels[at].calibration * float(np.sqrt(variance + noise**2))
        reasons = outside(self.basis, self.domains, atoms, local)
        by_level = {one.name: found for one, found in zip(self.levels, reasons, strict=True)}
        if not derivatives:
            return Prediction(energy, std, reasons[at], outside_levels=by_level)
        stress = strain / abs(float(np.linalg.det(atoms.cell.array))) if atoms.pbc.all() else None
        return Prediction(energy, std, reasons[at], forces, stress, by_level)

    def variance(self, row: Array, unexplained: float, counts: Array, level: int) -> float:
        """Variance of a total energy without noise and calibration, eV^2; ``row`` and ``unexplained`` as in `Rows`."""
        whole = expand(np.concatenate([row, counts])[None], level, len(counts), self.hyper.mixing)
        prior = float((self.hyper.mixing[level] ** 2).sum())
        return float(self.posterior.variance(whole)[0]) + prior * unexplained
