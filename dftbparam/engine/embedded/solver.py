"""The embedded engine: SCC-DFTB (DFTB2) on one core, equal to DFTB+ in its conventions.

    E = sum_k w_k sum_n f_nk <psi|H0|psi> + 1/2 sum_ab gamma_ab dq_a dq_b + sum_{a<b} V_rep(R_ab)

(Elstner et al., Phys. Rev. B 58, 7260 (1998)). Hartree and Bohr. dq counts excess electrons inside; a `Result` carries
net charges, of opposite sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from threadpoolctl import ThreadpoolController

from dftbparam.engine.base import Array, Result, Settings, settings_per_structure
from dftbparam.engine.embedded.bloch import BlochSums, Matrix, Orbitals, orbitals, solve
from dftbparam.engine.embedded.filling import Filling, fill
from dftbparam.engine.embedded.gamma import gamma_forces, gamma_matrix
from dftbparam.engine.embedded.kpoints import Mesh, reduced_mesh
from dftbparam.engine.embedded.mixing import AndersonMixer
from dftbparam.engine.embedded.neighbours import Geometry, Pairs, find_pairs, geometry, symbols_of
from dftbparam.engine.embedded.pair_repulsion import collect, forces_and_virial, pair_terms
from dftbparam.engine.embedded.slater_koster import pair_gradients
from dftbparam.engine.embedded.tables import PackedTables, pack
from dftbparam.engine.kpoints import divisions
from dftbparam.errors import DftbparamError, InputError, ScfNotConverged
from dftbparam.skf.model import SKSet

MIXER_FACTORS: Final = (0.3, 0.05)
"""Mixing factors tried in turn, each with half of the iterations: the second is for charges that slosh."""

MIN_HUBBARD: Final = 1e-3
"""Hartree below which a Hubbard parameter counts as missing from the tables."""

OCCUPIED: Final = 1e-15
"""Size of the weight above which a state enters a density matrix."""


LACKS = (
    "shell_resolved", "spin", "third_order", "hydrogen_damping", "dispersion", "band_points", "projections",
)  # fmt: skip
"""Settings that are refused."""


class EmbeddedEngine:
    """SCC-DFTB in this process (see `dftbparam.engine.base.Engine` for the contract)."""

    name = "embedded"

    def versions(self) -> dict[str, str]:
        """Name and version of everything that decides the numbers."""
        out = {}
        for package in ("dftbparam", "numpy", "scipy", "numba", "spglib"):
            try:
                out[package] = version(package)
            except PackageNotFoundError:
                out[package] = "unknown"
        return out

    def compute(
        self, tables: SKSet | Path, structures: Sequence[Atoms], settings: Settings | Sequence[Settings]
    ) -> list[Result | DftbparamError]:
        """Compute every structure: a `Result`, or the error it ended in.

        Raises
        ------
        InputError
            The tables cannot be read, or ``settings`` does not match ``structures`` in number.
        """
        each = settings_per_structure(settings, len(structures), self.name, LACKS)
        groups = [symbols_of(atoms) for atoms in structures]
        loaded = load_tables(tables, *groups)
        elements = sorted({symbol for group in groups for symbol in group})
        packed: dict[tuple[tuple[str, int], ...], PackedTables] = {}
        out: list[Result | DftbparamError] = []
        with _blas().limit(limits=1, user_api="blas"):
            for atoms, one in zip(structures, each, strict=True):
                key = tuple(sorted((one.max_angular or {}).items()))
                if key not in packed:
                    packed[key] = pack(loaded, elements, one.max_angular)
                try:
                    out.append(_compute(packed[key], atoms, one))
                except DftbparamError as error:
                    out.append(error)
        return out


@cache
def _blas() -> ThreadpoolController:
    """Handle on the BLAS libraries in this process, to keep them to one thread.

    The matrices are small; a second thread on a core that is busy otherwise (other workers of a campaign) makes a call
    up to sixty times slower, measured on two cores.
    """
    return ThreadpoolController()


def load_tables(tables: SKSet | Path, *groups: Iterable[str]) -> SKSet:
    """Tables in memory, or the files of a directory that pairs of elements within a group need, as far as they exist.

    Raises `InputError` where there is no directory, `FileFormatError` for a malformed file.
    """
    if isinstance(tables, SKSet):
        return tables
    from dftbparam.skf.read import find_files, infer_max_angular, read_skf

    found = find_files(tables)
    if not any(a == b for a, b in found):
        raise InputError(f"{tables}: no homonuclear Slater-Koster file (X-X.skf) here", path=str(tables))
    pairs = sorted({(a, b) for group in map(set, groups) for a in group for b in group} & set(found))
    files = {(a, b): read_skf(found[a, b], heteronuclear=a != b) for a, b in pairs}
    return SKSet(files=files, max_angular={a: infer_max_angular(file) for (a, b), file in files.items() if a == b})


@dataclass(frozen=True)
class _System:
    """What stays the same while the charges converge."""

    settings: Settings
    structure: Geometry
    basis: Orbitals
    mesh: Mesh
    sums: BlochSums
    electrons: float
    reference: Array
    hubbard: Array


@dataclass
class _State:
    """One solution for given shifts: densities stay per chunk of k-points, in the order of ``pieces``."""

    eigenvalues: Array
    filling: Filling
    states: list[Matrix]
    band_energy: float
    excess: Array


def _compute(tables: PackedTables, atoms: Atoms, settings: Settings) -> Result:
    structure = geometry(atoms)
    tables.require(structure.symbols)
    species = np.array([tables.index(symbol) for symbol in structure.symbols], dtype=np.int64)
    present = np.ix_(np.unique(species), np.unique(species))
    reach = float(tables.cutoff[present].max())
    if settings.repulsion:
        reach = max(reach, float(tables.repulsion_cutoff[present].max()))
    everything = find_pairs(structure, reach)
    pairs = _within(everything, tables.cutoff[species[everything.first], species[everything.second]])
    basis = orbitals(tables, species)
    reference = tables.occupations[species].sum(axis=1)
    system = _System(
        settings=settings,
        structure=structure,
        basis=basis,
        mesh=reduced_mesh(structure, divisions(atoms, settings)),
        sums=BlochSums(tables, basis, pairs),
        electrons=float(reference.sum()) - settings.charge,
        reference=reference,
        hubbard=tables.hubbard[species, 0],
    )
    uniform = np.full(len(species), -settings.charge / len(species))
    derivatives = settings.forces or settings.stress
    gamma = None
    if system.mesh.symmetry.all_equivalent:
        # equivalent atoms share the charge equally whatever the shifts are: nothing to iterate
        shift = np.zeros(len(species))
        if settings.scc and settings.charge != 0.0:
            gamma = gamma_matrix(structure, _hubbard(system))
            shift = gamma @ uniform
        state = _diagonalise(system, list(_pieces(system)) if derivatives else None, shift, derivatives)
        state.excess = uniform
        iterations = 1
    elif not settings.scc:
        shift = np.zeros(len(species))
        state = _diagonalise(system, list(_pieces(system)), shift, True)
        iterations = 1
    else:
        gamma = gamma_matrix(structure, _hubbard(system))
        state, shift, iterations = _converge(system, gamma, uniform)
    scc_energy = 0.5 * float(state.excess @ gamma @ state.excess) if gamma is not None else 0.0
    repulsive, slope = (np.zeros(0), None)
    if settings.repulsion:
        repulsive, slope = pair_terms(tables, species, everything)
    energy = state.band_energy + scc_energy + float(repulsive.sum())
    forces, stress = None, None
    if derivatives:
        forces, virial = _derivatives(tables, system, state, shift)
        if gamma is not None:
            more, strain = gamma_forces(structure, system.hubbard, state.excess)
            forces, virial = forces + more, virial + strain
        if slope is not None:
            more, strain = forces_and_virial(structure, everything, slope)
            forces, virial = forces + more, virial + strain
        forces = system.mesh.symmetry.average_vectors(forces) if settings.forces else None
        if settings.stress and structure.periodic:
            stress = system.mesh.symmetry.average_tensor(virial) / structure.volume
            stress = 0.5 * (stress + stress.T)
    return Result(
        energy=energy,
        free_energy=energy - state.filling.entropy,
        band_energy=state.band_energy,
        repulsive_energy=float(repulsive.sum()),
        scc_energy=scc_energy,
        fermi_level=state.filling.level,
        charges=-state.excess,
        forces=forces,
        stress=stress,
        eigenvalues=state.eigenvalues if settings.eigenvalues else None,
        kpoints=np.array(system.mesh.points) if settings.eigenvalues else None,
        weights=np.array(system.mesh.weights) if settings.eigenvalues else None,
        scc_iterations=iterations,
        details={"occupations": state.filling.occupations} if settings.eigenvalues else {},
    )


def _hubbard(system: _System) -> Array:
    for symbol, value in zip(system.structure.symbols, system.hubbard, strict=True):
        if not value >= MIN_HUBBARD:
            raise InputError(
                f"the tables give {symbol} a Hubbard parameter of {value} Hartree (s shell); SCC needs a positive one",
                symbol=symbol,
            )
    return system.hubbard


def _within(pairs: Pairs, cutoff: Array) -> Pairs:
    inside = pairs.distance < cutoff
    if inside.all():
        return pairs
    return Pairs(
        pairs.first[inside], pairs.second[inside], pairs.image[inside], pairs.vector[inside], pairs.distance[inside]
    )


Piece = tuple[slice, Matrix, Matrix]


def _pieces(system: _System) -> Iterable[Piece]:
    """H0 and S, chunk by chunk of k-points."""
    points = system.mesh.points
    for chunk in system.sums.chunks(len(points)):
        yield (chunk, *system.sums.sums(points[chunk]))


def _diagonalise(system: _System, pieces: list[Piece] | None, shift: Array, vectors: bool) -> _State:
    """Solve for one set of shifts; ``pieces`` is None where matrices need not be kept."""
    points, weights = system.mesh.points, system.mesh.weights
    eigenvalues = np.empty((len(points), system.basis.total))
    states: list[Matrix] = []
    local = shift[system.basis.atom]
    for chunk, H0, S in _pieces(system) if pieces is None else pieces:
        H = H0 + 0.5 * S * (local[:, None] + local[None, :]) if shift.any() else H0
        values, found = solve(H, S, points[chunk], vectors)
        eigenvalues[chunk] = values
        if found is not None:
            states.append(found)
    filling = fill(eigenvalues, weights, system.electrons, system.settings)
    n_atoms = len(system.reference)
    if pieces is None or not vectors:
        band = float(weights @ (filling.occupations * eigenvalues).sum(axis=1))
        band -= float(system.electrons * shift[0])  # the shift is the same on every atom here
        return _State(eigenvalues, filling, states, band, np.zeros(n_atoms))
    population, band = np.zeros(system.basis.total), 0.0
    for (chunk, H0, S), found in zip(pieces, states, strict=True):
        P = _density(found, weights[chunk, None] * filling.occupations[chunk])
        population += (P.real * S.real).sum(axis=(0, 2))
        band += float((P.real * H0.real).sum())
        if np.iscomplexobj(P):
            population += (P.imag * S.imag).sum(axis=(0, 2))
            band += float((P.imag * H0.imag).sum())
    per_atom = np.bincount(system.basis.atom, weights=population, minlength=n_atoms)
    excess = system.mesh.symmetry.average_scalars(per_atom - system.reference)
    return _State(eigenvalues, filling, states, band, excess)


def _density(states: Matrix, occupations: Array) -> Matrix:
    """sum_n f_n c_n c_n^H per k, (k, n, n), for any weights f of the states."""
    used = int(np.nonzero((np.abs(occupations) > OCCUPIED).any(axis=0))[0].max(initial=-1)) + 1
    occupied = states[:, :, :used]
    return (occupied * occupations[:, None, :used]) @ occupied.conj().swapaxes(1, 2)


def _converge(system: _System, gamma: Array, start: Array) -> tuple[_State, Array, int]:
    """Iterate the charges to self-consistency: state, shifts of the last diagonalisation, iterations."""
    settings, pieces = system.settings, list(_pieces(system))
    iterations, residual = 0, np.inf
    for factor in MIXER_FACTORS:
        mixer = AndersonMixer(factor)
        excess = start
        for _ in range(max(1, settings.max_scc_iterations // len(MIXER_FACTORS))):
            iterations += 1
            shift = gamma @ excess
            state = _diagonalise(system, pieces, shift, True)
            residual = float(np.abs(state.excess - excess).max())
            if residual < settings.scc_tolerance:
                return state, shift, iterations
            if not np.isfinite(residual):
                break
            excess = mixer.step(excess, state.excess)
    raise ScfNotConverged(
        f"SCC did not converge in {iterations} iterations: charges still change by {residual:.2g} "
        f"(asked for {settings.scc_tolerance:.2g})",
        iterations=iterations,
        residual=residual,
    )


def _derivatives(tables: PackedTables, system: _System, state: _State, shift: Array) -> tuple[Array, Array]:
    """Forces (n, 3) and dE/d(strain) (3, 3) of the band energy at fixed charges."""
    weights = np.zeros_like(system.sums.blocks)
    points, occupations = system.mesh.points, state.filling.occupations
    local = 0.5 * (shift[system.basis.atom][:, None] + shift[system.basis.atom][None, :])
    for chunk, found in zip(system.sums.chunks(len(points)), state.states, strict=True):
        P = _density(found, occupations[chunk])
        W = _density(found, occupations[chunk] * state.eigenvalues[chunk])
        system.sums.pull_back(points[chunk], system.mesh.weights[chunk], P, P * local - W, weights)
    gradient = pair_gradients(tables, system.basis.species, system.sums.pairs, system.sums.offsets, weights)
    return collect(len(system.reference), system.sums.pairs, gradient)
