"""Warm starts: what may be named, what it gives, and how a fit takes it up."""

import math
from pathlib import Path
from typing import Any

import pytest

from dftbparam.campaign.fit import FitRequest, plan_fit, run_fit
from dftbparam.campaign.warm_start import BEST, NEIGHBOURS, find_starts, plan_starts
from dftbparam.elements import element
from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.slako.pseudoatom import free_atom
from dftbparam.space import ParameterSet, load_parameter_set
from dftbparam.space.build import build_space
from dftbparam.space.definition import load_space
from dftbparam.space.element_space import element_parameters, element_space
from dftbparam.store import Run, Trial, TrialStore

VALUES = {"radius_3s": 2.3, "radius_3p": 7.0, "radius_3d": 8.0, "radius_density": 6.0, "power": 5.0, "shift_3d": 0.08}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A parameter set of silicon and germanium, as a fit leaves it; shifts included."""
    records = {}
    for symbol, shells in (("Si", ("3s", "3p", "3d")), ("Ge", ("4s", "4p", "4d"))):
        levels = free_atom(symbol, element(symbol).configuration_text, shells).levels
        values = {name.replace("_3", f"_{shells[0][0]}"): value for name, value in VALUES.items()}
        records[symbol] = element_parameters(symbol, values, free_levels=levels)
    path = tmp_path / "run" / "parameters.json"
    path.parent.mkdir()
    ParameterSet(name="mine", elements=records).save(path)
    return path


def trial(run_id: str, index: int, objective: float | None, **values: Any) -> Trial:
    return Trial(
        run_id=run_id,
        index=index,
        x=(0.5,) * len(VALUES),
        parameters=VALUES | values,
        status="failed" if objective is None else "finished",
        objective=objective,
        details={"repulsion": {"form": "screened-power", "values": {"charge": 9.0, "length": 1.2, "exponent": 2.0}}},
        error={"type": "AtomError", "message": "", "data": {}} if objective is None else None,
    )


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A store with a run of silicon, whose best trials lie close together, and one of tungsten."""
    path = tmp_path / "earlier" / "trials.sqlite"
    with TrialStore.open(path) as store:
        for run_id, symbol in (("fit", "Si"), ("other", "W")):
            store.create_run(Run(run_id=run_id, settings={"evaluation": {"symbol": symbol}}))
        for index in range(20):
            radius = 2.3 * (1.001**index if index < 10 else 1.1 ** (index - 9))
            objective = None if index == 3 else 1.0 + index
            store.append(trial("fit", index, objective, radius_3s=radius))
    return path


def test_published_is_the_default():
    starts = find_starts(("published",), "Si")
    assert [one.origin for one in starts] == ["published", "family", "family"]
    assert find_starts(("published", "published"), "Si") == starts
    assert find_starts(("none",), "Si") == []
    assert find_starts(("published",), "Ce")[0].origin == "published for La, scaled"


def test_group_and_period():
    names = [one.origin for one in find_starts(("group",), "Si")]
    assert names == ["C of ptbp", "Ge of ptbp", "Sn of ptbp"]
    assert len(names) == NEIGHBOURS
    period = find_starts(("period", "published"), "Si")
    assert [one.origin for one in period][:2] == ["Al of ptbp", "P of ptbp"]
    assert len(period) == NEIGHBOURS + 3
    # Their radii are scaled, so that every space holds them without being stretched.
    radius = element("Si").covalent_radius
    for one in period[:NEIGHBOURS]:
        assert 0.5 * radius < one.shells["3s"].radius < 5 * radius
    assert find_starts(("period",), "Ce")[0].origin == "La of ptbp"


def test_a_group_of_another_set(saved):
    for name in (f"group:{saved}", f"group:{saved.parent}"):
        (start,) = find_starts((name,), "Si")
        assert start.origin == "Ge of mine"
        assert start.shifts == {"3d": pytest.approx(0.08)}
        assert start.shells["3p"].power == 5.0
        ratio = element("Si").covalent_radius / element("Ge").covalent_radius
        assert start.shells["3s"].radius == pytest.approx(2.3 * ratio)


def test_parameters_of_the_element(saved):
    space = build_space("Si", load_space("default"))
    for name in (str(saved), str(saved.parent)):
        (planned,) = plan_starts((name,), space)
        assert planned.origin == "Si of mine"
        assert planned.values == pytest.approx(VALUES)
        assert planned.moved == ()
    assert plan_starts(("ptbp",), space)[0].values == plan_starts(("published",), space)[0].values


