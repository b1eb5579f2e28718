"""How good our own DFT references are: against WIEN2k (ASE's dcdft) and the all-electron average of ACWF.

    python benchmarks/reference_accuracy.py [--set gpaw-pbe] [--write]

Delta is the gauge of Lejaeghere et al. (2016) between our E(V) curve of the element's own crystal and WIEN2k's; phase
energies are those of sc, bcc and diamond above fcc against the shipped all-electron set. ``--write`` puts the table
into the README of the set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from ase.collections import dcdft
from ase.units import kJ

from dftbparam.reference import CrystalReference, Dataset, EosFit, load_dataset
from dftbparam.reference.dataset import dataset_folder
from dftbparam.reference.prototypes import GROUND_STATE, PROTOTYPES
from dftbparam.score import delta_gauge

BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
MAGNETIC = {"O", "Cr", "Mn", "Fe", "Co", "Ni"}
"""Elements that dcdft has spin-polarised; ours are not."""


def own_crystal(data: Dataset, symbol: str) -> CrystalReference | None:
    """Our curve of the crystal that dcdft has."""
    crystals = {c.prototype: c for c in data.crystals_of(symbol)}
    if GROUND_STATE in crystals:
        return crystals[GROUND_STATE]
    atoms = dcdft[symbol]
    # A listed cubic crystal: the one whose volume per atom and distance are those of dcdft's cell.
    import spglib

    number = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)).number
    for name in ("fcc", "bcc", "diamond", "sc"):
        if PROTOTYPES[name].spacegroup_number == number and name in crystals:
            return crystals[name]
    return None


def wien2k(symbol: str) -> EosFit:
    """WIEN2k's equation of state."""
    entry = dcdft.data[symbol]
    bulk_modulus = entry["wien2k_B"] * 1e-24 * kJ  # GPa to eV/Angstrom^3
    return EosFit(v0=entry["wien2k_volume"], e0=0.0, b0=bulk_modulus, b0_prime=entry["wien2k_Bp"])


def rows(data: Dataset) -> list[dict[str, object]]:
    """One row an element."""
    shipped = load_dataset()
    table: list[dict[str, object]] = []
    for symbol in data.symbols:
        row: dict[str, object] = {"symbol": symbol, "delta": None, "phases": {}}
        if symbol in dcdft.names and (ours := own_crystal(data, symbol)) is not None:
            row["delta"] = delta_gauge(wien2k(symbol), ours)
            row["volume"] = 100.0 * (ours.volume / wien2k(symbol).v0 - 1.0)
            row["crystal"] = ours.prototype
        mine = {c.prototype: c.energy for c in data.crystals_of(symbol)}
        theirs = {c.prototype: c.energy for c in shipped.crystals_of(symbol)}
        common = [name for name in ("sc", "bcc", "diamond") if name in mine and name in theirs]
        if "fcc" in mine:
            row["phases"] = {
                name: 1000.0 * ((mine[name] - mine["fcc"]) - (theirs[name] - theirs["fcc"])) for name in common
            }
        table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="gpaw-pbe")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    data = load_dataset(arguments.set)
    table = rows(data)
    lines = [
        "| element | crystal | ΔV, % | Δ, meV/atom | sc − fcc | bcc − fcc | diamond − fcc, errors in meV/atom |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table:
        phases = row["phases"]
        assert isinstance(phases, dict)
        delta = f"{row['volume']:+.2f} | {row['delta']:.1f}" if row["delta"] is not None else " | "
        star = "*" if row["symbol"] in MAGNETIC else ""
        values = " | ".join(f"{phases[n]:+.1f}" if n in phases else "" for n in ("sc", "bcc", "diamond"))
        lines.append(f"| {row['symbol']}{star} | {row.get('crystal', '')} | {delta} | {values} |")
    deltas = [float(str(r["delta"])) for r in table if r["delta"] is not None and r["symbol"] not in MAGNETIC]
    errors = [abs(e) for r in table if isinstance(r["phases"], dict) for e in r["phases"].values()]
    complete = sum(isinstance(r["phases"], dict) and len(r["phases"]) == 3 for r in table)
    if deltas:
        lines += ["", f"Δ: median {median(deltas):.2f} meV/atom over {len(deltas)} elements (those with * left out)."]
    if errors:
        lines += [
            "",
            f"Phase energies: median error {median(errors):.1f} meV/atom, largest {max(errors):.1f}, over "
            f"{len(errors)} differences; {complete} elements have all four crystals.",
        ]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        path = Path(dataset_folder(arguments.set)) / "README.md"
        old = path.read_text(encoding="utf-8")
        if BEGIN not in old or END not in old:
            sys.exit(f"{path} has no lines {BEGIN} and {END}")
        head, rest = old.split(BEGIN, 1)
        path.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
