"""Bloch sums of two-centre blocks, and the generalised eigenproblem per k-point.

H_ij(k) = sum_n e^{2 pi i k.n} H_ij(n) over the images n of atom j seen from atom i. For every pair of atoms the sum
over images is a matrix product over all k-points at once; this dominates where tables are long, so BLAS does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Pairs
from dftbparam.engine.embedded.slater_koster import block_offsets, build_blocks
from dftbparam.engine.embedded.tables import Ints, PackedTables
from dftbparam.errors import OverlapError

Matrix = NDArray[np.inexact[Any]]

CHUNK_NUMBERS: Final = 4_000_000
"""Matrix elements of H made at once (64 MB complex): k-points are taken in chunks of at most this size. Where charges
are iterated, the matrices of all chunks are kept."""

SMALL: Final = 80
"""Orbitals up to which one call for all k-points, with S factorised beforehand, beats LAPACK's generalised solver
called per k-point; for 20 orbitals by a third."""


@dataclass(frozen=True)
class Orbitals:
    """Orbitals of a structure.

    ``species`` (n,) per atom; ``start`` (n + 1,) first orbital of each atom; ``shell`` (total,) 4 * atom + l of each
    orbital; ``on_site`` (total,) energies in Hartree.
    """

    species: Ints
    start: Ints
    shell: Ints
    on_site: Array

    @property
    def total(self) -> int:
        """Number of orbitals."""
        return int(self.start[-1])


def orbitals(tables: PackedTables, species: Ints) -> Orbitals:
    """Orbitals of atoms of these species."""
    sizes = tables.n_orbitals[species]
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    shell = np.concatenate([np.full(2 * l + 1, l) for l in range(4)])
    on_site = np.concatenate([tables.on_site[s, shell[: tables.n_orbitals[s]]] for s in species])
    l = np.concatenate([shell[: tables.n_orbitals[s]] for s in species])
    return Orbitals(species, start, 4 * np.repeat(np.arange(len(species)), sizes) + l, on_site)


class BlochSums:
    """H0 and S of one structure in real space, ready to be summed at any k. Hartree."""

    def __init__(self, tables: PackedTables, basis: Orbitals, pairs: Pairs) -> None:
        self.basis = basis
        self.pairs = pairs
        self.offsets = block_offsets(tables, basis.species, pairs)
        self.blocks = build_blocks(tables, basis.species, pairs, self.offsets)

    def chunks(self, n_points: int) -> Iterator[slice]:
        """Slices of the k-points such that matrices of one slice fit into memory."""
        step = max(1, CHUNK_NUMBERS // max(1, self.basis.total) ** 2)
        for low in range(0, n_points, step):
            yield slice(low, min(n_points, low + step))

    def _segments(self) -> Iterator[tuple[int, int, slice, tuple[int, int, int]]]:
        """Runs of pairs of the same two atoms: i, j, pairs, (images, orbitals of i, orbitals of j)."""
        pairs, start = self.pairs, self.basis.start
        if not len(pairs.first):
            return
        key = pairs.first * len(self.basis.species) + pairs.second
        edges = np.concatenate([[0], np.nonzero(np.diff(key))[0] + 1, [len(key)]])
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            i, j = int(pairs.first[low]), int(pairs.second[low])
            yield i, j, slice(low, high), (high - low, int(start[i + 1] - start[i]), int(start[j + 1] - start[j]))

    def _phases(self, points: Array, pairs: slice) -> tuple[Array, Array]:
        angle = 2.0 * np.pi * (points @ self.pairs.image[pairs].T.astype(np.float64))
        return np.cos(angle), np.sin(angle)

    def sums(self, points: Array) -> tuple[Matrix, Matrix]:
        """H0 and S, (k, n, n) each: Hermitian, or real symmetric if ``points`` is Gamma alone."""
        n, nk = self.basis.total, len(points)
        real = not points.any()
        kind = np.float64 if real else np.complex128
        H, S = np.zeros((nk, n, n), dtype=kind), np.zeros((nk, n, n), dtype=kind)
        diagonal = np.arange(n)
        H[:, diagonal, diagonal] = self.basis.on_site
        S[:, diagonal, diagonal] = 1.0
        start = self.basis.start
        for i, j, run, (images, a, b) in self._segments():
            both = self.blocks[self.offsets[run.start] : self.offsets[run.stop]].reshape(images, 2 * a * b)
            total: Matrix
            if real:
                total = both.sum(axis=0).reshape(1, 2, a, b)
            else:
                cosine, sine = self._phases(points, run)
                total = np.empty((nk, 2, a, b), dtype=np.complex128)
                total.real = (cosine @ both).reshape(nk, 2, a, b)
                total.imag = (sine @ both).reshape(nk, 2, a, b)
            row, column = slice(start[i], start[i + 1]), slice(start[j], start[j + 1])
            mirror = total.conj().swapaxes(2, 3)
            for part, matrix in enumerate((H, S)):
                # both halves are added, not assigned: for i = j they are the same block
                np.add(matrix[:, row, column], total[:, part], out=matrix[:, row, column])
                np.add(matrix[:, column, row], mirror[:, part], out=matrix[:, column, row])
        return H, S

    def pull_back(self, points: Array, weights: Array, density: Matrix, energy_density: Matrix, out: Array) -> None:
        """Add to ``out`` (laid out as blocks) what multiplies each element of H0 and of S in the band energy.

        ``density`` and ``energy_density`` (k, n, n) are P_mn = sum f c_m c_n^* and its energy-weighted companion; the
        numbers that multiply S are those of ``energy_density``. Each pair stands for its reverse too, hence the 2.
        """
        start = self.basis.start
        for i, j, run, (_, a, b) in self._segments():
            row, column = slice(start[i], start[i + 1]), slice(start[j], start[j + 1])
            local = np.stack([density[:, row, column], energy_density[:, row, column]], axis=1)
            local = (2.0 * weights)[:, None, None, None] * local
            cosine, sine = self._phases(points, run)
            total = cosine.T @ local.real.reshape(len(points), 2 * a * b)
            if np.iscomplexobj(local):
                total += sine.T @ local.imag.reshape(len(points), 2 * a * b)
            out[self.offsets[run.start] : self.offsets[run.stop]] += total.ravel()


def inverse_factors(S: Matrix) -> Matrix | None:
    """X (k, n, n) with X S X^H = 1, the inverses of the Cholesky factors.

    None where they do not pay (large matrices) or do not exist; `solve` then factorises, and says where it could not.
    """
    if S.shape[1] > SMALL:
        return None
    try:
        X: Matrix = np.linalg.inv(np.linalg.cholesky(S))
    except np.linalg.LinAlgError:
        return None
    return X


def solve(
    H: Matrix, S: Matrix, points: Array, vectors: bool, factors: Matrix | None = None
) -> tuple[Array, Matrix | None]:
    """Eigenvalues (k, n) and, if asked for, eigenvectors (k, n, n) in columns with C^H S C = 1.

    ``points`` (k, 3) is named in the `OverlapError` raised if S is not positive definite at one of them; ``factors``
    are the `inverse_factors` of S, where S is used more than once. `OverlapError` too where the numbers have no
    eigenvalues: NaN among them, say.
    """
    if factors is not None:
        turned = factors.conj().swapaxes(1, 2)
        reduced = factors @ H @ turned
        try:
            # of a matrix with NaN, LAPACK may return eigenvalues that look like any others
            if np.isfinite(reduced).all():
                if not vectors:
                    only: Array = np.asarray(np.linalg.eigvalsh(reduced), dtype=np.float64)
                    return only, None
                found, columns = np.linalg.eigh(reduced)
                return found, turned @ columns
        except np.linalg.LinAlgError:
            pass  # below, with an error that says where
    nk, n = H.shape[:2]
    values = np.empty((nk, n))
    states = np.empty_like(H) if vectors else None
    real = not np.iscomplexobj(H)
    driver = lapack.dsygvd if real else lapack.zhegvd
    job = "V" if vectors else "N"
    for k in range(nk):
        at = ", ".join(f"{x:.4g}" for x in points[k])
        if not (np.isfinite(H[k]).all() and np.isfinite(S[k]).all()):
            raise OverlapError(
                f"H or S is not finite at k = ({at}): are the tables damaged?", kpoint=points[k].tolist()
            )
        # the transposed view is what LAPACK wants without a copy; it solves for the conjugate eigenvectors
        w, v, info = driver(H[k].T, S[k].T, jobz=job)
        if info > n:
            raise OverlapError(
                f"the overlap matrix is not positive definite at k = ({at}): the basis is too diffuse for this "
                "structure, or the tables are damaged",
                kpoint=[float(x) for x in points[k]],
                order=int(info - n),
            )
        if info != 0:
            raise OverlapError(
                f"the eigensolver failed (LAPACK info = {info}) at k = ({at}): are the tables damaged?", info=int(info)
            )
        values[k] = w
        if states is not None:
            states[k] = v if real else v.conj()
    return values, states
