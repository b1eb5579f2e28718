"""Make data.csv of this folder from the results of the ACWF verification.

    python references/acwf-oxides-pbe/combine.py FOLDER > references/acwf-oxides-pbe/data.csv

FOLDER is acwf_paper_plots/code-data of the repository aiidateam/acwf-verification-scripts (commit e8a0a4410d6e);
README.md says what is combined, and how.
"""

import csv
import json
import sys
from pathlib import Path
from statistics import median

OXIDES = {
    "XO": ("rocksalt", 1, 1),
    "XO2": ("fluorite", 1, 2),
    "X2O": ("antifluorite", 2, 1),
    "XO3": ("reo3", 1, 3),
}
"""Prototype, and atoms of X and of O."""


def energy(results, crystal):
    """Energy at the minimum, eV/atom; None where the code has none."""
    fit = results["BM_fit_data"].get(crystal) or {}
    atoms = results["num_atoms_in_sim_cell"].get(crystal)
    return None if fit.get("E0") is None or not atoms else fit["E0"] / atoms


def lines(folder):
    """Lines of the file."""
    average = json.loads((folder / "results-oxides-verification-PBE-v1-AE-average.json").read_text())
    codes = []
    for file in sorted(folder.glob("results-oxides-verification-PBE-v1-*.json")):
        elements = file.with_name(file.name.replace("oxides", "unaries"))
        if "AE-average" not in file.name and elements.exists():
            codes.append((json.loads(file.read_text()), json.loads(elements.read_text())))

    unaries = Path(__file__).parent.parent / "acwf-unaries-pbe" / "data.csv"
    rows = list(csv.DictReader(line for line in unaries.read_text().splitlines() if not line.startswith("#")))
    yield "# Bosoni et al., Nat. Rev. Phys. 6, 45 (2024), MIT licence; README.md has source, meaning and units."
    yield "symbol,partner,prototype,volume,bulk_modulus,bulk_modulus_derivative,energy,energy_spread,n_codes"
    for row in rows:
        symbol, *rest = row.values()
        yield ",".join([symbol, "", *rest])
    for symbol in dict.fromkeys(row["symbol"] for row in rows):
        if symbol == "O":
            continue
        for name, (prototype, x, o) in OXIDES.items():
            crystal = f"{symbol}-{name}"
            fit, atoms = average["BM_fit_data"][crystal], average["num_atoms_in_sim_cell"][crystal]
            formed = []
            for oxides, elements in codes:
                parts = (
                    energy(oxides, crystal),
                    energy(elements, f"{symbol}-X/FCC"),
                    energy(elements, "O-X/FCC"),
                )
                if None not in parts:
                    formed.append(parts[0] - x / (x + o) * parts[1] - o / (x + o) * parts[2])
            middle = median(formed)
            spread = median(abs(value - middle) for value in formed)
            yield (
                f"{symbol},O,{prototype},{fit['min_volume'] / atoms:.6f},{fit['bulk_modulus_ev_ang3']:.6f},"
                f"{fit['bulk_deriv']:.4f},{middle:.6f},{spread:.6f},{len(formed)}"
            )


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines(Path(sys.argv[1])))
