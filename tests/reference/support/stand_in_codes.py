"""ASE calculators that stand in for a DFT code; addressed by name, as a user's would be."""

import os
import time
from pathlib import Path

from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.calculators.emt import EMT


class Noted(EMT):
    """EMT that leaves a note of every calculation it begins in the folder ``DFTBPARAM_TEST_NOTES``, and dawdles."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        notes = os.environ.get("DFTBPARAM_TEST_NOTES")
        if notes and "energy" not in self.results:
            text = repr((atoms.cell.array.round(8).tolist(), atoms.positions.round(8).tolist()))
            (Path(notes) / f"{time.time_ns()}-{os.getpid()}").write_text(text)
            time.sleep(0.02 * (time.time_ns() // 1000 % 4))
        super().calculate(atoms, properties, system_changes)


class Failing(Calculator):
    """Fails as ``how`` says for cells smaller than ``below`` cubic Angstrom, else EMT."""

    implemented_properties = ("energy",)

    def __init__(self, how="scf", below=1e9):
        super().__init__()
        self.how, self.below = how, below

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if atoms.get_volume() < self.below:
            if self.how == "scf":
                raise SCFError("no convergence in 60 steps")
            if self.how == "nan":
                self.results["energy"] = float("nan")
                return
            raise ZeroDivisionError("a defect")
        copy = atoms.copy()
        copy.calc = EMT()
        self.results["energy"] = copy.get_potential_energy()


class Recorder(EMT):
    """EMT that wants options, to see what they were filled with."""

    def __init__(self, kpts, directory, note):
        super().__init__()
        Path(note).write_text(f"{tuple(kpts)} {Path(directory).is_dir()}")
