"""Formation energies as a target of a fit: what is asked for, their zeros, leaving a partner out, resuming."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dftbparam.campaign.binary_cards import score_crystals
from dftbparam.campaign.evaluate import repulsion_search, zeros_of
from dftbparam.campaign.fit import RUN_ID, FitRequest, plan_fit, run_fit
from dftbparam.campaign.fit_plan import check_fit
from dftbparam.campaign.leave_one_out import FOLDER, fit_without, partners_to_leave_out
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing, NoMinimum, ReferenceDataError
from dftbparam.reference import load_dataset
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set
from dftbparam.store import STORE_NAME, TrialStore, differing_settings


@pytest.fixture(scope="module")
def ptbp():
    return load_parameter_set("ptbp")


@pytest.fixture
def mixed(tmp_path):
    """Oxygen fitted to a crystal of its own and to two oxides, formation energies included."""
    return FitRequest(
        symbol="O",
        references="acwf-oxides-pbe",
        partners="ptbp",
        crystals=("sc", "Li-O antifluorite", "Be-O rocksalt"),
        targets="eos,formation",
        power=False,
        evaluations=1,
        workers=0,
        seed=1,
        out=tmp_path / "O",
    )


def test_formation_energies_as_a_target(tmp_path, ptbp):
    request = FitRequest(
        symbol="Mg",
        references="acwf-oxides-pbe",
        partners="ptbp",
        crystals=("fcc", "rocksalt", "fluorite"),
        targets="eos,formation:2",
        out=tmp_path,
    )
    context = plan_fit(request).context
    assert [(one.symbol, one.prototype) for one in context.stable] == [("O", "sc")]
    assert context.settings()["targets"]["formation"] == 2.0
    # The same number from the report card, which takes its own way to every minimum.
    card = score_crystals(
        build_tables(ptbp, ["Mg", "O"]), "Mg", context.references, load_dataset("acwf-oxides-pbe"), EmbeddedEngine()
    )
    found = repulsion_search(context).objective.measure(np.array([c.energies(v) for c, v in as_scored(card, context)]))
    np.testing.assert_allclose(found.formation, [one.error for one in card.formation], atol=2e-3)
    with pytest.raises(
        ReferenceDataError, match=r"needs Mg's most stable crystal, fcc, among.*--crystals 'fcc,Mg-O rocksalt,bcc'"
    ):
        plan_fit(request.model_copy(update={"crystals": ("bcc", "rocksalt")}))
    with pytest.raises(ReferenceDataError, match=r"needs binaries among.*choose some of Mg-O rocksalt"):
        plan_fit(request.model_copy(update={"crystals": ("fcc", "bcc")}))
    with pytest.raises(ReferenceDataError, match=r"needs binaries among.*'acwf-unaries-pbe' has no binaries of Mg"):
        plan_fit(FitRequest(symbol="Mg", targets="eos,formation", out=tmp_path))
    # Known before the partners are.
    with pytest.raises(
        ReferenceDataError, match=r"Li-Cl cscl has no formation energy: .*different cutoffs \(Li-Cl 500"
    ):
        check_fit(FitRequest(symbol="Cl", references="gpaw-pbe", targets="eos,formation", out=tmp_path), ["Li"], "x")


def as_scored(card, context):
    """Crystals as the card found them, and the volumes of the fit: curves with known minima."""
    by_name = {one.prototype: one for one in card.crystals}
    for reference, volumes in zip(context.references, repulsion_search(context).objective.volumes, strict=True):
        one = by_name[reference.name]
        update = {"volume": one.volume, "bulk_modulus": one.bulk_modulus, "energy": one.energy}
        yield reference.model_copy(update=update), volumes


def test_a_partner_without_a_minimum_is_said_before_the_first_trial(tmp_path, ptbp):
    """Oxygen that repels itself only: no solid to count formation energies from."""
    oxygen = ptbp.element("O")
    hard = oxygen.repulsion.model_copy(update={"values": {"sigma": 4.0}})
    folder = tmp_path / "hard.json"
    folder.write_text(
        ptbp.model_copy(update={"elements": {"O": oxygen.model_copy(update={"repulsion": hard})}}).model_dump_json()
    )
    request = FitRequest(
        symbol="Mg", references="acwf-oxides-pbe", partners=str(folder), crystals=("fcc", "rocksalt"),
        targets="eos,formation", evaluations=1, workers=0, out=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(NoMinimum, match="the partner O has no minimum as sc to count formation energies from"):
        run_fit(request)


@pytest.mark.dftbplus
def test_zeros_are_the_same_by_dftbplus(mixed):
    try:
        DftbPlusEngine()
    except EngineMissing as error:
        pytest.skip(str(error))
    context = plan_fit(mixed.model_copy(update={"crystals": ("sc", "Be-O rocksalt"), "engine": "dftb+"})).context
    found = zeros_of(context)
    assert list(found) == ["Be"]
    expected = zeros_of(replace(context, engine="embedded"))["Be"]
    assert found["Be"].energy == pytest.approx(expected.energy, abs=1e-6)
    assert found["Be"].reference == expected.reference == load_dataset("acwf-oxides-pbe").stable("Be").energy


def test_zeros_are_those_of_the_engine_that_is_asked_for(mixed):
    context = plan_fit(mixed).context
    with pytest.raises(EngineMissing, match="no-such-program"):
        zeros_of(replace(context, engine="dftb+", command="no-such-program"))


def test_a_partner_left_out_of_a_mixed_fit(mixed):
    assert partners_to_leave_out(mixed) == ("Li", "Be")
    left = fit_without(mixed, "Be", 1)
    assert (left.partner, left.trials, left.parameters.symbol) == ("Be", 1, "O")
    with TrialStore.open(mixed.out / FOLDER / "Be" / STORE_NAME, create=False) as store:
        asked = store.load_run(RUN_ID).settings["evaluation"]
        (trial,) = store.trials(RUN_ID)
    # Oxygen's own crystal stays, without which nothing is formed; of beryllium nothing is left, its zero included.
    assert [(one["symbol"], one["partner"], one["prototype"]) for one in asked["references"]] == [
        ("Li", "O", "antifluorite"),
        ("O", None, "sc"),
    ]
    assert [one["symbol"] for one in asked["formed_from"]] == list(asked["partners"]["elements"]) == ["Li"]
    assert asked["targets"]["formation"] == 1.0
    assert list(trial.details["formation"]) == ["Li-O antifluorite"]
    # The card is of what was left out alone, with its formation energy from zeros that the data have.
    assert [one.prototype for one in left.card.crystals] == ["Be-O rocksalt"]
    (formed,) = left.card.formation
    stable = {symbol: load_dataset("acwf-oxides-pbe").stable(symbol).energy for symbol in ("Be", "O")}
    reference = next(one for one in plan_fit(mixed).context.references if one.name == "Be-O rocksalt")
    assert formed.reference_formation_energy == pytest.approx(reference.energy - 0.5 * sum(stable.values()))
    assert abs(formed.error) < 2.0
    assert not left.card.missing


def test_settings_of_a_mixed_fit_are_equal_where_the_request_is(mixed, ptbp, tmp_path):
    def settings(**more):
        return plan_fit(mixed.model_copy(update=more)).context.settings()

    first, again = settings(), settings()
    stored = json.loads(json.dumps(first))
    assert stored == first == again
    assert differing_settings(stored, again) == []
    lithium = ptbp.element("Li")
    shells = {nl: one.model_copy(update={"radius": one.radius + 0.01}) for nl, one in lithium.shells.items()}
    changed = ptbp.model_copy(
        update={"elements": {**ptbp.elements, "Li": lithium.model_copy(update={"shells": shells})}}
    )
    changed.save(tmp_path / "changed.json")
    names = {name for name, _, _ in differing_settings(stored, settings(partners=str(tmp_path / "changed.json")))}
    assert names == {f"partners.elements.Li.shells.{nl}.radius" for nl in shells}
    # A partner that no crystal holds is none of this fit's.
    others = {name: one for name, one in ptbp.elements.items() if name != "Zn"}
    ptbp.model_copy(update={"elements": others}).save(tmp_path / "others.json")
    assert differing_settings(stored, settings(partners=str(tmp_path / "others.json"))) == []
    assert {name for name, _, _ in differing_settings(stored, settings(targets="eos,formation:2"))} == {
        "targets.formation"
    }
    fewer = differing_settings(stored, settings(crystals=("sc", "Li-O antifluorite")))
    assert {name for name, _, _ in fewer} == {"references", "formed_from", "partners.elements.Be"}
