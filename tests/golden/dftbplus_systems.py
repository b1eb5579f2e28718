"""The golden cases that need SCC with one charge per atom at most: every published set with all its elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from dftbplus_cases import Case
from dftbplus_structures import (
    CORNERS,
    anatase,
    benzene_crystal,
    brucite,
    cuprite,
    diborane,
    dry_ice,
    fluorite,
    graphite_aa,
    ice,
    layered,
    ligands,
    perovskite,
    quartz,
    rattled,
    rutile,
    tetraammine,
    tetrahedral,
    together,
    urea,
    urea_crystal,
    water_box,
)

from dftbparam.engine.base import Settings

PBC, MIO, MATSCI, THREEOB = "pbc/pbc-0-3", "mio/mio-1-1", "matsci/matsci-0-3", "3ob/3ob-3-1"
TIORG, ZNORG, TRANS3D = "tiorg/tiorg-0-1", "znorg/znorg-0-1", "trans3d/trans3d-0-1"
AUORG, RARE, HYB = "auorg/auorg-1-1", "rare/rare-0-2", "hyb/hyb-0-2"
BORG, CHALC, HALORG, MAGSIL = "borg/borg-0-1", "chalc/chalc-0-1", "halorg/halorg-0-1", "magsil/magsil-1-1"
SIBAND, MIO_NH, MIO_HH = "siband/siband-1-1", "miomod-nh/miomod-nh-0-1", "miomod-hh/miomod-hh-0-1"
FREQ, HH = "3ob-freq/3ob:freq-1-1", "3ob-hhmod/3ob:hhmod-1-1"
NH, OPHYD = "3ob-nhmod/3ob:nhmod-1-1", "3ob-ophyd/3ob:ophyd-1-1"

EVERYTHING = Settings(forces=True, stress=True, eigenvalues=True, scc_tolerance=1e-9)


def case(kind: str, name: str, about: str, folders: str | tuple[str, ...], atoms: Atoms, **changes: object) -> Case:
    """One case with forces, stress and eigenvalues, unless ``changes`` say otherwise."""
    folders = (folders,) if isinstance(folders, str) else folders
    return Case(name, about, folders, atoms, replace(EVERYTHING, **changes), kind=kind)


def plain() -> Iterator[Case]:
    """All cases of this module, by kind."""
    yield from metals()
    yield from semiconductors()
    yield from ionic_solids()
    yield from molecular_crystals()
    yield from molecules()
    yield from charged()
    yield from large()
    yield from made_up()


def metals() -> Iterator[Case]:
    """Crystals with a Fermi surface."""
    kind = "metals"
    aluminium, copper, gold = bulk("Al", "fcc", 4.05), bulk("Cu", "fcc", 3.61), bulk("Au", "fcc", 4.08)
    yield case(kind, "al-fcc", "Fermi filling, 1000 K", MATSCI, aluminium, kpts=(6, 6, 6))
    yield case(kind, "al-fcc-cold", "at 100 K", MATSCI, aluminium, kpts=(7, 7, 7), temperature=100.0)
    yield case(kind, "ti-hcp", "hexagonal", MATSCI, bulk("Ti", "hcp", a=2.95, c=4.68), kpts=(4, 4, 3))
    smeared = {"filling": "methfessel-paxton", "temperature": 3000.0}
    yield case(kind, "cu-fcc", "Methfessel-Paxton of first order", MATSCI, copper, kpts=(6, 6, 6), **smeared)
    smeared = {"filling": "methfessel-paxton", "temperature": 5000.0, "filling_order": 2}
    yield case(
        kind, "cu-fcc-mp2", "second order, sheared", MATSCI, rattled(copper, 0.0, 5, 0.05), kpts=(4,) * 3, **smeared
    )
    iron = bulk("Fe", "bcc", 2.87)
    yield case(kind, "fe-bcc", "not spin-polarised, mesh by density", TRANS3D, iron, kpt_density=2.0)
    yield case(kind, "au-fcc", "5d metal, dense mesh", AUORG, gold, kpts=(12, 12, 12), eigenvalues=False)
    places = [[0, 0, 0.3], [0.5, 0.5, 0.5], [0, 0, 0.7]]
    slab = Atoms("Au3", scaled_positions=places, cell=[2.88, 2.88, 10.2], pbc=True)
    yield case(kind, "au-slab", "layers that are not equivalent, vacuum", AUORG, rattled(slab, 0.05, 6), kpts=(4, 4, 1))
    yield case(kind, "ag-fcc", "4d metal", HYB, bulk("Ag", "fcc", 4.09), kpts=(5, 5, 5))
    yield case(kind, "na-bcc", "simple metal", MATSCI, bulk("Na", "bcc", 4.29), kpts=(6, 6, 6))
    yield case(kind, "mg-hcp", "simple metal, hexagonal", MAGSIL, bulk("Mg", "hcp", a=3.21, c=5.21), kpts=(4, 4, 3))
    yield case(
        kind,
        "zn-hcp-moved",
        "full d shell",
        ZNORG,
        rattled(bulk("Zn", "hcp", a=2.66, c=4.95), 0.06, 21),
        kpts=(4, 3, 2),
    )
    yield case(kind, "co-hcp", "d metal", TRANS3D, bulk("Co", "hcp", a=2.51, c=4.07), kpts=(4, 4, 2))
    yield case(
        kind,
        "ni-fcc-sheared",
        "one atom, sheared",
        TRANS3D,
        rattled(bulk("Ni", "fcc", 3.52), 0.0, 22, 0.05),
        kpts=(5, 4, 3),
    )
    yield case(kind, "ti-trans3d", "of another set", TRANS3D, bulk("Ti", "hcp", a=2.95, c=4.68), kpts=(3, 3, 2))
    yield case(kind, "sc-hcp", "early d metal", TRANS3D, bulk("Sc", "hcp", a=3.31, c=5.27), kpts=(3, 3, 2))
    yield case(kind, "tic-rocksalt", "metallic carbide", (TIORG, MIO), bulk("TiC", "rocksalt", 4.33), kpts=(4, 4, 4))
    # At 0.823149 Angstrom some neighbours are 8.51997 Bohr away, at a kink of the table at 8.52 Bohr.
    for name, a in (("h-bcc", 0.8235), ("h-bcc-kink", 0.823149)):
        yield case(kind, name, "hydrogen under pressure", (HH, THREEOB), bulk("H", "bcc", a), kpts=(4, 4, 4))


def semiconductors() -> Iterator[Case]:
    """Covalent crystals."""
    kind = "semiconductors"
    silicon, carbide = bulk("Si", "diamond", 5.43), bulk("SiC", "zincblende", 4.36)
    yield case(kind, "si-diamond", "at rest: all atoms equivalent", PBC, silicon, kpts=(4, 4, 4))
    yield case(kind, "si-diamond-moved", "one atom off its place", PBC, rattled(silicon, 0.08, 1), kpts=(4, 4, 4))
    dense = bulk("Si", "sc", 2.53)
    yield case(kind, "si-sc-dense", "one atom, a large mesh", PBC, dense, kpts=(15, 15, 15), eigenvalues=False)
    # Three Fermi levels give this number of electrons: which one is found is a matter of the search.
    smeared = {"filling": "methfessel-paxton", "temperature": 10000.0}
    yield case(kind, "si-diamond-mp", "several Fermi levels fit", PBC, silicon, kpts=(2, 2, 2), **smeared)
    supercell = rattled(make_supercell(silicon, 2 * np.eye(3, dtype=int)), 0.1, 2)
    yield case(
        kind, "si-supercell", "16 atoms, all moved, Gamma excluded", PBC, supercell, kpts=(2, 2, 2), temperature=300.0
    )
    yield case(kind, "sic-zincblende", "two elements at rest", PBC, carbide, kpts=(4, 4, 4))
    skewed = rattled(carbide, 0.12, 3, strain=0.06)
    yield case(kind, "sic-skewed", "sheared cell, no symmetry, odd and even divisions", PBC, skewed, kpts=(3, 4, 2))
    yield case(kind, "si-siband", "another set for silicon", SIBAND, silicon, kpts=(4, 4, 4))
    galliumnitride = bulk("GaN", "wurtzite", a=3.189, c=5.185)
    yield case(kind, "gan-wurtzite", "hexagonal, mesh with Gamma", RARE, galliumnitride, kpts=(3, 3, 2))
    moved = rattled(bulk("GaAs", "zincblende", 5.65), 0.1, 4, 0.02)
    yield case(kind, "gaas-moved", "zinc blende, moved", HYB, moved, kpts=(3, 3, 3))
    oxide = bulk("ZnO", "wurtzite", a=3.25, c=5.207)
    yield case(kind, "zno-wurtzite", "the shifted mesh breaks its symmetry", (ZNORG, MIO), oxide, kpts=(4, 4, 2))
    yield case(
        kind,
        "zns-znorg",
        "of another set",
        (ZNORG, MIO),
        bulk("ZnS", "zincblende", 5.41),
        kpts=(3, 3, 3),
    )
    yield case(kind, "zns-zincblende", "two d shells", THREEOB, bulk("ZnS", "zincblende", 5.41), kpts=(4, 4, 4))
    yield case(
        kind, "graphite-aa", "layers, without self-consistent charges", MIO, graphite_aa(), kpts=(5, 5, 2), scc=False
    )
    yield case(
        kind, "bn-zincblende", "moved", MATSCI, rattled(bulk("BN", "zincblende", 3.615), 0.08, 23), kpts=(3, 3, 3)
    )
    yield case(kind, "alp-zincblende", "spd and spd", MATSCI, bulk("AlP", "zincblende", 5.46), kpts=(4, 4, 4))
    yield case(
        kind, "tis2-layered", "layers, narrow gap", (TIORG, MIO), layered("Ti", "S", 3.407, 5.695, 0.25), kpts=(4, 4, 2)
    )
    boron = rattled(bulk("B", "sc", 1.9), 0.0, 24, 0.08)
    yield case(kind, "b-sheared", "one atom, sheared", (BORG, MIO), boron, kpts=(4, 5, 4))


def ionic_solids() -> Iterator[Case]:
    """Crystals of ions."""
    kind = "ionic solids"
    yield case(kind, "mgo-rocksalt", "ionic", THREEOB, bulk("MgO", "rocksalt", 4.21), kpts=(4, 4, 4))
    yield case(kind, "cao-moved", "moved", THREEOB, rattled(bulk("CaO", "rocksalt", 4.81), 0.1, 7), kpts=(2, 3, 2))
    salt = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    yield case(kind, "nacl-rocksalt", "cubic cell of eight", THREEOB, salt, kpts=(2, 2, 2))
    yield case(kind, "kf-rocksalt", "no d shell", THREEOB, bulk("KF", "rocksalt", 5.35), kpts=(3, 3, 3))
    yield case(
        kind,
        "ki-moved",
        "large ions, moved",
        THREEOB,
        rattled(bulk("KI", "rocksalt", 7.07), 0.15, 25, 0.03),
        kpts=(2, 3, 2),
    )
    yield case(kind, "cabr2-fluorite", "three ions", THREEOB, fluorite("Ca", "Br", 6.8), kpts=(3, 3, 3))
    yield case(kind, "tio2-rutile", "set extended by another", (TIORG, MIO), rutile(), kpts=(2, 2, 4))
    yield case(kind, "tio2-anatase", "primitive cell", MATSCI, anatase(), kpts=(3, 3, 3))
    yield case(kind, "eun-rocksalt", "published f shell", RARE, bulk("EuN", "rocksalt", 5.01), kpts=(3, 3, 3))
    alloy = rattled(bulk("GaN", "zincblende", 4.50, cubic=True), 0.05, 26)
    alloy.symbols[0] = "Eu"
    yield case(kind, "gan-eu", "f shell in GaN, all three elements", RARE, alloy, kpts=(2, 2, 2), temperature=3000.0)
    yield case(
        kind, "scn-rocksalt", "nitride of a d metal", (TRANS3D, MIO), bulk("ScN", "rocksalt", 4.50), kpts=(4, 4, 4)
    )
    yield case(kind, "tin-rocksalt", "metallic nitride", (TIORG, MIO), bulk("TiN", "rocksalt", 4.24), kpts=(4, 4, 4))
    yield case(kind, "ag2o-cuprite", "linear bonds", (HYB, MIO), cuprite(), kpts=(3, 3, 3))
    yield case(
        kind, "mgsio3-perovskite", "three elements", (MAGSIL, MATSCI), perovskite("Mg", "Si", "O", 3.46), kpts=(3, 3, 3)
    )
    yield case(kind, "brucite", "layers of a hydroxide", (MAGSIL, MATSCI), brucite(), kpts=(3, 3, 2))
    yield case(kind, "quartz", "three formula units, screw axes", PBC, quartz(), kpts=(2, 2, 2))
    yield case(kind, "quartz-siband", "the same with another set", SIBAND, rattled(quartz(), 0.05, 27), kpts=(2, 2, 1))


def molecular_crystals() -> Iterator[Case]:
    """Crystals of molecules."""
    kind = "molecular crystals"
    yield case(kind, "ice", "protons in order", MIO, ice(), kpts=(3, 3, 2))
    yield case(kind, "dry-ice", "carbon dioxide", MIO, dry_ice(), kpts=(2, 2, 2))
    yield case(kind, "urea-crystal", "hydrogen bonds", MIO, urea_crystal(), kpts=(2, 2, 3), temperature=300.0)
    yield case(kind, "benzene-crystal", "48 atoms", MIO, benzene_crystal(), kpts=(1, 1, 2), eigenvalues=False)
    box = Atoms(molecule("H2O"), cell=[7.0, 7.5, 8.0], pbc=True)
    yield case(kind, "water-in-box", "one molecule in a large cell, Gamma only", MIO, box)


def molecules() -> Iterator[Case]:
    """Neutral molecules."""
    kind = "molecules"
    cold = {"temperature": 300.0}
    yield case(kind, "water", "three atoms", MIO, molecule("H2O"))
    yield case(kind, "benzene", "aromatic", MIO, molecule("C6H6"))
    yield case(kind, "urea", "four elements", MIO, urea(), **cold)
    yield case(kind, "h2s-hot", "d orbitals, hot", MIO, molecule("SH2"), temperature=8000.0)
    oxygen = Atoms("O2", positions=[[0, 0, 0], [0.2, 0.3, 1.2]])
    yield case(
        kind, "oxygen-cold", "open shell at 0 K without repulsion", MIO, oxygen, temperature=0.0, repulsion=False
    )
    yield case(
        kind, "phosphine-thiol", "all elements of mio", MIO, together(molecule("PH3"), molecule("CH3SH"), urea())
    )
    yield case(
        kind,
        "hydrogen-modified",
        "set for H2 on top of its base",
        (HH, THREEOB),
        Atoms("H2", positions=[[0, 0, 0], [0.3, 0.4, 0.56]]),
    )
    hydrogen = Atoms("H2", positions=[[0, 0, 0], [0.3, 0.4, 0.56]])
    yield case(kind, "hydrogen-miomod", "the malformed file, mended", (MIO_HH, MIO), hydrogen)
    yield case(kind, "ammonia-modified", "set for N-H on top of its base", (NH, THREEOB), molecule("NH3"))
    yield case(kind, "ammonia-miomod", "set for N-H on top of its base", (MIO_NH, MIO), molecule("NH3"))
    yield case(kind, "urea-frequencies", "set for frequencies on top of its base", (FREQ, THREEOB), urea(), **cold)
    acid = ligands("P", [["O", "H"], ["O", "H"], ["O", "H"], ["O"]])
    yield case(kind, "phosphoric-acid", "set for O-P on top of its base", (OPHYD, THREEOB), acid)
    yield case(kind, "chclbri", "three halogens", THREEOB, tetrahedral("C", ["H", "Cl", "Br", "I"]))
    yield case(
        kind,
        "nacl-phosphine",
        "four atoms with d shells",
        THREEOB,
        together(molecule("PH3"), molecule("NaCl"), molecule("SH2")),
    )
    yield case(kind, "halorg-chfbri", "halogens of halorg", HALORG, tetrahedral("C", ["H", "F", "Br", "I"]))
    yield case(
        kind,
        "halorg-nitrosyl-chloride",
        "weak bond",
        HALORG,
        together(molecule("ClNO"), molecule("SO2"), molecule("PH3")),
    )
    yield case(kind, "diborane", "bridges", (BORG, MIO), diborane())
    arsenic = ligands("As", [["S", "H"], ["S", "H"], ["S", "H"], []])
    yield case(kind, "arsenic-thiol", "d shells on both", (CHALC, MIO), arsenic)
    sulphide = Atoms("SSi2", positions=[[0, 0, 0], [1.6, 1.2, 0.7], [-1.5, 1.3, 0.8]])
    yield case(kind, "silicon-sulphide", "pairs of two sets", (HYB, MIO), sulphide)
    acetylide = Atoms("AgC2H", positions=[[0, 0, 0], [0.0, 1.2, 1.6], [0.0, 1.93, 2.57], [0.0, 2.57, 3.42]])
    yield case(kind, "silver-acetylide", "linear, along no axis", (HYB, MIO), acetylide)
    gold = Atoms("Au2S", positions=[[1.6, 0.2, 1.5], [-1.6, 0.1, 1.5], [0, 0, 0]])
    yield case(
        kind, "gold-sulphide", "beside acetamide: all elements of auorg", AUORG, together(molecule("CH3CONH2"), gold)
    )
    yield case(kind, "methane-matsci", "another set for carbon", MATSCI, together(molecule("CH4"), molecule("H2O")))
    yield case(
        kind,
        "fluoromethane",
        "with water and hydrogen cyanide",
        PBC,
        together(tetrahedral("C", ["H", "H", "H", "F"]), molecule("H2O"), molecule("HCN")),
    )
    yield case(kind, "silanol", "with water", SIBAND, ligands("Si", [["H"], ["H"], ["H"], ["O", "H"]]))
    yield case(kind, "ni-carbonyl", "linear ligands about nickel", (TRANS3D, MIO), ligands("Ni", [["C", "O"]] * 4))
    cobalt = ligands("Co", [["C", "O"], ["C", "O"], ["C", "O"], ["H"]])
    yield case(kind, "co-carbonyl-hydride", "radical", (TRANS3D, MIO), cobalt, temperature=3000.0)
    methyl = Atoms("ZnC2H6", positions=_dimethyl(1.95))
    yield case(kind, "zinc-dimethyl", "metal and carbon", (ZNORG, MIO), methyl)
    yield case(
        kind,
        "titanium-thiol",
        "four ligands",
        (TIORG, MIO),
        ligands("Ti", [["S", "H"]] * 3 + [["N", "H"]]),
        temperature=3000.0,
    )


def _dimethyl(distance: float) -> np.ndarray:
    """Positions of M, C2, H6 with M-C along x."""
    angles = 2.0 * np.pi / 3.0 * np.arange(3)
    ring = 1.03 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    hydrogens = [[s * (distance + 0.36), *(s * yz)] for s in (1, -1) for yz in ring]
    return np.round([[0, 0, 0], [distance, 0, 0], [-distance, 0, 0], *hydrogens], 10)


def charged() -> Iterator[Case]:
    """Ions, and cells with a neutralising background, whose stress DFTB+ does not have."""
    kind = "charged"
    ammonium = Atoms("NH4", positions=[[0, 0, 0], *(0.59 * np.sqrt(3.0) * CORNERS)])
    yield case(kind, "ammonium", "cation", MIO, ammonium, charge=1.0)
    yield case(kind, "phosphate", "three electrons more", (OPHYD, THREEOB), tetrahedral("P", ["O"] * 4), charge=-3.0)
    yield case(kind, "zn-tetraammine", "two electrons less", (ZNORG, MIO), tetraammine("Zn", 2.05), charge=2.0)
    yield case(
        kind, "superoxide", "open-shell anion", MIO, Atoms("O2", positions=[[0, 0, 0], [0.2, 0.3, 1.3]]), charge=-1.0
    )
    cell = {"stress": False}
    salt = rattled(bulk("NaCl", "rocksalt", 5.64), 0.1, 8)
    yield case(kind, "nacl-charged", "an electron less in a cell", THREEOB, salt, kpts=(3, 3, 3), charge=1.0, **cell)
    hydroxide = Atoms("OH", positions=[[0, 0, 0], [0.5, 0.6, 0.55]], cell=[6.0, 6.3, 5.8], pbc=True)
    yield case(kind, "hydroxide-in-box", "an electron more in a cell", MIO, hydroxide, charge=-1.0, **cell)
    silicon = rattled(bulk("Si", "diamond", 5.43), 0.05, 28)
    yield case(kind, "si-charged", "half an electron more", PBC, silicon, kpts=(3, 3, 3), charge=-0.5, **cell)


def large() -> Iterator[Case]:
    """Large cells."""
    kind = "large cells"
    less = {"eigenvalues": False, "scc_tolerance": 1e-8}
    yield case(kind, "water-192", "64 molecules", MIO, water_box(4, 12.42, 31), temperature=300.0, **less)
    oxide = make_supercell(bulk("MgO", "rocksalt", 4.21), np.diag([4, 5, 5]))
    yield case(kind, "mgo-200", "200 atoms, all moved", THREEOB, rattled(oxide, 0.12, 32), **less)


def made_up() -> Iterator[Case]:
    """Made-up tables, always at hand."""
    kind = "made-up tables"
    places, cell = [[0, 0, 0], [1.3, 1.1, 1.7]], [[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]]
    model = Atoms("SiO", positions=places, cell=cell, pbc=True)
    yield case(kind, "model-spd", "spd and sp, spline and polynomial repulsion", "model-spd", model, kpts=(2, 3, 2))
    yield case(kind, "model-f", "spdf and sp", "model-f", model_f(), kpts=(2, 1, 2))
    three = Atoms("La3", positions=[[0, 0, 0], [2.1, 1.5, 1.0], [-1.0, 2.4, 2.2]])
    yield case(kind, "model-f-molecule", "spdf alone", "model-f", three, temperature=3000.0)


def model_f() -> Atoms:
    """Cell for the made-up set with f shells."""
    places, cell = [[0, 0, 0], [2.0, 1.9, 1.8], [0.3, 2.0, 2.4]], [[4.1, 0.2, 0], [0.3, 4.3, 0.4], [0, 0.5, 4.0]]
    return Atoms("La2O", positions=places, cell=cell, pbc=True)
