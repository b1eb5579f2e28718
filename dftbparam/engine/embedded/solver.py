"""The embedded engine: SCC-DFTB of crystals and molecules on one core, equal to DFTB+ in its conventions.

    E = sum_k w_k sum_n f_nk <psi|H0|psi> + 1/2 sum_ab gamma_ab dq_a dq_b + sum_{a<b} V_rep(R_ab)

(Elstner et al., Phys. Rev. B 58, 7260 (1998)), and on request third order, spin polarisation (both in `interaction`)
and dispersion. Hartree and Bohr. dq counts excess electrons inside; a `Result` carries net charges, of opposite sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from ase import Atoms
from threadpoolctl import ThreadpoolController

from dftbparam.engine.base import Array, Result, Settings, settings_per_structure
from dftbparam.engine.embedded import electrons
from dftbparam.engine.embedded.bloch import BlochSums, orbitals
from dftbparam.engine.embedded.dispersion import dispersion_energy
from dftbparam.engine.embedded.electrons import System, diagonalise, pieces
from dftbparam.engine.embedded.interaction import Interaction, make_interaction
from dftbparam.engine.embedded.kpoints import reduced_mesh
from dftbparam.engine.embedded.neighbours import Pairs, find_pairs, geometry, symbols_of
from dftbparam.engine.embedded.pair_repulsion import forces_and_virial, pair_terms
from dftbparam.engine.embedded.scc import Converged, Start, converge, output
from dftbparam.engine.embedded.tables import PackedTables, pack
from dftbparam.engine.hamiltonian import initial_moments
from dftbparam.engine.kpoints import divisions
from dftbparam.errors import DftbparamError, EngineMissing, InputError
from dftbparam.skf.model import SKSet


class EmbeddedEngine:
    """SCC-DFTB in this process (see `dftbparam.engine.base.Engine` for the contract)."""

    name = "embedded"

    def versions(self) -> dict[str, str]:
        """Name and version of everything that decides the numbers."""
        out = {}
        for package in ("dftbparam", "numpy", "scipy", "numba", "spglib", "dftd3", "dftd4"):
            try:
                out[package] = version(package)
            except PackageNotFoundError:
                out[package] = "not installed" if package.startswith("dftd") else "unknown"
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
        each = settings_per_structure(settings, len(structures), self.name)
        groups = [symbols_of(atoms) for atoms in structures]
        loaded = load_tables(tables, *groups)
        elements = sorted({symbol for group in groups for symbol in group})
        packed: dict[tuple[tuple[str, int], ...], PackedTables] = {}
        out: list[Result | DftbparamError] = []
        memory = _Memory()
        with _blas().limit(limits=1, user_api="blas"):
            for atoms, one in zip(structures, each, strict=True):
                key = tuple(sorted((one.max_angular or {}).items()))
                if key not in packed:
                    packed[key] = pack(loaded, elements, one.max_angular)
                try:
                    out.append(_compute(packed[key], atoms, one, memory))
                except EngineMissing:
                    raise  # a library that the settings need: wrong for the whole call
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


def _compute(tables: PackedTables, atoms: Atoms, settings: Settings, memory: _Memory) -> Result:
    structure = geometry(atoms)
    tables.require(structure.symbols, repulsion=settings.repulsion)
    species = np.array([tables.index(symbol) for symbol in structure.symbols], dtype=np.int64)
    present = np.ix_(np.unique(species), np.unique(species))
    reach = float(tables.cutoff[present].max())
    if settings.repulsion:
        reach = max(reach, float(tables.repulsion_cutoff[present].max()))
    everything = find_pairs(structure, reach)
    pairs = _within(everything, tables.cutoff[species[everything.first], species[everything.second]])
    basis = orbitals(tables, species)
    reference = tables.occupations[species]
    initial = None if settings.spin is None else _initial_moments(atoms, settings, reference)
    system = System(
        settings=settings,
        structure=structure,
        basis=basis,
        mesh=reduced_mesh(structure, divisions(atoms, settings), initial),
        sums=BlochSums(tables, basis, pairs),
        electrons=float(reference.sum()) - settings.charge,
        reference=reference,
    )
    found, interaction = _electrons(tables, system, initial, memory)
    solution = found.solution
    scc, third, spin = 0.0, 0.0, 0.0
    if interaction is not None:
        scc, third, spin = interaction.energies(interaction.on_sites(found.excess), found.moments)
    repulsive, slope = (np.zeros(0), None)
    if settings.repulsion:
        repulsive, slope = pair_terms(tables, species, everything)
    derivatives = settings.forces or settings.stress
    dispersion = None
    if settings.dispersion is not None:
        dispersion = dispersion_energy(structure, settings.dispersion, settings.charge, derivatives)
    parts = [solution.band_energy, scc, third, spin, 0.0 if dispersion is None else dispersion.energy]
    energy = sum(parts) + float(repulsive.sum())
    forces, stress = None, None
    if derivatives:
        forces, virial = electrons.derivatives(tables, system, solution, found.shift)
        terms = []
        if interaction is not None:
            terms.append(interaction.derivatives(interaction.on_sites(found.excess)))
        if slope is not None:
            terms.append(forces_and_virial(structure, everything, slope))
        if dispersion is not None and dispersion.forces is not None and dispersion.virial is not None:
            terms.append((dispersion.forces, dispersion.virial))
        for more, more_virial in terms:
            forces, virial = forces + more, virial + more_virial
        forces = system.mesh.symmetry.average_vectors(forces)
        if settings.stress and structure.periodic:
            virial = system.mesh.symmetry.average_tensor(virial)
            stress = 0.5 * (virial + virial.T) / structure.volume
    spins = slice(None) if settings.spin is not None else 0  # without spin polarisation results have no spin axis
    levels = solution.levels
    wanted = settings.eigenvalues or settings.projections
    return Result(
        energy=energy,
        free_energy=energy - solution.entropy,
        band_energy=solution.band_energy,
        repulsive_energy=float(repulsive.sum()),
        scc_energy=scc,
        third_order_energy=third,
        spin_energy=spin,
        dispersion_energy=parts[-1],
        fermi_level=float(np.mean(levels)),
        fermi_levels=None if settings.spin is None or settings.spin.unpaired is None else (levels[0], levels[1]),
        charges=-found.excess.sum(axis=1),
        shell_populations=None if solution.populations is None else solution.populations.sum(axis=0),
        moments=None if found.moments is None else found.moments.sum(axis=1),
        forces=forces if settings.forces else None,
        stress=stress,
        eigenvalues=solution.eigenvalues[spins] if wanted else None,
        kpoints=np.array(system.mesh.points) if wanted else None,
        weights=np.array(system.mesh.weights) if wanted else None,
        bands=electrons.bands(system, found.shift)[spins] if settings.band_points is not None else None,
        projections=electrons.projections(system, solution, list(pieces(system)))[spins]
        if settings.projections
        else None,
        scc_iterations=found.iterations,
        details={"occupations": solution.occupations[spins]} if wanted else {},
    )


def _electrons(
    tables: PackedTables, system: System, initial: Array | None, memory: _Memory
) -> tuple[Converged, Interaction | None]:
    """Solve for the electrons; the interaction of charges is None where there are none."""
    settings, n = system.settings, len(system.reference)
    share = _shares(tables, system)
    uniform = -settings.charge / n * share
    spins, species = system.spins, system.basis.species
    vectors = settings.forces or settings.stress or settings.eigenvalues or settings.projections
    plain = spins == 1 and not settings.shell_resolved
    if plain and system.mesh.symmetry.all_equivalent:
        # equivalent atoms share the charge equally whatever the shifts are: nothing to iterate
        shift, interaction = np.zeros((n, 4)), None
        if settings.scc and settings.charge != 0.0:
            interaction = make_interaction(tables, species, system.structure, settings)
            shift, _ = interaction.shift(interaction.on_sites(uniform), None)
        solution = diagonalise(system, list(pieces(system)) if vectors else None, shift[None], vectors)
        return Converged(solution, shift[None], uniform, None, 1), interaction
    if not settings.scc:
        shift = np.zeros((spins, n, 4))
        solution = diagonalise(system, list(pieces(system)), shift, True)
        return Converged(solution, shift, *output(system, solution), 1), None
    interaction = make_interaction(tables, species, system.structure, settings)
    moments = None if initial is None else initial[:, None] * share
    magnetic = None if settings.spin is None or initial is None else (settings.spin.unpaired, tuple(initial.tolist()))
    shells = tuple(tables.l_max[species].tolist())
    key = (system.structure.symbols, shells, settings.charge, magnetic, settings.shell_resolved)
    start = Start(uniform, moments)
    if settings.reuse_charges and memory.key == key and memory.start is not None:
        start = memory.start
    found = converge(system, interaction, start)
    memory.key, memory.start = key, Start(found.excess, found.moments)
    return found, interaction


def _initial_moments(atoms: Atoms, settings: Settings, reference: Array) -> Array:
    """Moments (n,) that the search begins with: the structure's own, or unpaired electrons spread over all atoms."""
    given = initial_moments(atoms)
    assert settings.spin is not None
    unpaired = settings.spin.unpaired
    if given.any() or not unpaired:
        return given
    spread: Array = unpaired * reference.sum(axis=1) / reference.sum()
    return spread


def _shares(tables: PackedTables, system: System) -> Array:
    """How charge is spread over the shells (n, 4) of an atom to begin with: as its electrons, else evenly."""
    exists = np.arange(4)[None, :] <= tables.l_max[system.basis.species][:, None]
    weights = np.where(system.reference.sum(axis=1, keepdims=True) > 0.0, system.reference, exists)
    shares: Array = weights / weights.sum(axis=1, keepdims=True)
    return shares


@dataclass
class _Memory:
    """What the previous structure of a call converged to, for `Settings.reuse_charges`."""

    key: object = None
    start: Start | None = None


def _within(pairs: Pairs, cutoff: Array) -> Pairs:
    inside = pairs.distance < cutoff
    if inside.all():
        return pairs
    return Pairs(
        pairs.first[inside], pairs.second[inside], pairs.image[inside], pairs.vector[inside], pairs.distance[inside]
    )
