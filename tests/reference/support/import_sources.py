"""Sources to import: structures along a Birch-Murnaghan curve, in all formats."""

from __future__ import annotations

import json

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from dftbparam.reference import birch_murnaghan, birch_murnaghan_derivatives, build

RELATIVE = np.linspace(0.92, 1.08, 9)


def with_results(atoms, **results):
    """The structure with a calculator that holds results; returns it."""
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def curve(name, symbol, v0, e0, *, partner=None, b0=0.55, b1=4.3, relative=RELATIVE, forces=False, **info):
    """Structures of a prototype whose energies are exactly on a Birch-Murnaghan curve (eV/atom, Angstrom^3/atom)."""
    frames = []
    for volume in v0 * np.asarray(relative):
        atoms = build(name, symbol, volume, partner)
        results = {"energy": float(birch_murnaghan(volume, e0, v0, b0, b1)) * len(atoms)}
        if forces:
            slope = float(birch_murnaghan_derivatives(volume, v0, b0, b1)[0])
            results |= {"forces": np.zeros((len(atoms), 3)), "stress": slope * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])}
        atoms.info.update(info)
        frames.append(with_results(atoms, **results))
    return frames


def atom(symbol, energy):
    """An isolated atom."""
    return with_results(Atoms(symbol), energy=energy)


def displaced(symbol="Si", number=6, seed=0, **info):
    """Shaken cells of four atoms with random forces."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        atoms = build("diamond", symbol, 20.4).repeat((2, 1, 1))
        atoms.positions += random.normal(0.0, 0.05, atoms.positions.shape)
        forces = random.normal(0.0, 0.3, atoms.positions.shape)
        atoms.info.update(info)
        energy = -21.5 + 0.1 * random.random()
        frames.append(
            with_results(atoms, energy=energy, forces=forces - forces.mean(axis=0), stress=random.normal(0.0, 0.01, 6))
        )
    return frames


def entry(atoms, identifier=None, **parameters):
    """A ComputedStructureEntry as pymatgen writes it (a test compares), of a structure with an energy."""
    return {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedStructureEntry",
        "energy": atoms.get_potential_energy(),
        "entry_id": identifier,
        "correction": 0.0,
        "parameters": parameters,
        "data": {},
        "structure": {
            "@module": "pymatgen.core.structure",
            "@class": "Structure",
            "lattice": {"matrix": atoms.cell.array.tolist(), "pbc": [bool(p) for p in atoms.pbc]},
            "sites": [
                {"species": [{"element": s, "occu": 1}], "abc": [float(x) for x in place], "label": s, "properties": {}}
                for s, place in zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions(), strict=True)
            ],
        },
    }


def acwf(curves, *, name="unaries-verification-PBE-v1"):
    """A result file: ``curves`` maps keys like Si-X/Diamond to (atoms per cell, [volume, energy] per atom)."""
    data = {"script_version": "0.0.4", "set_name": name, "eos_data": {}, "num_atoms_in_sim_cell": {}, "BM_fit_data": {}}
    for key, (atoms, points) in curves.items():
        data["eos_data"][key] = (atoms * np.asarray(points)).tolist()
        data["num_atoms_in_sim_cell"][key] = atoms
    return json.dumps(data)


def vasprun(steps, *, gga="PE", cycles=3, nelm=60, encut=400.0, potential="PAW_PBE {} 01Jan2001", extra="", sigma=0.05):
    """Make a vasprun.xml of structures with energies; forces and stress where they have them (stress in kbar there)."""
    symbols = steps[0].get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))

    def vectors(name, rows):
        body = "".join("<v>" + " ".join(f"{x:.12f}" for x in row) + "</v>" for row in rows)
        return f'<varray name="{name}">{body}</varray>'

    def structure(atoms, name=""):
        crystal = f"<crystal>{vectors('basis', atoms.cell.array)}</crystal>"
        return f"<structure{name}>{crystal}{vectors('positions', atoms.get_scaled_positions())}</structure>"

    types = "".join(
        f"<rc><c>{symbols.count(s)}</c><c>{s}</c><c>1.0</c><c>4.0</c><c>{potential.format(s)}</c></rc>" for s in kinds
    )
    calculations = ""
    for atoms in steps:
        energy = atoms.get_potential_energy()
        values = "".join(
            f'<i name="{k}">{v:.10f}</i>'
            for k, v in (("e_fr_energy", energy - 0.002), ("e_wo_entrp", energy), ("e_0_energy", energy))
        )
        forces = atoms.calc.results.get("forces")
        stress = atoms.calc.results.get("stress")
        body = f"<scstep><energy>{values}</energy></scstep>" * cycles + structure(atoms)
        if forces is not None:
            body += vectors("forces", forces)
        if stress is not None:
            full = np.array(stress)[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) * -1602.1766208
            body += vectors("stress", full)
        calculations += f"<calculation>{body}<energy>{values}</energy></calculation>\n"
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<generator><i name="program" type="string">vasp</i><i name="version" type="string">6.4.2</i></generator>
<incar><i name="ENCUT">{encut}</i></incar>
<kpoints><varray name="kpointlist"><v>0.0 0.0 0.0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>
<parameters><separator name="electronic"><i type="string" name="GGA">{gga}</i><i type="int" name="NELM">{nelm}</i>
<i name="ENMAX">{encut}</i><i name="SIGMA">{sigma}</i><i type="int" name="ISMEAR">0</i><i type="int" name="ISPIN">1</i>
<i name="EDIFF">0.00001</i>{extra}</separator></parameters>
<atominfo><atoms>{len(symbols)}</atoms><types>{len(kinds)}</types>
<array name="atoms"><set>{"".join(f"<rc><c>{s}</c><c>1</c></rc>" for s in symbols)}</set></array>
<array name="atomtypes"><set>{types}</set></array></atominfo>
{structure(steps[0], ' name="initialpos"')}
{calculations}</modeling>
"""
