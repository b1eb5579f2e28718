"""Slater-Koster files from parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from dftbparam.elements import element
from dftbparam.errors import AtomError, ParameterError
from dftbparam.repulsion.forms import get_form
from dftbparam.repulsion.spline import to_spline
from dftbparam.skf.model import EXTENDED_COLUMNS, SIMPLE_COLUMNS, OnSite, Repulsion, SKFile, SKSet, SplineRepulsion
from dftbparam.slako.pseudoatom import solve_pseudo_atom
from dftbparam.slako.tabulated import PairAtom
from dftbparam.slako.twocentre import two_centre_integrals
from dftbparam.space import ElementParameters, ParameterSet

Array = NDArray[np.float64]

GRID_STEP: Final = 0.02
"""Spacing of the distances in a file, Bohr: that of the published sets."""

TAIL: Final = 3e-6
"""A table ends where all its integrals have fallen below this (Hartree, or overlap): energies of close-packed crystals
then change by less than 0.05 meV/atom (Al, Si, Ti, W; published and fitted)."""

MAX_CUTOFF: Final = 20.0
"""No table is longer than this, Bohr."""

LOOSE_END: Final = 1e-4
"""A table that is cut at `MAX_CUTOFF` while an integral is larger than this would be wrong without a word."""

NODE_STEPS: Final = ((3.0, 0.05), (np.inf, 0.10))
"""Distances at which integrals are computed: step 0.05 Bohr up to 3 Bohr, 0.1 beyond. The integrals are so smooth in R
that a quintic spline through them is exact to 1e-6 from 1.5 Bohr on, and five times fewer have to be computed."""


def pair_files(
    first: PairAtom,
    second: PairAtom,
    *,
    functional: str = "PBE",
    superposition: str = "density",
    grid_step: float = GRID_STEP,
    cutoff: float | None = None,
) -> tuple[SKFile, SKFile]:
    """Return the files first-second and second-first, without repulsion; the same object twice for one element.

    Parameters
    ----------
    grid_step
        Spacing of the distances in Bohr.
    cutoff
        Last distance in Bohr; None ends the table where it has decayed (`TAIL`).

    Raises
    ------
    ParameterError
        Grid step or cutoff out of range.
    AtomError
        The orbitals reach so far that a table of `MAX_CUTOFF` would cut them off.
    """
    if not 0.0 < grid_step <= 0.2:
        raise ParameterError(f"grid step {grid_step} Bohr must lie in (0, 0.2]; DFTB+ interpolates over 8 points")
    if cutoff is not None and not 1.0 <= cutoff <= 60.0:
        raise ParameterError(f"cutoff {cutoff} Bohr must lie in [1, 60]")
    same = first is second
    longest = min(first.tables.reach + second.tables.reach, MAX_CUTOFF) if cutoff is None else cutoff
    nodes = _nodes(longest, grid_step)
    chan, h, s = two_centre_integrals(
        nodes, first.tables, second.tables, density=superposition == "density", gga=functional == "PBE"
    )
    if cutoff is None:
        if longest == MAX_CUTOFF and (last := float(np.maximum(np.abs(h[-1]), np.abs(s[-1])).max())) > LOOSE_END:
            raise AtomError(
                f"{first.symbol}-{second.symbol}: the orbitals reach too far, integrals are still {last:.1e} at "
                f"{MAX_CUTOFF} Bohr; confine them more (smaller radii), or give a cutoff of your own"
            )
        alive = np.nonzero(np.maximum(np.abs(h), np.abs(s)).max(axis=1) > TAIL)[0]
        longest = min(longest, float(nodes[min(alive[-1] + 1, len(nodes) - 1)]))
    r = grid_step * np.arange(1, int(np.floor(longest / grid_step + 1e-9)) + 1)
    table = make_interp_spline(nodes, np.stack([h, s], axis=1), k=5)(r)  # (n, 2, channels)
    extended = any(l == 3 for _, l in first.shells + second.shells)
    columns = EXTENDED_COLUMNS if extended else SIMPLE_COLUMNS
    forward = np.zeros((len(r), 2, len(columns)))
    backward = np.zeros_like(forward)
    for c, (i, j, m) in enumerate(chan):
        l1, l2 = first.shells[i][1], second.shells[j][1]
        if l1 <= l2:
            forward[:, :, columns.index((l1, l2, m))] = table[:, :, c]
        if l2 <= l1:
            # Seen from the second atom the axis is reversed.
            backward[:, :, columns.index((l2, l1, m))] = (-1.0) ** (l1 + l2) * table[:, :, c]
    one = _file(first, forward, grid_step, extended, same)
    return one, one if same else _file(second, backward, grid_step, extended, same)


def build_tables(
    parameters: ParameterSet,
    symbols: Sequence[str],
    *,
    repulsion: bool = True,
    grid_step: float = GRID_STEP,
    cutoff: float | None = None,
    on_pair: Callable[[str, str], None] | None = None,
) -> SKSet:
    """Build the Slater-Koster files of all ordered pairs of ``symbols``.

    Parameters
    ----------
    parameters
        The set; `ParameterError` where it lacks an element.
    repulsion
        Whether to add the atom-wise repulsion; elements without one give files without.
    grid_step, cutoff
        See `pair_files`.
    on_pair
        Called with both symbols when a pair is done, for progress.
    """
    names = list(dict.fromkeys(symbols))
    if not names:
        raise ParameterError("no element given; name at least one, e.g. Si")
    records = {symbol: parameters.element(symbol) for symbol in names}
    atoms = {
        symbol: solve_pseudo_atom(record, parameters.functional, parameters.superposition)
        for symbol, record in records.items()
    }
    files: dict[tuple[str, str], SKFile] = {}
    for i, a in enumerate(names):
        for b in names[i:]:
            files |= build_pair(parameters, atoms, a, b, repulsion=repulsion, grid_step=grid_step, cutoff=cutoff)
            if on_pair is not None:
                on_pair(a, b)
    return SKSet(
        files=files,
        max_angular={symbol: record.max_angular for symbol, record in records.items()},
        metadata={"parameters": parameters.name},
    )


def build_pair(
    parameters: ParameterSet,
    atoms: Mapping[str, PairAtom],
    first: str,
    second: str,
    *,
    repulsion: bool = True,
    grid_step: float = GRID_STEP,
    cutoff: float | None = None,
) -> dict[tuple[str, str], SKFile]:
    """Return both ordered files of a pair of elements, or the one of an element with itself.

    The lighter element is always the first of the integrals, so that a file has the same bits whatever else is built
    and in whatever order. ``atoms`` holds both elements, solved; the other arguments are those of `build_tables`.
    """
    a, b = sorted((first, second), key=lambda symbol: element(symbol).number)
    forward, backward = pair_files(
        atoms[a],
        atoms[b],
        functional=parameters.functional,
        superposition=parameters.superposition,
        grid_step=grid_step,
        cutoff=cutoff,
    )
    if repulsion:
        spline = pair_spline(parameters.element(a), parameters.element(b))
        forward, backward = with_repulsion(forward, spline), with_repulsion(backward, spline)
    return {(a, b): forward, (b, a): backward}


def pair_spline(first: ElementParameters, second: ElementParameters) -> SplineRepulsion | None:
    """Return the repulsion between two elements as a spline, or None where neither has one.

    Raises `ParameterError` where only one has one, or the forms differ: no combination rule covers that.
    """
    one, other = first.repulsion, second.repulsion
    if one is None and other is None:
        return None
    if one is None or other is None or one.form != other.form:
        forms = {record.symbol: record.repulsion and record.repulsion.form for record in (first, second)}
        raise ParameterError(f"a pair needs one form of repulsion for both elements; given: {forms}")
    a, b = element(first.symbol), element(second.symbol)
    potential = get_form(one.form).pair(
        one.values, other.values, numbers=(a.number, b.number), radii=(a.covalent_radius, b.covalent_radius)
    )
    return to_spline(potential)


def with_repulsion(file: SKFile, repulsion: Repulsion | None) -> SKFile:
    """Return ``file`` with its repulsion replaced."""
    return replace(file, repulsion=repulsion)


def _nodes(longest: float, grid_step: float) -> Array:
    """Distances at which integrals are computed, from ``grid_step`` to beyond ``longest``."""
    nodes = [grid_step]
    for end, step in NODE_STEPS:
        while nodes[-1] < min(end, longest) - 1e-9:
            nodes.append(nodes[-1] + step)
    return np.array(nodes)


def _file(atom: PairAtom, table: Array, grid_step: float, extended: bool, homonuclear: bool) -> SKFile:
    on_site = None
    if homonuclear:
        energies, hubbard, occupations = np.zeros(4), np.zeros(4), np.zeros(4)
        for nl, l in atom.shells:
            energies[l] = atom.levels[nl]
            hubbard[l] = atom.hubbard[nl]
            occupations[l] = atom.occupations[nl]
        on_site = OnSite(energies=energies, hubbard=hubbard, occupations=occupations)
    return SKFile(
        grid_step=grid_step,
        hamiltonian=np.ascontiguousarray(table[:, 0]),
        overlap=np.ascontiguousarray(table[:, 1]),
        on_site=on_site,
        mass=atom.mass,
        extended=extended,
    )
