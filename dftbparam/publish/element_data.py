"""What a set publishes of an element beside its tables: spin constants, Hubbard U and derivatives, orbitals.

Computed once per element by a worker, which leaves the atom's radial tables (``X.npz``) and these data (``X.json``) in
the folder of the build; a later build takes them from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from dftbparam.elements import element, parse_configuration
from dftbparam.errors import CalculationError
from dftbparam.publish.files import write_json
from dftbparam.publish.keys import code_checksum
from dftbparam.publish.pairs import atom_key
from dftbparam.slako.hubbard_derivative import frontier_shell, hubbard_derivatives
from dftbparam.slako.pseudoatom import free_atom, solve_pseudo_atom
from dftbparam.slako.slater_fit import fit_slater
from dftbparam.slako.spin import spin_constants
from dftbparam.slako.tabulated import TabulatedAtom
from dftbparam.space import ParameterSet

BUILD_NAME: Final = ".build"
"""Folder inside the set's: what is needed to go on, and nothing that is published."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Orbital(_Record):
    """An orbital as a sum of Slater functions, see `dftbparam.slako.slater_fit.SlaterFit`."""

    shell: str
    angular: int
    occupation: float
    cutoff: float
    exponents: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    fit_error: float


class ElementData(_Record):
    """Data of one element; Hartree and Bohr.

    Attributes
    ----------
    shells
        Valence shells, s first; all lists are in this order.
    levels, hubbard
        On-site energies and U, as in the homonuclear file.
    free_levels
        Of the free atom, without shifts of polarisation shells.
    spin
        W (n, n). An empty shell that the free atom does not bind has the frontier shell's on its diagonal: its own is a
        property of the box, and as large as -0.2.
    hubbard_derivatives
        dU/dn per shell, negative as a rule; None for empty shells, whose ions mean nothing.
    frontier
        Highest occupied shell: its W and derivative stand for the atom where shells are not resolved.
    orbitals
        The confined orbitals of the tables.
    """

    symbol: str
    number: int
    shells: tuple[str, ...]
    levels: tuple[float, ...]
    free_levels: tuple[float, ...]
    hubbard: tuple[float, ...]
    occupations: tuple[float, ...]
    spin: tuple[tuple[float, ...], ...]
    hubbard_derivatives: tuple[float | None, ...]
    frontier: str
    orbitals: tuple[Orbital, ...]

    @property
    def hubbard_derivative(self) -> float:
        """The atom's, Hartree per electron."""
        value = self.hubbard_derivatives[self.shells.index(self.frontier)]
        assert value is not None  # the frontier shell is occupied
        return value


@dataclass(frozen=True)
class ElementTask:
    """What a worker is told: a set of one element, and where to leave the results."""

    symbol: str
    parameters: ParameterSet
    build: Path


@dataclass(frozen=True)
class ElementOutcome:
    """The data, or the reason why there are none."""

    symbol: str
    data: ElementData | None
    failure: str = ""


def prepare_element(task: ElementTask) -> ElementOutcome:
    """Solve an element, or read what an earlier build left of it; runs in a worker."""
    wanted = atom_key(task.parameters, task.symbol)
    atom_path, data_path = task.build / f"{task.symbol}.npz", task.build / f"{task.symbol}.json"
    stamp = {"atom": wanted, "code": code_checksum("publish")}
    data = _read(data_path, stamp)
    if data is not None and TabulatedAtom.load(atom_path, wanted) is not None:
        return ElementOutcome(task.symbol, data)
    try:
        data = _compute(task, atom_path, wanted)
    except CalculationError as error:
        return ElementOutcome(task.symbol, None, error.message)
    write_json(data_path, {"stamp": stamp, "data": data.model_dump(mode="json")})
    return ElementOutcome(task.symbol, data)


def _compute(task: ElementTask, atom_path: Path, wanted: str) -> ElementData:
    parameters = task.parameters
    record = parameters.element(task.symbol)
    atom = solve_pseudo_atom(record, parameters.functional, parameters.superposition)
    TabulatedAtom.of(atom).save(atom_path, wanted)
    configuration = parse_configuration(record.configuration)
    names = tuple(nl for nl, _ in atom.shells)
    free = free_atom(task.symbol, record.configuration, names, parameters.functional)
    occupied = [nl for nl in names if configuration[nl] > 0.0]
    derivatives = hubbard_derivatives(
        task.symbol, configuration, occupied, functional=parameters.functional, free=free.run
    )
    number = element(task.symbol).number
    orbitals = []
    for nl, l in atom.shells:
        run = atom.runs[nl]
        fit = fit_slater(run.grid.r, run.grid.weights, run.shells[nl][1], l, number)
        orbitals.append(
            Orbital(
                shell=nl,
                angular=l,
                occupation=atom.occupations[nl],
                cutoff=fit.cutoff,
                exponents=fit.exponents,
                coefficients=fit.coefficients,
                fit_error=fit.error,
            )
        )
    spin = spin_constants(task.symbol, configuration, names, functional=parameters.functional)
    frontier = frontier_shell(free.levels, atom.occupations)
    for i, nl in enumerate(names):
        if nl not in occupied and free.levels[nl] > 0.0:
            spin[i, i] = spin[names.index(frontier), names.index(frontier)]
    return ElementData(
        symbol=task.symbol,
        number=number,
        shells=names,
        levels=tuple(atom.levels[nl] for nl in names),
        free_levels=tuple(free.levels[nl] for nl in names),
        hubbard=tuple(atom.hubbard[nl] for nl in names),
        occupations=tuple(atom.occupations[nl] for nl in names),
        spin=tuple(tuple(row) for row in spin.tolist()),
        hubbard_derivatives=tuple(derivatives.get(nl) for nl in names),
        frontier=frontier,
        orbitals=tuple(orbitals),
    )


def _read(path: Path, stamp: dict[str, str]) -> ElementData | None:
    """What an earlier build left, if it was made from the same; anything else counts as nothing."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if value["stamp"] != stamp:
            return None
        return ElementData.model_validate(value["data"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
