"""Structures of the golden cases that ASE does not bring along. Angstrom."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import graphene, molecule
from ase.data import atomic_numbers, covalent_radii
from ase.spacegroup import crystal

CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3.0)
"""Directions of four neighbours."""


def rattled(atoms: Atoms, amplitude: float, seed: int, strain: float = 0.0) -> Atoms:
    """Move every atom, and shear the cell, by reproducible random amounts (Angstrom; strain as a fraction)."""
    rng = np.random.default_rng(seed)
    out = atoms.copy()
    if strain:
        out.set_cell(out.cell.array @ (np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
    out.positions += amplitude * rng.uniform(-1, 1, out.positions.shape)
    out.positions = np.round(out.positions, 10)
    return out


def with_moments(atoms: Atoms, moments: list[float]) -> Atoms:
    """Give every atom a magnetic moment to start from (electrons)."""
    out = atoms.copy()
    out.set_initial_magnetic_moments(moments)
    return out


def together(*molecules: Atoms, gap: float = 2.8) -> Atoms:
    """Put molecules side by side along x, ``gap`` Angstrom between their nearest planes of nuclei."""
    out = molecules[0].copy()
    for one in molecules[1:]:
        other = one.copy()
        other.positions[:, 0] += out.positions[:, 0].max() - other.positions[:, 0].min() + gap
        out += other
    return Atoms(out.symbols, positions=np.round(out.positions, 10))


def bond(a: str, b: str) -> float:
    """Sum of two covalent radii."""
    return float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])


def tetrahedral(centre: str, corners: list[str]) -> Atoms:
    """Four atoms about a fifth, each at the sum of covalent radii."""
    places = [bond(centre, s) * d for s, d in zip(corners, CORNERS, strict=True)]
    return Atoms([centre, *corners], positions=np.round([np.zeros(3), *places], 10))


def ligands(centre: str, chain: list[list[str]]) -> Atoms:
    """Four linear ligands about an atom, each a list of symbols from the centre outwards, bonds of covalent radii."""
    symbols, places = [centre], [np.zeros(3)]
    for direction, atoms in zip(CORNERS, chain, strict=True):
        before, where = centre, np.zeros(3)
        for symbol in atoms:
            where = where + bond(before, symbol) * direction
            symbols.append(symbol)
            places.append(where)
            before = symbol
    return Atoms(symbols, positions=np.round(places, 10))


def tetraammine(metal: str, distance: float) -> Atoms:
    """A metal with four ammonia molecules."""
    symbols, places = [metal], [np.zeros(3)]
    for u in CORNERS:
        side = np.cross(u, [0.3, 0.8, -0.5])
        side /= np.linalg.norm(side)
        other = np.cross(u, side)
        symbols += ["N", "H", "H", "H"]
        places.append(distance * u)
        for angle in (0.0, 2.0 * np.pi / 3.0, 4.0 * np.pi / 3.0):
            out = np.cos(angle) * side + np.sin(angle) * other
            places.append(distance * u + 1.02 * (0.37 * u + 0.93 * out))
    return Atoms(symbols, positions=np.round(places, 10))


def urea() -> Atoms:
    """A planar molecule like urea, CO(NH2)2; idealised bond lengths and angles."""
    half = np.deg2rad(58.5)
    n = np.array([1.37 * np.sin(half), 0.0, -1.37 * np.cos(half)])
    tilt = np.deg2rad(62.0)
    h1 = n + 1.01 * np.array([0.0, 0.0, -1.0])
    h2 = n + 1.01 * np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    mirror = np.array([-1.0, 1.0, 1.0])
    places = [[0, 0, 0], [0, 0, 1.22], n, n * mirror, h1, h2, h1 * mirror, h2 * mirror]
    return Atoms("CON2H4", positions=np.round(places, 10))


def water_dimer() -> Atoms:
    """Two water molecules with a hydrogen bond, near the geometry of the minimum."""
    places = [
        [-1.551, -0.115, 0.0],
        [-1.934, 0.763, 0.0],
        [-0.600, 0.041, 0.0],
        [1.350, 0.111, 0.0],
        [1.680, -0.374, -0.759],
        [1.680, -0.374, 0.759],
    ]
    return Atoms("OH2OH2", positions=places)


def diborane() -> Atoms:
    """B2H6 with its two bridges."""
    places = [[0.882, 0, 0], [-0.882, 0, 0], [0, 0, 0.99], [0, 0, -0.99]]
    places += [[sx * 1.46, sy * 1.04, 0.0] for sx in (1, -1) for sy in (1, -1)]
    return Atoms("B2H6", positions=places)


def water_box(n: int, edge: float, seed: int) -> Atoms:
    """``n`` cubed water molecules, turned at random, on the sites of a simple cubic lattice in a cube."""
    from scipy.spatial.transform import Rotation

    one = molecule("H2O")
    one.positions -= one.positions.mean(axis=0)
    turns = Rotation.random(n**3, random_state=np.random.RandomState(seed)).as_matrix()
    sites = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * (edge / n)
    places = np.concatenate([one.positions @ turn.T + site for turn, site in zip(turns, sites, strict=True)])
    return Atoms("OH2" * n**3, positions=np.round(places, 8), cell=[edge] * 3, pbc=True)


def graphite_aa() -> Atoms:
    """Layers of graphene above each other."""
    out = graphene(a=2.46, vacuum=0.0)
    out.set_cell([*out.cell.array[:2], [0, 0, 3.4]])
    out.pbc = True
    return out


def rutile() -> Atoms:
    """TiO2."""
    sites = [(0, 0, 0), (0.305, 0.305, 0)]
    return crystal(["Ti", "O"], sites, spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])


def anatase() -> Atoms:
    """TiO2, primitive cell."""
    sites = [(0, 0, 0), (0, 0, 0.208)]
    cell = [3.785, 3.785, 9.514, 90, 90, 90]
    return crystal(["Ti", "O"], sites, spacegroup=141, cellpar=cell, primitive_cell=True)


def fluorite(cation: str, anion: str, a: float) -> Atoms:
    """Cations on a face-centred lattice, anions in all its tetrahedra; primitive cell."""
    lattice = 0.5 * a * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    places = [[0, 0, 0], [0.25] * 3, [0.75] * 3]
    return Atoms([cation, anion, anion], scaled_positions=places, cell=lattice, pbc=True)


def cuprite() -> Atoms:
    """Ag2O."""
    return crystal(["O", "Ag"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=224, cellpar=[4.72] * 3 + [90] * 3)


def perovskite(a: str, b: str, c: str, lattice: float) -> Atoms:
    """Cubic ABC3."""
    places = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms([a, b, c, c, c], scaled_positions=places, cell=[lattice] * 3, pbc=True)


def quartz() -> Atoms:
    """SiO2, the low-temperature form (Kihara, Eur. J. Mineral. 2, 63 (1990))."""
    sites = [(0.4697, 0, 2 / 3), (0.4135, 0.2669, 0.7858)]
    return crystal(["Si", "O"], sites, spacegroup=154, cellpar=[4.9137, 4.9137, 5.4047, 90, 90, 120])


def layered(metal: str, anion: str, a: float, c: float, z: float) -> Atoms:
    """A layered MX2 of the type of CdI2."""
    sites = [(0, 0, 0), (1 / 3, 2 / 3, z)]
    return crystal([metal, anion], sites, spacegroup=164, cellpar=[a, a, c, 90, 90, 120])


def brucite() -> Atoms:
    """Mg(OH)2."""
    sites = [(0, 0, 0), (1 / 3, 2 / 3, 0.2203), (1 / 3, 2 / 3, 0.4271)]
    return crystal(["Mg", "O", "H"], sites, spacegroup=164, cellpar=[3.148, 3.148, 4.779, 90, 90, 120])


def dry_ice() -> Atoms:
    """CO2, cubic."""
    return crystal(["C", "O"], [(0, 0, 0), (0.1185,) * 3], spacegroup=205, cellpar=[5.624] * 3 + [90] * 3)


def ice() -> Atoms:
    """Ice XI, protons in order (Leadbetter et al., J. Chem. Phys. 82, 424 (1985)), primitive cell."""
    sites = [
        (0.0, 0.6648, 0.0631),
        (0.5, 0.8255, -0.0631),
        (0.0, 0.6636, 0.1963),
        (0.0, 0.5363, 0.0183),
        (0.6766, -0.2252, -0.0183),
    ]
    cell = [4.465, 7.858, 7.292, 90, 90, 90]
    return crystal(["O", "O", "H", "H", "H"], sites, spacegroup=36, cellpar=cell, primitive_cell=True)


def urea_crystal() -> Atoms:
    """CO(NH2)2 (Swaminathan, Craven, McMullan, Acta Cryst. B 40, 300 (1984))."""
    sites = [
        (0.0, 0.5, 0.328),
        (0.0, 0.5, 0.5962),
        (0.1459, 0.6459, 0.1784),
        (0.2575, 0.7575, 0.2827),
        (0.1441, 0.6441, -0.0380),
    ]
    return crystal(["C", "O", "N", "H", "H"], sites, spacegroup=113, cellpar=[5.565, 5.565, 4.684, 90, 90, 90])


def benzene_crystal() -> Atoms:
    """C6H6 at 138 K (Bacon, Curry, Wilson, Proc. R. Soc. A 279, 98 (1964))."""
    sites = [
        (-0.0569, 0.1387, -0.0054),
        (-0.1335, 0.0460, 0.1264),
        (-0.0774, -0.0925, 0.1295),
        (-0.0976, 0.2447, -0.0177),
        (-0.2409, 0.0794, 0.2218),
        (-0.1371, -0.1631, 0.2312),
    ]
    return crystal(["C"] * 3 + ["H"] * 3, sites, spacegroup=61, cellpar=[7.39, 9.42, 6.81, 90, 90, 90])
