"""Frozen partners: elements whose parameters are given while another one is fitted on binaries with them.

Parameters are atom-wise, so that the partner's own record and the trial's make the tables of the pair. What does not
depend on the trial, the partner's pseudo-atom and its homonuclear table, is made once per process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from dftbparam.errors import ParameterError, ReferenceDataError
from dftbparam.reference import CrystalReference, Dataset
from dftbparam.skf import SKFile, SKSet
from dftbparam.slako.build import pair_files, pair_spline, with_repulsion
from dftbparam.slako.pseudoatom import PseudoAtom, solve_pseudo_atom
from dftbparam.space import ElementParameters, ParameterSet, load_parameter_set

PARAMETERS_NAME: Final = "parameters.json"
"""The parameter set in the folder of a finished run."""


@dataclass(frozen=True)
class _Solved:
    atom: PseudoAtom
    file: SKFile


_PARTNERS: OrderedDict[tuple[str, str, str], _Solved] = OrderedDict()


def load_partners(name_or_path: str) -> ParameterSet:
    """Load the set that partners are taken from: the folder of a finished run, a shipped set, or a JSON file.

    Raises
    ------
    ParameterError
        It is none of these; the message says what a folder lacks.
    FileFormatError
        The file is not a parameter set.
    """
    path = Path(name_or_path)
    if path.is_dir():
        path = path / PARAMETERS_NAME
        if not path.is_file():
            raise ParameterError(
                f"folder {name_or_path!r} has no {PARAMETERS_NAME}; the partners' parameters are those of a finished "
                "run, a JSON file, or a shipped set such as ptbp",
                name=name_or_path,
            )
        return load_parameter_set(path)
    return load_parameter_set(name_or_path)


def choose_partners(
    symbol: str, data: Dataset, partners: ParameterSet, excluded: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the elements that ``symbol`` has binaries with in a data set and that the parameter set holds.

    Returns
    -------
    used, missing
        In the order of the data; ``missing`` are those without parameters.

    Raises
    ------
    ReferenceDataError
        The data have no binaries of the element, or none of the partners has parameters.
    ParameterError
        An excluded element is no partner, or none is left.
    """
    found = list(dict.fromkeys(s for crystal in data.binaries_of(symbol) for s in crystal.symbols if s != symbol))
    if not found:
        known = ", ".join(data.compounds[:12]) or "none"
        raise ReferenceDataError(
            f"reference set {data.name!r} has no binaries of {symbol}; its binaries: {known}",
            symbol=symbol,
            dataset=data.name,
        )
    for name in excluded:
        if name not in found:
            raise ParameterError(f"{name} is no partner of {symbol} in {data.name!r}; partners are: {', '.join(found)}")
    used = tuple(name for name in found if name in partners.elements and name not in excluded)
    missing = tuple(name for name in found if name not in partners.elements and name not in excluded)
    if not used:
        why = f"the parameter set {partners.name!r} has none of them" if missing else "all of them are excluded"
        raise ParameterError(f"no partner of {symbol} is left of {', '.join(found)}: {why}", symbol=symbol)
    return used, missing


def common_form(partners: Mapping[str, ElementParameters]) -> str:
    """Return the form of repulsion that all partners share; `ParameterError` where they do not, or have none."""
    forms = {name: None if one.repulsion is None else one.repulsion.form for name, one in partners.items()}
    named = {form for form in forms.values() if form is not None}
    if len(named) != 1 or None in forms.values():
        raise ParameterError(f"partners need one form of repulsion, to combine with the element's own; given: {forms}")
    return named.pop()


def crystals_with(symbol: str, crystals: Sequence[CrystalReference], partner: str) -> tuple[CrystalReference, ...]:
    """Those of the crystals that hold ``symbol`` and ``partner``."""
    return tuple(c for c in crystals if c.partner is not None and set(c.symbols) == {symbol, partner})


def pair_tables(
    record: ElementParameters,
    partners: Mapping[str, ElementParameters],
    *,
    functional: str,
    superposition: str,
    repulsion: bool = True,
) -> SKSet:
    """Build the files of an element, of each partner, and of the element with each partner, in both orders.

    Raises
    ------
    ParameterError
        The repulsions do not combine.
    AtomError
        An atom does not converge, or orbitals reach too far.
    """
    atom = solve_pseudo_atom(record, functional, "density" if superposition == "density" else "potential")
    make = partial(pair_files, functional=functional, superposition=superposition)
    files = {(record.symbol, record.symbol): make(atom, atom)[0]}
    for name, partner in partners.items():
        solved = _solved(partner, functional, superposition)
        files[name, name] = solved.file
        files[record.symbol, name], files[name, record.symbol] = make(atom, solved.atom)
    records = {**partners, record.symbol: record}
    if repulsion:
        splines = {key: pair_spline(records[key[0]], records[key[1]]) for key in files}
        files = {key: with_repulsion(file, splines[key]) for key, file in files.items()}
    return SKSet(files=files, max_angular={name: one.max_angular for name, one in records.items()})


def _solved(record: ElementParameters, functional: str, superposition: str) -> _Solved:
    key = (record.model_dump_json(), functional, superposition)
    if key not in _PARTNERS:
        atom = solve_pseudo_atom(record, functional, "density" if superposition == "density" else "potential")
        file, _ = pair_files(atom, atom, functional=functional, superposition=superposition)
        _PARTNERS[key] = _Solved(atom, file)
        while len(_PARTNERS) > 120:
            _PARTNERS.popitem(last=False)
    return _PARTNERS[key]
