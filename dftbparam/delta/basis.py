"""The linear map from weights to energies, forces and stress: a sparse Gaussian process written as a linear model.

The local energy of an atom is f(d) = Σ_m κ(|x − X_m|² + ϱ²) w_m over the inducing environments X_m of its element. With
K = L Lᵀ the covariance of these, weights w = L⁻ᵀ v of independent normal v give f the covariance k(·, X) K⁻¹ k(X, ·):
the deterministic training conditional of J. Quiñonero-Candela and C. E. Rasmussen (JMLR 6, 1939 (2005)). Total
energies, forces and stress are sums and derivatives of f, so that they are linear in v as well, and exactly consistent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import block_diag, solve_triangular
from scipy.sparse import csr_array

from dftbparam.delta.descriptors import Array, DescriptorSettings, Integers
from dftbparam.delta.features import ElementMap, Local, describe
from dftbparam.delta.inputs import BaseFeatures, refuse_derivatives
from dftbparam.delta.kernels import RadialKernel, cholesky

if TYPE_CHECKING:
    from ase import Atoms

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
"""Rows and columns of xx, yy, zz, yz, xz, xy."""


@dataclass(frozen=True)
class Rows:
    """What the weights v are multiplied with to give the correction of one structure.

    Attributes
    ----------
    energy
        (m,): total energy.
    forces
        (n, 3, m), 1/Angstrom.
    strain
        (6, m): dE/d(strain) in Voigt order xx yy zz yz xz xy.
    unexplained
        Prior variance of the total energy that the inducing environments do not span, for unit variance of f.
    """

    energy: Array
    unexplained: float
    forces: Array | None = None
    strain: Array | None = None


@dataclass(frozen=True)
class Basis:
    """Descriptors, coordinates, kernel and inducing environments: everything that is fixed before weights are.

    Attributes
    ----------
    points
        Per atomic number the coordinates of inducing environments, (m_Z, q_Z).
    """

    settings: DescriptorSettings
    maps: Mapping[int, ElementMap]
    kernel: RadialKernel
    points: Mapping[int, Array]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the elements, ascending."""
        return tuple(sorted(self.maps))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the results of DFTB that are inputs."""
        return self.maps[self.numbers[0]].inputs.names

    @cached_property
    def places(self) -> dict[int, slice]:
        """Where the weights of each element stand."""
        places, start = {}, 0
        for number in self.numbers:
            places[number] = slice(start, start + len(self.points[number]))
            start += len(self.points[number])
        return places

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(len(points) for points in self.points.values())

    @cached_property
    def factors(self) -> dict[int, Array]:
        """Lower Cholesky factors of the inducing covariance of each element."""
        return {number: cholesky(self.kernel, self.points[number]) for number in self.numbers}

    def subspace(self, kept: Mapping[int, Integers]) -> Array:
        """Weights of a model that has some of the inducing environments only, (m, m'), orthonormal columns.

        Local energies are k(d, Z) w with v = Lᵀ w, K = L Lᵀ: weights w of some environments alone span the columns of
        Lᵀ that belong to them, and their prior is the unit one in any orthonormal basis of that space.

        Parameters
        ----------
        kept
            Per atomic number the rows of ``points`` that stay.
        """
        blocks = [np.linalg.qr(self.factors[number].T[:, kept[number]])[0] for number in self.numbers]
        found: Array = block_diag(*blocks)
        return found

    def counts(self, atoms: Atoms) -> Array:
        """Atoms of each element, (number of elements,)."""
        return np.array([np.count_nonzero(atoms.numbers == z) for z in self.numbers], dtype=np.float64)

    def describe(
        self,
        atoms: Atoms,
        *,
        derivatives: bool = False,
        project: bool = True,
        features: BaseFeatures | None = None,
    ) -> list[Local]:
        """Coordinates of the atoms of a structure; see `dftbparam.delta.features.describe`.

        Raises
        ------
        ParameterError
            Derivatives are asked for, and some inputs have none.
        """
        if derivatives:
            refuse_derivatives(self.features)
        return describe(atoms, self.settings, self.maps, derivatives=derivatives, project=project, features=features)

    def squared_distances(self, local: Local) -> Array:
        """Squared distances of atoms to the inducing environments of their element, (n, m_Z)."""
        points = self.points[local.number]
        cross = local.x @ points.T
        own = np.einsum("nq,nq->n", local.x, local.x) + local.rest
        found: Array = own[:, None] + np.einsum("mq,mq->m", points, points) - 2.0 * cross
        return found

    def energy_row(self, local: Sequence[Local]) -> tuple[Array, float]:
        """Row of the total energy, and its unexplained variance, from the coordinates of all atoms."""
        row, unexplained = np.zeros(self.size), 0.0
        for one in local:
            value, _ = self.kernel(self.squared_distances(one))
            white = self._whiten(one.number, value.sum(axis=0)[None])[0]
            row[self.places[one.number]] = white
            unexplained += self._unexplained(one, white)
        return row, unexplained

    def rows(self, atoms: Atoms, *, derivatives: bool = False, features: BaseFeatures | None = None) -> Rows:
        """Build the rows of one structure; forces and strain where ``derivatives``, for any periodicity."""
        local = self.describe(atoms, derivatives=derivatives, features=features)
        energy, unexplained = self.energy_row(local)
        if not derivatives:
            return Rows(energy, unexplained)
        forces, strain = np.zeros((3 * len(atoms), self.size)), np.zeros((6, self.size))
        for one in local:
            place = self.places[one.number]
            _, slope = self.kernel(self.squared_distances(one))
            forces[:, place] = self._whiten(one.number, self._forces(one, slope, len(atoms)))
            strain[:, place] = self._whiten(one.number, self._strain(one, slope))
        return Rows(energy, unexplained, forces.reshape(len(atoms), 3, self.size), strain)

    def _whiten(self, number: int, rows: Array) -> Array:
        """Rows for w to rows for v: A L⁻ᵀ."""
        white: Array = solve_triangular(self.factors[number], rows.T, lower=True, check_finite=False).T
        return white

    def _unexplained(self, local: Local, white: Array) -> float:
        """Σ_ij κ(|p_i − p_j|²) minus the part of it that the inducing environments span."""
        square = np.einsum("nf,nf->n", local.full, local.full)
        t = square[:, None] + square - 2.0 * (local.full @ local.full.T)
        return max(float(self.kernel(t)[0].sum()) - float(white @ white), 0.0)

    def _forces(self, local: Local, slope: Array, size: int) -> Array:
        """−dE/dr for every weight w, (3 n, m_Z)."""
        points = self.points[local.number]
        own = 2.0 * np.einsum("pcq,pq->pc", local.dx, local.x[local.centres]) + local.drest
        along = own.reshape(-1, 1) - 2.0 * (local.dx.reshape(own.size, local.dx.shape[-1]) @ points.T)
        along *= np.repeat(slope[local.centres], 3, axis=0)
        target = (3 * local.neighbours[:, None] + np.arange(3)).ravel()
        gather = csr_array((-np.ones(len(target)), (target, np.arange(len(target)))), shape=(3 * size, len(target)))
        found: Array = gather @ along
        return found

    def _strain(self, local: Local, slope: Array) -> Array:
        """DE/d(strain) for every weight w, (6, m_Z)."""
        points = self.points[local.number]
        own = 2.0 * np.einsum("nabq,nq->nab", local.strain_x, local.x) + local.strain_rest
        x, rest = _symmetric(local.strain_x), _symmetric(own)
        along = rest[:, :, None] - 2.0 * (x @ points.T)
        found: Array = np.einsum("nvm,nm->vm", along, slope)
        return found

    def local_weights(self, v: Array) -> dict[int, Array]:
        """Weights w of each element from whitened ones, L⁻ᵀ v."""
        return {
            number: solve_triangular(self.factors[number], v[self.places[number]], lower=True, trans="T")
            for number in self.numbers
        }

    def energies(self, local: Local, weights: Array) -> Array:
        """Local energies of the atoms of one element for weights w (m_Z,), (n,)."""
        found: Array = self.kernel(self.squared_distances(local))[0] @ weights
        return found

    def derivatives(self, local: Local, weights: Array, size: int) -> tuple[Array, Array, Array]:
        """Local energies (n,), forces (size, 3) and dE/d(strain) (6,) of one element for weights w.

        The same numbers as the rows times the weights, at a cost that does not grow with weights times pairs.
        """
        value, slope = self.kernel(self.squared_distances(local))
        weighted = slope * weights
        pairs, strain = local.pull(weighted @ self.points[local.number], weighted.sum(axis=1))
        forces = np.zeros((size, 3))
        for axis in range(3):
            forces[:, axis] = -np.bincount(local.neighbours, weights=pairs[:, axis], minlength=size)
        return value @ weights, forces, (0.5 * (strain + strain.T))[VOIGT]


def _symmetric(tensor: Array) -> Array:
    """Components xx yy zz yz xz xy of a field of tensors (n, 3, 3, ...), symmetrised."""
    both = 0.5 * (tensor + np.swapaxes(tensor, 1, 2))
    return both[:, VOIGT[0], VOIGT[1]]