def test_the_best_trials_of_an_earlier_run(stored):
    for name in (str(stored), str(stored.parent)):
        starts = find_starts((name,), "Si")
        assert len(starts) == BEST
        # Of the cluster around the best there is one; the failed one is none.
        assert [one.origin for one in starts] == [f"trial {i} of run fit" for i in (0, 10, 11, 12, 13)]
        values, moved = starts[0].in_space(build_space("Si", load_space("default")))
        assert (values, moved) == (VALUES, [])
        assert starts[0].repulsion.values["charge"] == 9.0


def test_an_earlier_run_in_another_space(tmp_path):
    path = tmp_path / "trials.sqlite"
    fixed = {"confinement": "woods-saxon", "height": 4.0, "steepness": 2.0, "radius_density": 9.0}
    with TrialStore.open(path) as store:
        store.create_run(Run(run_id="fit", settings={"evaluation": {"symbol": "Si", "fixed": fixed}}))
        values = {"radius_3s": 4.0, "radius_3p": 5.0, "radius_3d": 6.0}
        store.append(Trial("fit", 0, (0.5,) * 3, values, "finished", 1.0))
    (start,) = find_starts((str(path),), "Si")
    assert start.shells["3p"].kind == start.density.kind == "woods-saxon"
    same, _ = start.in_space(build_space("Si", load_space("woods-saxon")))
    assert (same["radius_3p"], same["height"], same["steepness"]) == (5.0, 4.0, 2.0)
    # In a power's space the radius where the two meet: V = 2 Hartree at 5 Bohr.
    other, _ = start.in_space(build_space("Si", load_space("shells")))
    assert (5.0 / other["radius_3p"]) ** other["power_3p"] == pytest.approx(2.0)


def test_points_outside_are_moved_in_and_said(saved):
    plan = plan_fit(FitRequest(symbol="Si", out=Path("x"), start_from=(str(saved), "published"), space="ptbp"))
    high = 9 * element("Si").covalent_radius
    assert plan.starts[0].values["radius_density"] == 6.0 < high
    assert plan.moved == ()
    shifted = load_parameter_set(saved)
    wide = shifted.element("Si").model_copy(
        update={"density": shifted.element("Si").density.model_copy(update={"radius": 40.0})}
    )
    shifted.model_copy(update={"elements": {"Si": wide}}).save(saved)
    plan = plan_fit(FitRequest(symbol="Si", out=Path("x"), start_from=(str(saved),), space="default"))
    assert plan.moved == (f"Si of mine: radius_density = 40 Bohr to {element('Si').density_radius_range[1]:.4g}",)
    assert plan.starts[0].values["radius_density"] == element("Si").density_radius_range[1]


@pytest.mark.parametrize(
    ("names", "symbol", "message"),
    [
        (("none", "published"), "Si", "'none' stands alone"),
        (("publshed",), "Si", "no file and no folder; did you mean 'published'?"),
        (("nowhere.json",), "Si", "it is none of published, none, group, period"),
        (("group:",), "Si", "a set must follow the colon"),
        (("group:nowhere",), "Si", "to start from 'nowhere'"),
        (("group",), "Ce", "Ce is in no group"),
        (("ptbp",), "Ce", "no element 'Ce'"),
        (("empty",), "Si", "it has no parameters.json of a finished run, and no trials.sqlite"),
    ],
)
def test_bad_names(tmp_path, monkeypatch, names, symbol, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError) as caught:
        find_starts(names, symbol)
    assert message in caught.value.message


def test_bad_files(tmp_path, saved, stored):
    one = load_parameter_set(saved)
    one.model_copy(update={"elements": {"Si": one.element("Si")}}).save(saved)
    with pytest.raises(ParameterError, match="Si is in group 14, and 'mine' has no other of it"):
        find_starts((f"group:{saved}",), "Si")
    with pytest.raises(ParameterError, match="has no run of Cu; it has runs of: Si, W"):
        find_starts((str(stored),), "Cu")
    with pytest.raises(ParameterError, match="no trial of W succeeded"):
        find_starts((str(stored),), "W")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(FileFormatError, match="not JSON"):
        find_starts((str(tmp_path / "text.json"),), "Si")
    (tmp_path / "broken.sqlite").write_bytes(b"SQLite format 3\x00" + b"\xff" * 300)
    with pytest.raises(ParameterError, match="is not a trial store, or damaged"):
        find_starts((str(tmp_path / "broken.sqlite"),), "Si")


