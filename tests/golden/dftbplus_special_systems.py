"""The golden cases with more in the Hamiltonian, more asked for, or tables of our own making."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from dftbplus_cases import Case
from dftbplus_structures import (
    CORNERS,
    anatase,
    benzene_crystal,
    fluorite,
    graphite_aa,
    rattled,
    rutile,
    tetraammine,
    tetrahedral,
    together,
    urea,
    urea_crystal,
    water_dimer,
    with_moments,
)
from dftbplus_systems import HYB, MATSCI, MIO, PBC, THREEOB, TRANS3D, ZNORG, case, model_f

from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder

SPIN_CONSTANTS = {
    # mio and pbc, as published beside them (mio-1-1.spinw.txt, pbc-0-3.spinw.txt).
    "H": ((-0.0717,),),
    "C": ((-0.0306, -0.0251), (-0.0251, -0.0227)),
    "N": ((-0.0332, -0.0275), (-0.0275, -0.0255)),
    "O": ((-0.0352, -0.0296), (-0.0296, -0.0278)),
    "Fe": ((-0.0160, -0.0124, -0.0035), (-0.0124, -0.0280, -0.0010), (-0.0035, -0.0010, -0.0155)),
    # Made up, of the size of iron's.
    "Co": ((-0.0160, -0.0120, -0.0033), (-0.0120, -0.0280, -0.0010), (-0.0033, -0.0010, -0.0165)),
    "Ni": ((-0.0160, -0.0120, -0.0030), (-0.0120, -0.0280, -0.0010), (-0.0030, -0.0010, -0.0174)),
    "La": -0.012,
}
"""Hartree."""

DERIVATIVES = {
    "Br": -0.0573, "C": -0.1492, "Ca": -0.0340, "Cl": -0.0697, "F": -0.1623, "H": -0.1857, "I": -0.0433, "K": -0.0339,
    "Mg": -0.02, "N": -0.1535, "Na": -0.0454, "O": -0.1575, "P": -0.14, "S": -0.11, "Zn": -0.03,
}  # fmt: skip
"""Hartree per electron, from the README of the set 3ob."""

D3 = Dispersion("d3bj", s8=3.209, a1=0.746, a2=4.191)
D4 = Dispersion("d4", s8=0.4727337, a1=0.5467502, a2=4.4955068, s9=1.0)


def special() -> Iterator[Case]:
    """All cases of this module, by kind."""
    yield from spin()
    yield from third_order()
    yield from shell_resolved()
    yield from dispersion()
    yield from bands()
    yield from own_tables()


def polarised(symbols: str, unpaired: float | None = None) -> Spin:
    """Spin with the constants of these elements (separated by blanks)."""
    return Spin({symbol: SPIN_CONSTANTS[symbol] for symbol in symbols.split()}, unpaired=unpaired)


def dftb3(symbols: str, full: bool = True) -> ThirdOrder:
    """Third order with the derivatives of these elements (separated by blanks)."""
    return ThirdOrder({symbol: DERIVATIVES[symbol] for symbol in symbols.split()}, full=full)


def spin() -> Iterator[Case]:
    """Spin-polarised: the total moment fixed, or free."""
    kind = "spin"
    oxygen = with_moments(Atoms("O2", positions=[[0, 0, 0], [0.2, 0.3, 1.16]]), [1, 1])
    yield case(kind, "o2-triplet", "two unpaired, fixed", MIO, oxygen, spin=polarised("O", 2.0))
    yield case(kind, "o2-free", "moment free", MIO, oxygen, spin=polarised("O"), temperature=300.0)
    yield case(
        kind, "no2-free", "radical, moment free", MIO, with_moments(molecule("NO2"), [1, 0, 0]), spin=polarised("N O")
    )
    methyl = with_moments(molecule("CH3"), [1, 0, 0, 0])
    yield case(kind, "ch3-doublet", "one unpaired, fixed", MIO, methyl, spin=polarised("C H", 1.0))
    carbene = with_moments(molecule("CH2_s3B1d"), [2, 0, 0])
    yield case(kind, "ch2-cation", "charge and spin", MIO, carbene, spin=polarised("C H", 1.0), charge=1.0)
    wide = with_moments(Atoms("H2", positions=[[0, 0, 0], [0.6, 0.8, 1.9]]), [1, -1])
    yield case(
        kind, "h2-stretched", "antiparallel, no total moment", MIO, wide, spin=polarised("H", 0.0), temperature=300.0
    )
    yield case(
        kind,
        "fe-bcc-ferro",
        "ferromagnet, moment free",
        PBC,
        with_moments(bulk("Fe", "bcc", 2.87), [3]),
        kpts=(6,) * 3,
        spin=polarised("Fe"),
    )
    fixed = with_moments(rattled(bulk("Fe", "bcc", 2.87), 0.0, 41, 0.05), [2])
    yield case(kind, "fe-bcc-fixed", "moment fixed, sheared", PBC, fixed, kpts=(5, 4, 5), spin=polarised("Fe", 2.0))
    both = with_moments(bulk("Fe", "bcc", 2.87, cubic=True), [2, -2])
    yield case(kind, "fe-bcc-antiferro", "antiparallel", PBC, both, kpts=(4, 4, 4), spin=polarised("Fe"))
    moved = with_moments(rattled(bulk("Fe", "bcc", 2.87, cubic=True), 0.1, 42, 0.03), [3, 1])
    yield case(
        kind, "fe-bcc-moved", "ferromagnet, moved", PBC, moved, kpts=(3, 2, 3), spin=polarised("Fe"), temperature=2000.0
    )
    nickel, cobalt = with_moments(bulk("Ni", "fcc", 3.52), [1]), with_moments(bulk("Co", "hcp", a=2.51, c=4.07), [2, 2])
    yield case(kind, "ni-fcc-ferro", "nearly full d shell", TRANS3D, nickel, kpts=(5, 5, 5), spin=polarised("Ni"))
    yield case(kind, "co-hcp-ferro", "hexagonal", TRANS3D, cobalt, kpts=(4, 4, 2), spin=polarised("Co"))
    smeared = {"filling": "methfessel-paxton", "temperature": 3000.0}
    yield case(
        kind,
        "fe-bcc-mp",
        "Methfessel-Paxton",
        PBC,
        with_moments(bulk("Fe", "bcc", 2.87), [3]),
        kpts=(4,) * 3,
        spin=polarised("Fe"),
        **smeared,
    )
    heavy = with_moments(model_f(), [1.0, 0.5, 0.0])
    constants = polarised("La O", 1.5)
    # Hot and fixed: cold, and with the moment free, it has many self-consistent solutions (docs/engines.md).
    hot = {"temperature": 10000.0, "kpts": (2, 1, 2)}
    yield case(kind, "model-f-spin", "spdf, made-up tables", "model-f", heavy, spin=constants, **hot)


def third_order() -> Iterator[Case]:
    """DFTB3 with the published derivatives."""
    kind = "DFTB3"
    damped = {"hydrogen_damping": 4.0}
    pair = water_dimer()
    yield case(kind, "water-dimer-dftb3", "full, damped", THREEOB, pair, third_order=dftb3("H O"), **damped)
    yield case(kind, "water-dimer-on-site", "on-site terms alone", THREEOB, pair, third_order=dftb3("H O", full=False))
    yield case(kind, "water-dimer-undamped", "full, no damping", THREEOB, pair, third_order=dftb3("H O"))
    yield case(kind, "water-dimer-damped", "damping alone, mio", MIO, pair, **damped)
    yield case(
        kind, "urea-dftb3", "four elements", THREEOB, urea(), third_order=dftb3("C H N O"), temperature=300.0, **damped
    )
    halides = tetrahedral("C", ["H", "Cl", "Br", "I"])
    yield case(kind, "chclbri-dftb3", "three halogens", THREEOB, halides, third_order=dftb3("C H Cl Br I"), **damped)
    sulphur = together(molecule("PH3"), molecule("CH3SH"))
    yield case(kind, "phosphine-thiol-dftb3", "d shells", THREEOB, sulphur, third_order=dftb3("C H P S"), **damped)
    zinc = tetraammine("Zn", 2.05)
    yield case(
        kind, "zn-tetraammine-dftb3", "charged", THREEOB, zinc, third_order=dftb3("H N Zn"), charge=2.0, **damped
    )
    oxide = rattled(bulk("MgO", "rocksalt", 4.21), 0.1, 43, 0.03)
    yield case(kind, "mgo-dftb3", "crystal, moved", THREEOB, oxide, kpts=(3, 2, 3), third_order=dftb3("Mg O"))
    salt = bulk("NaCl", "rocksalt", 5.64)
    yield case(
        kind,
        "nacl-on-site",
        "crystal, on-site terms alone",
        THREEOB,
        salt,
        kpts=(3,) * 3,
        third_order=dftb3("Na Cl", full=False),
    )
    fluoride = fluorite("Ca", "F", 5.46)
    yield case(kind, "caf2-dftb3", "crystal", THREEOB, fluoride, kpts=(3,) * 3, third_order=dftb3("Ca F"))
    moved = rattled(bulk("KF", "rocksalt", 5.35), 0.1, 44)
    charge = {"charge": 0.5, "stress": False}
    yield case(
        kind, "kf-charged-dftb3", "charged cell", THREEOB, moved, kpts=(2,) * 3, third_order=dftb3("K F"), **charge
    )
    crystal_ = urea_crystal()
    yield case(
        kind,
        "urea-crystal-dftb3",
        "hydrogen bonds",
        THREEOB,
        crystal_,
        kpts=(1, 1, 2),
        third_order=dftb3("C H N O"),
        **damped,
    )
    radical = with_moments(molecule("NO2"), [1, 0, 0])
    yield case(
        kind, "no2-dftb3-spin", "with spin", THREEOB, radical, third_order=dftb3("N O"), spin=polarised("N O", 1.0)
    )


def shell_resolved() -> Iterator[Case]:
    """A charge and a U for each shell."""
    kind = "shell-resolved"
    yes = {"shell_resolved": True}
    yield case(kind, "cu-fcc-shells", "one atom", MATSCI, bulk("Cu", "fcc", 3.61), kpts=(5, 5, 5), **yes)
    yield case(
        kind,
        "gaas-shells",
        "zinc blende, moved",
        HYB,
        rattled(bulk("GaAs", "zincblende", 5.65), 0.1, 4),
        kpts=(3,) * 3,
        **yes,
    )
    yield case(kind, "tio2-anatase-shells", "six atoms", MATSCI, anatase(), kpts=(2, 2, 2), **yes)
    yield case(kind, "h2s-shells", "molecule", MIO, molecule("SH2"), **yes)
    zinc = rattled(bulk("ZnO", "wurtzite", a=3.25, c=5.207), 0.05, 45)
    yield case(kind, "zno-shells", "wurtzite, moved", (ZNORG, MIO), zinc, kpts=(2, 2, 2), **yes)
    model = Atoms(
        "SiO", positions=[[0, 0, 0], [1.3, 1.1, 1.7]], cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]], pbc=True
    )
    yield case(kind, "model-spd-shells", "every U different", "model-spd", model, kpts=(2, 3, 2), **yes)
    yield case(
        kind,
        "model-f-shells",
        "every U different, spdf",
        "model-f",
        model_f(),
        kpts=(2, 1, 2),
        temperature=3000.0,
        **yes,
    )
    iron = with_moments(bulk("Fe", "bcc", 2.87), [3])
    yield case(kind, "fe-bcc-shells-spin", "with spin", TRANS3D, iron, kpts=(4,) * 3, spin=polarised("Fe"), **yes)


def dispersion() -> Iterator[Case]:
    """D3 with Becke-Johnson damping, and D4; D4 in DFTB+ is for molecules (docs/engines.md)."""
    kind = "dispersion"
    pair = water_dimer()
    full = {"third_order": dftb3("C H N O"), "hydrogen_damping": 4.0}
    yield case(
        kind,
        "water-dimer-d3",
        "DFTB3-D3(BJ)",
        THREEOB,
        pair,
        dispersion=D3,
        third_order=dftb3("H O"),
        hydrogen_damping=4.0,
    )
    yield case(kind, "benzene-dimer-d3", "stacked", MIO, _stacked(3.6), dispersion=D3)
    yield case(kind, "graphite-d3", "layers", MIO, graphite_aa(), kpts=(4, 4, 2), dispersion=D3)
    yield case(kind, "urea-crystal-d3", "DFTB3-D3(BJ)", THREEOB, urea_crystal(), kpts=(1, 1, 2), dispersion=D3, **full)
    yield case(
        kind,
        "benzene-crystal-d3",
        "48 atoms",
        THREEOB,
        benzene_crystal(),
        dispersion=D3,
        eigenvalues=False,
        third_order=dftb3("C H"),
    )
    yield case(
        kind, "mgo-d3", "ionic", THREEOB, rattled(bulk("MgO", "rocksalt", 4.21), 0.1, 46), kpts=(3,) * 3, dispersion=D3
    )
    yield case(kind, "cu-fcc-d3", "metal", MATSCI, bulk("Cu", "fcc", 3.61), kpts=(4,) * 3, dispersion=D3)
    yield case(kind, "water-dimer-d4", "with three-body terms", THREEOB, pair, dispersion=D4)
    yield case(kind, "benzene-dimer-d4", "stacked", MIO, _stacked(3.6), dispersion=D4)
    halides = tetrahedral("C", ["H", "Cl", "Br", "I"])
    yield case(kind, "chclbri-d4", "three halogens", THREEOB, halides, dispersion=D4)
    ammonium = Atoms("NH4", positions=[[0, 0, 0], *(1.02 * CORNERS)])
    yield case(kind, "ammonium-d4", "charged: EEQ charges follow", MIO, ammonium, dispersion=D4, charge=1.0)
    ion = tetraammine("Zn", 2.05)
    yield case(kind, "zn-tetraammine-d4", "charged: EEQ charges follow", THREEOB, ion, dispersion=D4, charge=2.0)


def _stacked(distance: float) -> Atoms:
    lower, upper = molecule("C6H6"), molecule("C6H6")
    upper.positions += [0.9, 0.4, distance]
    return lower + upper


def bands() -> Iterator[Case]:
    """Bands along a path, and states projected on shells."""
    kind = "bands and projections"
    yield case(
        kind,
        "si-bands",
        "L to Gamma to X",
        PBC,
        bulk("Si", "diamond", 5.43),
        kpts=(3,) * 3,
        band_points=_path([0.5, 0.5, 0.5], [0.5, 0, 0.5]),
    )
    oxide = bulk("MgO", "rocksalt", 4.21)
    yield case(
        kind, "mgo-bands", "ionic", THREEOB, oxide, kpts=(3,) * 3, band_points=_path([0.5, 0.5, 0.5], [0.5, 0, 0.5])
    )
    iron = with_moments(bulk("Fe", "bcc", 2.87), [3])
    points = _path([0.5, -0.5, 0.5], [0.25, 0.25, 0.25])
    yield case(
        kind,
        "fe-bcc-bands",
        "both spins, projections",
        PBC,
        iron,
        kpts=(3,) * 3,
        spin=polarised("Fe"),
        band_points=points,
        projections=True,
    )
    yield case(
        kind,
        "graphite-bands",
        "without SCC",
        MIO,
        graphite_aa(),
        kpts=(3, 3, 2),
        scc=False,
        band_points=_path([1 / 3, 1 / 3, 0], [0.5, 0, 0]),
    )
    yield case(kind, "water-projected", "molecule", MIO, molecule("H2O"), projections=True)
    yield case(
        kind, "tio2-rutile-projected", "mesh reduced by symmetry", MATSCI, rutile(), kpts=(2, 2, 3), projections=True
    )
    yield case(
        kind,
        "sic-projected",
        "sheared",
        PBC,
        rattled(bulk("SiC", "zincblende", 4.36), 0.12, 3, 0.06),
        kpts=(3, 2, 2),
        projections=True,
    )


def _path(first: list[float], last: list[float]) -> tuple[tuple[float, ...], ...]:
    """Nine points from one over Gamma to another."""
    share = np.linspace(1.0, 0.0, 5)[:, None]
    points = np.concatenate([share * first, share[-2::-1] * last])
    return tuple(tuple(float(x) for x in np.round(point, 12)) for point in points)


def own_tables() -> Iterator[Case]:
    """From the free atom to both engines: tables built when they are needed (see dftbplus_tables.py)."""
    kind = "own tables"
    ptbp, heavy = "own:ptbp", "own:f"
    yield case(
        kind,
        "own-si-diamond",
        "spd, with bands",
        ptbp,
        bulk("Si", "diamond", 5.43),
        kpts=(4,) * 3,
        band_points=_path([0.5, 0.5, 0.5], [0.5, 0, 0.5]),
    )
    yield case(kind, "own-tio2-rutile", "spd and sp", ptbp, rattled(rutile(), 0.05, 51), kpts=(2, 2, 3))
    yield case(
        kind, "own-tio2-shells", "the same with a charge per shell", ptbp, rutile(), kpts=(2, 2, 2), shell_resolved=True
    )
    yield case(kind, "own-w-bcc", "5d metal", ptbp, bulk("W", "bcc", 3.165), kpts=(6, 6, 6))
    yield case(
        kind, "own-sio2", "molecule", ptbp, Atoms("SiO2", positions=[[0, 0, 0], [1.5, 0.2, 0.3], [-1.45, 0.1, 0.4]])
    )
    hot = {"temperature": 3000.0}
    yield case(kind, "own-ce-fcc", "spdf", heavy, bulk("Ce", "fcc", 5.16), kpts=(4,) * 3, **hot)
    yield case(
        kind,
        "own-ceo2-fluorite",
        "spdf and sp, moved",
        heavy,
        rattled(fluorite("Ce", "O", 5.41), 0.08, 52, 0.03),
        kpts=(2, 3, 2),
        **hot,
    )
    yield case(
        kind,
        "own-ceo2-shells",
        "a charge per shell",
        heavy,
        fluorite("Ce", "O", 5.41),
        kpts=(2,) * 3,
        shell_resolved=True,
        **hot,
    )
    yield case(kind, "own-uo2-fluorite", "5f", heavy, fluorite("U", "O", 5.47), kpts=(3,) * 3, **hot)
    magnet = with_moments(bulk("U", "bcc", 3.53), [2])
    yield case(kind, "own-u-bcc-spin", "5f with spin", heavy, magnet, kpts=(4,) * 3, spin=Spin({"U": -0.01}), **hot)
