"""Write the made-up Slater-Koster files of this folder and record what DFTB+'s tools make of them; see README.md."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from dftbparam.repulsion import get_form, to_spline
from dftbparam.skf import OnSite, PolynomialRepulsion, SKFile, write_skf

HERE = Path(__file__).parent


def table(columns, n, step, seed):
    rng = np.random.default_rng(seed)
    r = step * np.arange(1, n + 1)[:, None]
    decay, wave, size = rng.uniform(0.6, 1.1, columns), rng.uniform(0.5, 1.5, columns), rng.uniform(-1, 1, columns)
    return np.round(size * np.exp(-decay * r) * np.cos(wave * r), 10)


def shells(*values):
    return np.array([*values, *[0.0] * (4 - len(values))])


def make_files():
    spline = to_spline(get_form("screened-nuclear").homonuclear({"sigma": 0.523}, number=14, radius=2.0976))
    write_skf(
        HERE / "Si-Si.skf",
        SKFile(
            grid_step=0.1,
            hamiltonian=table(10, 60, 0.1, 1),
            overlap=table(10, 60, 0.1, 2),
            on_site=OnSite(shells(-0.39, -0.14, 0.08), shells(0.33, 0.25, 0.11), shells(2.0, 2.0, 0.0)),
            mass=28.085,
            repulsion=spline,
            documentation="Made up for tests.",
        ),
    )
    write_skf(
        HERE / "Eu-Eu.skf",
        SKFile(
            grid_step=0.12,
            hamiltonian=table(20, 50, 0.12, 3),
            overlap=table(20, 50, 0.12, 4),
            on_site=OnSite(shells(-0.1, -0.05, -0.08, -0.3), shells(0.2, 0.2, 0.2, 0.3), shells(2.0, 0.0, 1.0, 6.0)),
            mass=151.964,
            extended=True,
        ),
    )
    write_skf(
        HERE / "C-O.skf",
        SKFile(
            grid_step=0.1,
            hamiltonian=table(10, 60, 0.1, 5),
            overlap=table(10, 60, 0.1, 6),
            repulsion=PolynomialRepulsion(
                coefficients=np.array([0.018, 0.0947, -0.1289, -0.1169, 0.3015, -0.1724, 0.033, 0.001]), cutoff=3.5
            ),
        ),
    )


def run(program, *arguments):
    text = subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout
    # Fortran drops the E before exponents of three digits.
    fields = [[re.sub(r"(?<=\d)([+-]\d{3})$", r"E\1", x) for x in line.split()] for line in text.splitlines()]
    return np.array(fields, dtype=float)


def main():
    tools = Path(sys.argv[1])
    make_files()
    out = {"origin": "DFTB+ 25.1, commit 8802aff66638; see README.md", "tables": [], "repulsions": []}
    for name, kind, columns, layout in (
        ("Si-Si", "homo", (1, 6, 10, 18), "orig"),
        ("Eu-Eu", "homo", (1, 20, 33), "ext"),
        ("C-O", "hetero", (9, 20), "orig"),
    ):
        for column in columns:
            values = run(tools / "integvalue", kind, str(HERE / f"{name}.skf"), layout, str(column))
            # From the first row on: below it DFTB+ reads outside its array.
            values = values[values[:, 0] > 0.15]
            chosen = np.r_[0 : len(values) : 397, len(values) - 1100 : len(values) : 101]
            out["tables"].append(
                {"file": name, "column": column, "r": values[chosen, 0].tolist(), "value": values[chosen, 1].tolist()}
            )
    for name, program in (("Si-Si", ["splvalue"]), ("C-O", ["polyvalue", "hetero"])):
        values = run(tools / program[0], *program[1:], str(HERE / f"{name}.skf"))
        chosen = values[20::23]
        keys = ("r", "value", "first", "second")
        out["repulsions"].append({"file": name} | {key: chosen[:, i].tolist() for i, key in enumerate(keys)})
    (HERE / "values.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