def test_a_fit_starts_from_an_earlier_one(tmp_path, stored):
    request = FitRequest(
        symbol="Si", out=tmp_path / "new", evaluations=2, workers=0, sampler="sobol", start_from=(str(stored),)
    )
    outcome = run_fit(request, published=False)
    first = outcome.trials[0]
    assert first.parameters == pytest.approx(VALUES)
    settings = outcome.result.parameters.provenance["settings"]
    starts = settings["evaluation"]["start_from"]
    assert [one["origin"] for one in starts] == [f"trial {i} of run fit" for i in (0, 10, 11, 12, 13)]
    assert starts[0]["values"] == pytest.approx(VALUES)
    assert str(tmp_path) not in str(settings)
    with pytest.raises(ParameterError, match=r"starting_points|start_from"):
        run_fit(request.model_copy(update={"start_from": ("none",), "resume": True}), published=False)


def test_the_size_of_the_design(tmp_path):
    """By default 2 d + 2 Sobol points after the starts; as many as are asked for, and recorded; at least one trial."""
    request = FitRequest(symbol="Si", out=tmp_path / "run", evaluations=4, workers=0, sampler="sobol", design=1)
    usual = plan_fit(request.model_copy(update={"design": None}))
    assert usual.initial == len(usual.starts) + 2 * len(usual.space.space) + 2
    assert plan_fit(request).initial == len(usual.starts) + 1
    assert plan_fit(request.model_copy(update={"start_from": ("none",), "design": 0})).initial == 1
    outcome = run_fit(request, published=False)
    settings = outcome.result.parameters.provenance["settings"]["campaign"]
    assert settings["n_initial"] == len(settings["starting_points"]) + 1 == len(usual.starts) + 1
    with pytest.raises(ParameterError, match=r"n_initial: was 4, now 5"):
        run_fit(request.model_copy(update={"design": 2, "resume": True}), published=False)


def test_spaces_reach_the_evaluation(tmp_path):
    """A wall for the orbitals, the repulsion's exponent searched with the radii, its length fixed."""
    text = """
    format = 1
    name = "mine"
    confinement = "woods-saxon"
    height = 4.0
    [shell_radius]
    range = ["1 r_cov", "4 r_cov"]
    scale = "log"
    [repulsion.exponent]
    range = [1.5, 2.5]
    [repulsion.length]
    fixed = 1.0
    """
    path = tmp_path / "mine.toml"
    path.write_text(text)
    request = FitRequest(
        symbol="Al", out=tmp_path / "run", evaluations=2, workers=0, sampler="sobol", space=str(path), seed=2
    )
    plan = plan_fit(request)
    assert plan.space.space.names == ("radius_3s", "radius_3p", "radius_3d", "repulsion_exponent")
    outcome = run_fit(request, published=False)
    record = outcome.result.parameters.element("Al")
    best = outcome.result.best
    assert {c.kind for c in (*record.shells.values(), record.density)} == {"woods-saxon"}
    assert record.shells["3s"].height == 4.0
    assert record.repulsion.values["exponent"] == best.parameters["repulsion_exponent"]
    assert record.repulsion.values["length"] == 1.0
    assert math.isfinite(record.repulsion.values["charge"])
    assert not any("length" in name for name in outcome.result.at_border)
    fixed = outcome.result.parameters.provenance["settings"]["evaluation"]["fixed"]
    assert (fixed["confinement"], fixed["height"], fixed["repulsion_length"]) == ("woods-saxon", 4.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "radii", "power": False}, "a fixed power belongs to the default space; in space 'radii'"),
        ({"space": "shells", "shift": False}, "a fixed shift belongs to the default space"),
        ({"scheduler": "tcp://a:1", "cluster": "slurm"}, "scheduler tcp://a:1 and cluster slurm contradict"),
        ({"start_from": ()}, "at least 1 item"),
    ],
)
def test_contradictions_in_a_request(options, message):
    with pytest.raises(ValueError, match=message):
        FitRequest(symbol="Si", out=Path("x"), **options)


def test_the_default_request_is_recorded_as_before():
    plan = plan_fit(FitRequest(symbol="Si", out=Path("x")))
    assert "fixed" not in plan.context.settings()
    assert plan.space.space == element_space("Si")
    plan = plan_fit(FitRequest(symbol="Si", out=Path("x"), power=False, shift=False))
    assert "fixed" not in plan.context.settings()
    assert plan.space.space == element_space("Si", power=False, shift=False)
