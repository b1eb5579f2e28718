"""An ASE calculator on top of any engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from dftbparam.engine.base import Array, Engine, Result, Settings
from dftbparam.engine.factory import make_engine
from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
from dftbparam.errors import DftbparamError, ElementError, ParameterError, StructureError
from dftbparam.skf.model import SKSet
from dftbparam.skf.read import find_files
from dftbparam.units import HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR3

if TYPE_CHECKING:
    from ase.dft.kpoints import BandPath
    from ase.spectrum.band_structure import BandStructure
    from numpy.typing import ArrayLike

    from dftbparam.engine.spectrum import DensityOfStates

PROPERTIES: Final = ["energy", "free_energy", "forces", "stress", "charges"]

IGNORED: Final = {"initial_magmoms", "initial_charges"}
"""Changes of a structure that leave its DFTB results as they are; with spin, moments are where the search begins."""

RECORDS: Final = {"spin": Spin, "third_order": ThirdOrder, "dispersion": Dispersion}
"""Settings that are records of `dftbparam.engine.hamiltonian`."""

_VOIGT: Final = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
"""Rows and columns of xx, yy, zz, yz, xz, xy."""


class DftbCalculator(Calculator):
    """SCC-DFTB as an ASE calculator (eV, Å).

    ``get_potential_energy()`` is the total energy without the entropy term, the number that DFTB+ prints as *Total
    energy* and ASE's own DFTB+ calculator returns; ``get_potential_energy(force_consistent=True)`` (``free_energy``) is
    the Mermin free energy, of which forces and stress are derivatives and which ASE's optimisers follow. At a
    temperature near zero, or with a gap, the two are the same.

    Properties: energy, free_energy, forces, stress (periodic structures; ASE's sign, positive under tension), charges
    (net charge per atom, in |e|); with ``spin`` magmom and magmoms (electrons up minus down), and the
    structure's initial magnetic moments are where the search for self-consistency begins. Besides: `band_structure`,
    `dos`, `get_fermi_level`, `get_eigenvalues`, `get_ibz_k_points`, `get_k_point_weights`, and the whole `Result` as
    ``result``. Initial charges are ignored: ``charge`` is the charge of the whole.

    Parameters
    ----------
    skf_dir
        Directory of Slater-Koster files (``X-Y.skf`` or ``XY.skf``), or tables in memory.
    kpts
        Monkhorst-Pack divisions; even ones are shifted off Gamma by half a step, odd ones hold Gamma, as is DFTB+'s
        custom. Ignored for molecules.
    temperature
        Electronic temperature in kelvin.
    engine
        ``"embedded"``, ``"dftb+"``, or an `Engine`.
    settings
        Anything else that `Settings` holds, in its units (``kpt_density``, ``charge``, ``filling``, ``max_angular``,
        ``shell_resolved``, ``spin``, ``third_order``, ``hydrogen_damping``, ``dispersion`` ...).

    Raises
    ------
    ParameterError
        A setting is out of its range.
    EngineMissing
        ``engine="dftb+"`` and no such program.

    A calculation raises the `DftbparamError` that it ended in (`ScfNotConverged`, `StructureError` ...), and
    `ParameterError` for a setting that the engine lacks.
    """

    implemented_properties = PROPERTIES.copy()
    ignored_changes = IGNORED.copy()

    def __init__(
        self,
        skf_dir: str | Path | SKSet,
        kpts: Sequence[int] = (1, 1, 1),
        temperature: float = 1000.0,
        engine: str | Engine = "embedded",
        **settings: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if {"forces", "stress", "eigenvalues"} & set(settings):
            raise ParameterError("forces, stress and eigenvalues are decided by what is asked of the calculator")
        if settings.get("reuse_charges"):
            raise ParameterError(
                "reuse_charges works between the structures of one call of an engine; the calculator makes a call for "
                "each structure: call Engine.compute with all of them",
                name="reuse_charges",
            )
        if len(kpts) != 3:
            raise ParameterError(f"kpts is {kpts}; it must be three positive whole numbers")
        try:
            self._settings = {**settings, "kpts": (kpts[0], kpts[1], kpts[2]), "temperature": float(temperature)}
            Settings(**self._settings)
        except TypeError as error:
            raise ParameterError(f"unknown setting: {error}; see dftbparam.engine.base.Settings") from None
        for name, kind in RECORDS.items():
            if not isinstance(settings.get(name), kind | None):
                raise ParameterError(f"{name} is {settings[name]!r}; it must be a {kind.__name__}(...)", name=name)
        if settings.get("spin") is not None:
            self.implemented_properties = [*PROPERTIES, "magmom", "magmoms"]
            self.ignored_changes = IGNORED - {"initial_magmoms"}
        self._tables = skf_dir if isinstance(skf_dir, SKSet) else Path(skf_dir)
        self._loaded: tuple[frozenset[str], SKSet] | None = None
        self.engine = make_engine(engine)
        self.result: Result | None = None

    def reset(self) -> None:
        """Forget all results; called by ASE where the structure has changed."""
        self.result = None
        super().reset()  # type: ignore[no-untyped-call]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute ``properties`` (and whatever comes with them) of ``atoms``; called by ASE."""
        self.result = None  # so that nothing of the structure before outlives a calculation that fails
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        atoms = self.atoms
        if atoms is None:
            raise StructureError("the calculator has no structure: attach it to an Atoms object")
        periodic = bool(atoms.pbc.any())
        if "stress" in properties and not periodic:
            raise PropertyNotImplementedError("a molecule has no stress: pbc is False in all directions")
        derivatives = bool({"forces", "stress"} & set(properties))
        outcome = self._compute(atoms, forces=derivatives, stress=derivatives and periodic, eigenvalues=True)
        self.result = outcome
        self.results = {
            "energy": outcome.energy * HARTREE,
            "free_energy": outcome.free_energy * HARTREE,
            "charges": outcome.charges,
        }
        if outcome.forces is not None:
            self.results["forces"] = outcome.forces * HARTREE_PER_BOHR
        if outcome.stress is not None:
            self.results["stress"] = outcome.stress[_VOIGT] * HARTREE_PER_BOHR3
        if outcome.moments is not None:
            self.results["magmoms"] = outcome.moments
            self.results["magmom"] = float(outcome.moments.sum())

    def band_structure(self, path: str | BandPath | None = None, npoints: int = 100) -> BandStructure:
        """Bands of the structure of the last calculation along a path, eV, with the Fermi level as reference.

        The charges are converged on the calculator's mesh; its Fermi level is that of the mesh.

        Parameters
        ----------
        path
            Special points as in ASE (``"GXWKGL"``, ``","`` for a jump), a `BandPath`, or None for the path that is
            customary for the lattice.
        npoints
            Number of points; each special point is added where it lacks. Ignored for a `BandPath`.

        Returns
        -------
        BandStructure
            Energies (spins, points, bands); 1 spin, or 2 with spin polarisation (up, down).

        Raises
        ------
        ParameterError
            An unknown special point, or no points; the engine has no bands.
        StructureError
            A molecule, or a cell that is no three-dimensional lattice.
        """
        from ase.spectrum.band_structure import BandStructure

        atoms = self._calculated()
        points = _band_path(atoms, path, npoints)
        outcome = self._compute(atoms, band_points=tuple(map(tuple, points.kpts)))
        if outcome.bands is None:
            raise PropertyNotImplementedError("the engine gave no bands")
        bands = outcome.bands if outcome.bands.ndim == 3 else outcome.bands[None]
        return BandStructure(points, bands * HARTREE, outcome.fermi_level * HARTREE)  # type: ignore[no-untyped-call]

    def dos(self, width: float = 0.1, energies: ArrayLike | None = None, *, projected: bool = False) -> DensityOfStates:
        """Density of states of the last calculation on its mesh, with Gaussian broadening.

        Parameters
        ----------
        width
            Standard deviation of the Gaussians, eV.
        energies
            (n_E,), eV, on the scale of `get_eigenvalues`; None: all of the spectrum, four points a width.
        projected
            Whether to project on atoms and shells as well. Needs another calculation unless the calculator was made
            with ``projections=True``.

        Returns
        -------
        DensityOfStates
            States per eV; shapes and the counting of spins are described there.

        Raises
        ------
        ParameterError
            A width that is not positive, energies that are no list of numbers; the engine has no projections.
        """
        import numpy as np

        from dftbparam.engine.spectrum import (
            DensityOfStates,
            check_width,
            density_of_states,
            energy_grid,
            projected_density_of_states,
        )

        found = self._last()
        check_width(width)
        if projected and found.projections is None:
            found = self._compute(self._calculated(), eigenvalues=True, projections=True)
        sigma = width / HARTREE
        grid = energy_grid(found, sigma) if energies is None else np.asarray(energies, dtype=np.float64) / HARTREE
        return DensityOfStates(
            energies=grid * HARTREE,
            fermi_level=found.fermi_level * HARTREE,
            total=density_of_states(found, grid, sigma) / HARTREE,
            projected=projected_density_of_states(found, grid, sigma) / HARTREE if projected else None,
        )

    def get_fermi_level(self) -> float:
        """Fermi level of the last calculation in eV."""
        return self._last().fermi_level * HARTREE

    def get_eigenvalues(self, kpt: int = 0, spin: int = 0) -> Array:
        """Eigenvalues (n_bands,) of one k-point and spin (0 up, 1 down) of the last calculation in eV.

        Without spin polarisation both spins are the same. `ParameterError` where there is no such k-point or spin.
        """
        eigenvalues = self._last().eigenvalues
        if eigenvalues is None:
            raise PropertyNotImplementedError("the engine gave no eigenvalues")
        if spin not in (0, 1):
            raise ParameterError(f"spin is {spin}; it must be 0 (up) or 1 (down)", name="spin")
        channel = eigenvalues[spin] if eigenvalues.ndim == 3 else eigenvalues
        if not -len(channel) <= kpt < len(channel):
            raise ParameterError(f"kpt is {kpt}; there are {len(channel)} k-points", name="kpt")
        chosen: Array = channel[kpt] * HARTREE
        return chosen

    def get_ibz_k_points(self) -> Array:
        """Fractional k-points (n_k, 3) that were used."""
        points = self._last().kpoints
        if points is None:
            raise PropertyNotImplementedError("the engine gave no k-points")
        return points

    def get_k_point_weights(self) -> Array:
        """Their weights (n_k,), of sum 1."""
        weights = self._last().weights
        if weights is None:
            raise PropertyNotImplementedError("the engine gave no k-points")
        return weights

    def get_number_of_spins(self) -> int:
        """2 with spin polarisation, else 1."""
        return 1 if self._settings.get("spin") is None else 2

    def _last(self) -> Result:
        if self.result is None:
            raise PropertyNotImplementedError("nothing has been calculated yet: ask for an energy first")
        return self.result

    def _calculated(self) -> Atoms:
        """The structure of the last calculation."""
        self._last()
        assert self.atoms is not None
        return Atoms(self.atoms)

    def _compute(self, atoms: Atoms, **more: Any) -> Result:
        settings = Settings(**{**self._settings, **more})
        outcome = self.engine.compute(self._tables_for(atoms), [atoms], settings)[0]
        if isinstance(outcome, DftbparamError):
            raise outcome
        return outcome

    def _check_elements(self, atoms: Atoms) -> None:
        """Raise `ElementError` for elements without tables, and say which have some."""
        if isinstance(self._tables, SKSet):
            pairs, where = set(self._tables.files), "the tables"
        else:
            pairs, where = set(find_files(self._tables)), str(self._tables)
        have = sorted(a for a, b in pairs if a == b)
        lacking = sorted({str(s) for s in atoms.symbols} - set(have))
        if have and lacking:
            raise ElementError(
                f"no tables for {', '.join(lacking)}: {where} have {', '.join(have)}", missing=lacking, available=have
            )

    def _tables_for(self, atoms: Atoms) -> SKSet | Path:
        """Files are read once per set of elements, not at every step of a relaxation; DFTB+ reads them itself."""
        self._check_elements(atoms)
        if isinstance(self._tables, SKSet) or self.engine.name != "embedded":
            return self._tables
        from dftbparam.engine.embedded import load_tables

        elements = frozenset(str(s) for s in atoms.symbols)
        if self._loaded is None or not elements <= self._loaded[0]:
            self._loaded = (elements, load_tables(self._tables, sorted(elements)))
        return self._loaded[1]


def _band_path(atoms: Atoms, path: str | BandPath | None, npoints: int) -> BandPath:
    """Path through the Brillouin zone of a structure."""
    from ase.dft.kpoints import BandPath

    if isinstance(path, BandPath):
        if not len(path.kpts):
            raise ParameterError("the path has no k-points", name="path")
        return path
    if not atoms.pbc.all():
        raise StructureError("there are bands in a crystal only: pbc must be True in all three directions")
    if npoints < 1:
        raise ParameterError(f"npoints is {npoints}; it must be at least 1", name="npoints")
    try:
        found: BandPath = atoms.cell.bandpath(path, npoints=npoints)
        known = ", ".join(sorted(found.special_points))
    except KeyError as error:
        known = ", ".join(sorted(atoms.cell.bandpath(npoints=1).special_points))
        raise ParameterError(
            f"path {path!r}: no special point {error.args[0]!r}; this lattice has {known}", name="path"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise StructureError(f"no path through the Brillouin zone of this cell: {error}") from None
    if not len(found.kpts):
        raise ParameterError(f"path {path!r} holds no special point; this lattice has {known}", name="path")
    return found
