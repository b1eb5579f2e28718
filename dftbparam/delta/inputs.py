"""DFTB's own results as inputs of a model: charges of atoms, band energy, Fermi level.

Each becomes one more coordinate of every atom's environment, beside the principal axes of its descriptor: its charge
q_i is the atom's own, the band energy per atom and the Fermi level are those of the whole structure, so that the local
energy is f(d_i, q_i, ε_band, ε_F) and a supercell has the energy of its cells:

    x_k = w (v_k − μ_k) / (√2 σ_k)

with mean μ and standard deviation σ over the training environments of an element. The band energy is taken without
what the elements of the structure explain of it, Σ_i e(Z_i), by least squares over the training data.

These numbers follow from DFTB's self-consistency. Their derivatives would need its response to displacements, which
engines do not give, so that a model with such inputs learns and predicts energies alone, and refuses forces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dftbparam.delta.descriptors import Array
from dftbparam.errors import ParameterError
from dftbparam.units import HARTREE

if TYPE_CHECKING:
    from ase import Atoms

    from dftbparam.engine.base import Result

FEATURES: Final = ("charges", "band-energy", "fermi-level")
"""Names of the inputs: net charges in units of the elementary charge, eV/atom, eV."""

WEIGHT: Final = 0.5
"""Root mean squared distance of two training environments in one input, in units of that of their descriptors (1): an
input can tell environments apart, and does not outvote the descriptor, which it mostly follows from."""

LEAST: Final = 0.01
"""Least standard deviation that is divided by (e, eV): below it values are the same for chemistry, as all charges of an
elemental crystal are, and numerical noise must not become a coordinate."""


@dataclass(frozen=True)
class BaseFeatures:
    """What DFTB found in one structure.

    Attributes
    ----------
    charges
        (n,), net charge of each atom in units of the elementary charge.
    band_energy
        Tr(P H0) of the whole, eV.
    fermi_level
        eV.
    """

    charges: Array
    band_energy: float
    fermi_level: float

    @classmethod
    def of(cls, result: Result) -> BaseFeatures:
        """Take them from an engine's result."""
        return cls(
            np.asarray(result.charges, dtype=np.float64), result.band_energy * HARTREE, result.fermi_level * HARTREE
        )


@dataclass(frozen=True)
class InputScale:
    """How the inputs of one element become coordinates.

    Attributes
    ----------
    names
        Of `FEATURES`, in their order.
    mean, scale
        (k,); the scale is √2 σ / w.
    band_offset
        e(Z), eV.
    """

    names: tuple[str, ...] = ()
    mean: Array = field(default_factory=lambda: np.zeros(0))
    scale: Array = field(default_factory=lambda: np.zeros(0))
    band_offset: float = 0.0

    def record(self) -> dict[str, Any]:
        """Return JSON; the names stand once in a model's file."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "band_offset": self.band_offset}

    @classmethod
    def from_record(cls, names: Sequence[str], record: Mapping[str, Any]) -> InputScale:
        """Read `record`'s JSON."""
        mean, scale = (np.array(record[key], dtype=np.float64) for key in ("mean", "scale"))
        return cls(check_features(names), mean, scale, float(record["band_offset"]))


def check_features(names: Sequence[str]) -> tuple[str, ...]:
    """Put names of inputs in order, each once; `ParameterError` for one that there is not."""
    for name in names:
        if name not in FEATURES:
            raise ParameterError(f"feature {name!r}; it must be one of {', '.join(FEATURES)}", name=name)
    return tuple(name for name in FEATURES if name in names)


def need_features(features: BaseFeatures | None, atoms: Atoms, names: Sequence[str]) -> BaseFeatures:
    """Return the features of a structure; `ParameterError` where they are missing, no numbers, or another structure's.

    Parameters
    ----------
    names
        Of the inputs that a model has, for the message.
    """
    if features is None:
        raise ParameterError(f"the model takes DFTB's {', '.join(names)} as input, and none are given")
    if features.charges.shape != (len(atoms),):
        raise ParameterError(f"charges of {len(features.charges)} atoms are given for a structure of {len(atoms)}")
    if not np.isfinite([*features.charges, features.band_energy, features.fermi_level]).all():
        raise ParameterError("charges, band energy or Fermi level are not all numbers")
    return features


def refuse_derivatives(names: Sequence[str]) -> None:
    """Raise `ParameterError` where a model has inputs without derivatives."""
    if names:
        raise ParameterError(
            f"no forces or stress: the model takes DFTB's {', '.join(names)} as input, whose derivatives are not "
            "available; it gives energies, and a model trained without --features gives forces"
        )


def fit_inputs(
    structures: Sequence[Atoms], features: Sequence[BaseFeatures], names: Sequence[str]
) -> dict[int, InputScale]:
    """Find mean and scale of the inputs for each element of some structures."""
    names = check_features(names)
    numbers = sorted({int(z) for atoms in structures for z in atoms.numbers})
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in numbers] for atoms in structures], dtype=float)
    sizes = counts.sum(axis=1)
    bands = np.array([one.band_energy for one in features])
    offsets = np.linalg.lstsq(counts / sizes[:, None], bands / sizes, rcond=1e-8)[0]
    left = {z: InputScale(names, band_offset=float(e)) for z, e in zip(numbers, offsets, strict=True)}
    values: dict[int, list[Array]] = {z: [] for z in numbers}
    for atoms, one in zip(structures, features, strict=True):
        table = _values(left, atoms, need_features(one, atoms, names))
        for z in values:
            values[z].append(table[atoms.numbers == z])
    found = {}
    for z, tables in values.items():
        table = np.concatenate(tables)
        scale = np.sqrt(2.0) * np.maximum(table.std(axis=0), LEAST) / WEIGHT
        found[z] = InputScale(names, table.mean(axis=0), scale, left[z].band_offset)
    return found


def input_coordinates(scales: Mapping[int, InputScale], atoms: Atoms, features: BaseFeatures | None) -> Array:
    """Coordinates of all atoms of a structure, (n, k); no columns for a model without inputs.

    Raises
    ------
    ParameterError
        See `need_features`.
    """
    names = next(iter(scales.values())).names
    if not names:
        return np.zeros((len(atoms), 0))
    table = _values(scales, atoms, need_features(features, atoms, names))
    for z in {int(z) for z in atoms.numbers}:
        mine = atoms.numbers == z
        table[mine] = (table[mine] - scales[z].mean) / scales[z].scale
    return table


def _values(scales: Mapping[int, InputScale], atoms: Atoms, features: BaseFeatures) -> Array:
    n = len(atoms)
    band = (features.band_energy - sum(scales[int(z)].band_offset for z in atoms.numbers)) / n
    columns = {
        "charges": features.charges,
        "band-energy": np.full(n, band),
        "fermi-level": np.full(n, features.fermi_level),
    }
    names = next(iter(scales.values())).names
    return np.stack([columns[name] for name in names], axis=1)
