"""An ASE calculator on top of any engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from dftbparam.engine.base import Array, Engine, Result, Settings
from dftbparam.engine.factory import make_engine
from dftbparam.errors import DftbparamError, ElementError, ParameterError, StructureError
from dftbparam.skf.model import SKSet
from dftbparam.skf.read import find_files
from dftbparam.units import HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR3

PROPERTIES: Final = ["energy", "free_energy", "forces", "stress", "charges"]

IGNORED: Final = {"initial_magmoms", "initial_charges"}
"""Changes of a structure that leave its DFTB results as they are."""

_VOIGT: Final = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
"""Rows and columns of xx, yy, zz, yz, xz, xy."""


class DftbCalculator(Calculator):
    """SCC-DFTB as an ASE calculator (eV, Å).

    ``get_potential_energy()`` is the total energy without the entropy term, the number that DFTB+ prints as *Total
    energy* and ASE's own DFTB+ calculator returns; ``get_potential_energy(force_consistent=True)`` (``free_energy``) is
    the Mermin free energy, of which forces and stress are derivatives and which ASE's optimisers follow. At a
    temperature near zero, or with a gap, the two are the same.

    Properties: energy, free_energy, forces, stress (periodic structures; ASE's sign, positive under tension), charges
    (net charge per atom, in |e|). Besides: `get_fermi_level`, `get_eigenvalues`, `get_ibz_k_points`,
    `get_k_point_weights`, and the whole `Result` as ``result``.

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
        Anything else that `Settings` holds (``kpt_density``, ``charge``, ``filling``, ``scc``, ``max_angular`` ...).

    Raises
    ------
    ParameterError
        A setting is out of its range.
    EngineMissing
        ``engine="dftb+"`` and no such program.

    A calculation raises the `DftbparamError` that it ended in (`ScfNotConverged`, `StructureError` ...).
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
        if len(kpts) != 3:
            raise ParameterError(f"kpts is {kpts}; it must be three positive whole numbers")
        try:
            self._settings = {**settings, "kpts": (kpts[0], kpts[1], kpts[2]), "temperature": float(temperature)}
            Settings(**self._settings)
        except TypeError as error:
            raise ParameterError(f"unknown setting: {error}; see dftbparam.engine.base.Settings") from None
        self._tables = skf_dir if isinstance(skf_dir, SKSet) else Path(skf_dir)
        self._loaded: tuple[frozenset[str], SKSet] | None = None
        self.engine = make_engine(engine)
        self.result: Result | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute ``properties`` (and whatever comes with them) of ``atoms``; called by ASE."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        atoms = self.atoms
        if atoms is None:
            raise StructureError("the calculator has no structure: attach it to an Atoms object")
        periodic = bool(atoms.pbc.any())
        if "stress" in properties and not periodic:
            raise PropertyNotImplementedError("a molecule has no stress: pbc is False in all directions")
        derivatives = bool({"forces", "stress"} & set(properties))
        settings = Settings(**self._settings, forces=derivatives, stress=derivatives and periodic, eigenvalues=True)
        outcome = self.engine.compute(self._tables_for(atoms), [atoms], settings)[0]
        if isinstance(outcome, DftbparamError):
            raise outcome
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

    def get_fermi_level(self) -> float:
        """Fermi level of the last calculation in eV."""
        return self._last().fermi_level * HARTREE

    def get_eigenvalues(self, kpt: int = 0, spin: int = 0) -> Array:
        """Eigenvalues (n_bands,) of one k-point of the last calculation in eV; spin channels are the same."""
        eigenvalues = self._last().eigenvalues
        if eigenvalues is None:
            raise PropertyNotImplementedError("the engine gave no eigenvalues")
        chosen: Array = eigenvalues[kpt] * HARTREE
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
        """1: calculations are not spin-polarised."""
        return 1

    def _last(self) -> Result:
        if self.result is None:
            raise PropertyNotImplementedError("nothing has been calculated yet: ask for an energy first")
        return self.result

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
