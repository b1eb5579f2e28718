"""The DFT runner with GPAW itself; skipped, visibly, where GPAW is not installed."""

import numpy as np
import pytest

pytest.importorskip("gpaw", reason="GPAW is not installed (docs/guide.md says how)")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from dftbparam.reference.dft import Plan, Request, Task, recipe_for, run_task  # noqa: E402
from dftbparam.reference.dft.paths import band_path  # noqa: E402
from dftbparam.reference.dft.plan import parse_system  # noqa: E402
from dftbparam.reference.prototypes import build  # noqa: E402
from dftbparam.reference.records import BandReference  # noqa: E402


def silicon(kind="energy", *, rattle=0.0, strain=None, path=(), move=0.0, **recipe):
    atoms = build("diamond", "Si", 20.4)
    if rattle:
        atoms.rattle(rattle, seed=3)
    atoms.positions[0, 0] += move
    if strain is not None:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    settings = {"cutoff": 300.0, "energy": 1e-8, "density": 1e-6, "eigenstates": 1e-10, **recipe}
    return Task.of("Si/diamond/test", kind, recipe_for(["Si"], **settings), atoms, (4, 4, 4), path=path)


def test_forces_and_stress_are_derivatives_of_the_free_energy():
    here = run_task(silicon("forces", rattle=0.05))["result"]
    step = 0.005
    ends = [run_task(silicon(rattle=0.05, move=m))["result"]["energy_free"] for m in (-step, step)]
    # The centre of mass moves too, but the energy does not know.
    assert here["forces"][0][0] == pytest.approx(-(ends[1] - ends[0]) / (2 * step), abs=2e-3)
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = 0.5 * step
    ends = [run_task(silicon(rattle=0.05, strain=s * strain))["result"]["energy_free"] for s in (-1, 1)]
    volume = 40.8
    assert here["stress"][5] == pytest.approx((ends[1] - ends[0]) / (2 * step) / volume, abs=2e-4)


def test_bands_of_silicon():
    atoms = build("diamond", "Si", 20.4)
    path = band_path(atoms)
    record = run_task(silicon("bands", path=path.points, smearing=0.01))
    assert record["error"] is None, record["error"]
    result = record["result"]
    bands = BandReference(
        symbol="Si", prototype="diamond", volume=20.4, points=path.points.tolist(), energies=result["bands"],
        electrons=result["electrons"], smearing=0.01, labels=path.labels, breaks=path.breaks,
    )  # fmt: skip
    assert bands.electrons == 8
    # PBE's indirect gap of silicon, 0.57 to 0.62 eV in the literature, with some room for the coarse mesh.
    assert 0.5 < bands.gap < 0.72
    gamma = bands.array[0]
    assert gamma[3] - gamma[0] == pytest.approx(11.9, abs=0.2)
    assert np.ptp(gamma[1:4]) < 1e-3


def test_scf_that_does_not_converge_names_every_remedy():
    record = run_task(silicon(max_iterations=1))
    assert record["result"] is None
    assert record["error"]["type"] == "ScfNotConverged"
    assert "3 attempts" in record["error"]["message"]
    assert len(record["error"]["attempts"]) == 3


def test_element_without_data_set():
    atoms = build("fcc", "Tc", 14.5)
    record = run_task(Task.of("Tc/fcc/x", "energy", recipe_for(["Tc"]), atoms, (2, 2, 2)))
    assert record["error"]["type"] == "EngineError"
    assert "no data set for one of Tc" in record["error"]["message"]


def test_isolated_oxygen_is_a_triplet():
    plan = Plan(Request([parse_system("O", ["fcc"])], ["atoms"]), lambda _task: None)
    (task,) = plan.progress(plan.request.systems[0]).tasks
    result = run_task(task)["result"]
    assert result["magnetic_moment"] == pytest.approx(2.0, abs=1e-4)
    assert result["energy"] < -1.0
