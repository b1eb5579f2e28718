"""DFTB plus its correction as an ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from dftbparam.delta.data import settings_from_record
from dftbparam.delta.inputs import BaseFeatures
from dftbparam.delta.model import DeltaModel, Prediction
from dftbparam.delta.model_file import check_base, load_model
from dftbparam.engine.ase import IGNORED, DftbCalculator
from dftbparam.engine.base import Engine
from dftbparam.errors import ParameterError, StructureError

PROPERTIES: Final = ["energy", "free_energy", "forces", "stress"]


class DeltaCalculator(Calculator):
    """A base calculation corrected by a `DeltaModel` (eV, Å).

    ``energy`` and ``free_energy`` are the same number: the Mermin free energy of DFTB plus the correction, of which
    ``forces`` and ``stress`` are the exact derivatives, so that relaxations end and dynamics conserves energy. Besides,
    ``results`` holds ``energy_std`` (calibrated standard deviation of the energy against the reference, eV/atom),
    ``outside_domain`` (whether the structure is unlike the training data of ``level``; `outside_reasons` says in what),
    ``outside_levels`` (names of all levels whose data it is unlike; `outside_by_level` says in what) and, of the DFTB
    calculation alone, ``base_energy``.

    A model that takes DFTB's charges, band energy or Fermi level as input gives energies only: forces and stress are
    refused with ASE's `PropertyNotImplementedError`.

    Parameters
    ----------
    model
        A model or its file.
    skf_dir
        The Slater-Koster files that it corrects; others are refused. None for a model without a base.
    level
        Level of theory to be predicted, the highest unless named.
    engine
        ``"embedded"``, ``"dftb+"``, or an `Engine`; None: the one that the model was trained with.
    settings
        Changes of the DFTB settings of the training. ``kpts=(4, 4, 4)`` replaces a density of k-points: with that,
        their number can change with the cell, and the energy then jumps by what k-points are worth.

    Raises
    ------
    ParameterError
        Slater-Koster files are missing or others than the model's, or the model has none and some are given.
    """

    implemented_properties = PROPERTIES.copy()
    discard_results_on_any_change = False
    ignored_changes = IGNORED.copy()

    def __init__(
        self,
        model: DeltaModel | str | Path,
        skf_dir: str | Path | None = None,
        *,
        level: str | None = None,
        engine: str | Engine | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        name = "the model" if isinstance(model, DeltaModel) else str(model)
        self.model = model if isinstance(model, DeltaModel) else load_model(model)
        self.level = self.model.levels[self.model.level(level)].name
        self.prediction: Prediction | None = None
        self.base: DftbCalculator | None = None
        if not self.model.base:
            if skf_dir is not None or engine is not None or settings:
                raise ParameterError(f"{name} has no DFTB underneath: it takes no Slater-Koster files or settings")
            return
        if skf_dir is None:
            raise ParameterError(
                f"{name} corrects the Slater-Koster set {self.model.base['name']!r}; say where it is: skf_dir"
            )
        check_base(self.model.base, Path(skf_dir), self.model.symbols, name)
        trained = settings_from_record(self.model.base["settings"])
        own: dict[str, Any] = {
            key: getattr(trained, key) for key in self.model.base["settings"] if key not in ("kpts", "temperature")
        }
        if "kpts" in settings:
            own["kpt_density"] = None
        own |= settings
        self.base = DftbCalculator(
            skf_dir,
            kpts=own.pop("kpts", trained.kpts),
            temperature=own.pop("temperature", trained.temperature),
            engine=engine if engine is not None else self.model.base["engine"],
            **own,
        )

    @property
    def outside_reasons(self) -> tuple[str, ...]:
        """Why the last structure was outside the training domain of `level`; empty where it was inside."""
        return () if self.prediction is None else self.prediction.outside

    @property
    def outside_by_level(self) -> Mapping[str, tuple[str, ...]]:
        """The same for each level of the model by its name; empty before the first calculation."""
        return {} if self.prediction is None else self.prediction.outside_levels

    def _features(self, atoms: Atoms) -> BaseFeatures | None:
        """Compute DFTB and return what the model takes of it as input; None, and no DFTB, where it takes nothing."""
        if not self.model.basis.features or self.base is None:
            return None
        self.base.calculate(Atoms(atoms), ["energy"])
        return None if self.base.result is None else BaseFeatures.of(self.base.result)

    def reset(self) -> None:
        """Forget all results; called by ASE where the structure has changed."""
        self.prediction = None
        super().reset()  # type: ignore[no-untyped-call]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute ``properties`` of ``atoms``; called by ASE."""
        self.prediction = None
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        atoms = self.atoms
        if atoms is None:
            raise StructureError("the calculator has no structure: attach it to an Atoms object")
        periodic = bool(atoms.pbc.all())
        if "stress" in properties and not periodic:
            raise PropertyNotImplementedError("stress needs a structure that is periodic in all three directions")
        derivatives = bool({"forces", "stress"} & set(properties))
        if derivatives and self.model.basis.features:
            raise PropertyNotImplementedError(
                f"no {' or '.join(sorted({'forces', 'stress'} & set(properties)))}: the model takes DFTB's "
                f"{', '.join(self.model.basis.features)} as input, whose derivatives are not available"
            )
        features = self._features(atoms)
        # Without inputs the correction comes first: what it refuses (unknown elements) costs no DFTB.
        found = self.model.predict(atoms, self.level, derivatives=derivatives, features=features)
        results: dict[str, Any] = {
            "energy": found.energy,
            "energy_std": found.energy_std,
            "outside_domain": bool(found.outside),
            "outside_levels": tuple(name for name, reasons in found.outside_levels.items() if reasons),
        }
        if found.forces is not None:
            results["forces"] = found.forces
        if found.stress is not None:
            results["stress"] = found.stress
        if self.base is not None:
            if features is None:
                self.base.calculate(Atoms(atoms), ["energy", *(["forces"] if derivatives else [])])
            results["base_energy"] = self.base.results["free_energy"]
            results["energy"] += self.base.results["free_energy"]
            for name in ("forces", "stress"):
                if name in results:
                    results[name] = results[name] + self.base.results[name]
        results["free_energy"] = results["energy"]
        self.prediction = found
        self.results = results
