"""Campaign files: what they mean, what is refused and where; records; what a resumed campaign may change."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dftbparam.campaign import campaign_file, element_job, fit_plan
from dftbparam.campaign.campaign_file import CampaignFile, differences, read_campaign
from dftbparam.campaign.element_job import PARTNERS_NAME, ElementJob, check_elements
from dftbparam.campaign.executor import SerialExecutor
from dftbparam.campaign.fit_plan import FitRequest
from dftbparam.campaign.record import begin_campaign
from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.reference import Dataset, load_dataset
from dftbparam.space import ParameterSet, RepulsionParameters, load_parameter_set
from dftbparam.store import Run, Trial, TrialStore

OXIDES = """
name = "oxides"
out = "results"
[defaults]
references = "gpaw-pbe"
evaluations = 20
[elements.O]
partners = "campaign"
evaluations = 30
[groups.metals]
elements = ["Mg", "Ca"]
seed = 4
partners = "ptbp"
crystals = ["rocksalt"]
[elements.Mg]
seed = 5
share = 2
"""


@pytest.fixture(autouse=True)
def _small_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped set grows; these tests are about magnesium, calcium, silicon and aluminium."""
    known = {"Mg", "Ca", "Si", "Al", "O", "Cl"}

    def load(name: str) -> Dataset:
        data = load_dataset(name)
        crystals = tuple(c for c in data.crystals if set(c.symbols) <= known and set(c.symbols) != {"Si", "O"})
        return data.model_copy(update={"crystals": crystals})

    monkeypatch.setattr(campaign_file, "load_dataset", load)
    monkeypatch.setattr(fit_plan, "load_dataset", load)


def read(folder: Path, text: str) -> CampaignFile:
    path = folder / "oxides.toml"
    path.write_text(text)
    return read_campaign(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(FileFormatError) as caught:
        read(folder, text)
    return str(caught.value).removeprefix(str(folder))


def test_settings_of_element_group_and_defaults(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES)
    assert list(campaign.elements) == ["Mg", "Ca", "O"]
    seeds = {symbol: plan.request.seed for symbol, plan in campaign.elements.items()}
    assert seeds == {"Mg": 5, "Ca": 4, "O": 0}
    assert [plan.request.evaluations for plan in campaign.elements.values()] == [20, 20, 30]
    assert campaign.elements["O"].needs == ("Ca", "Mg")  # in the order of the data
    assert campaign.elements["Mg"].needs == ()
    assert campaign.elements["Mg"].request.partners == "ptbp"
    assert [plan.share for plan in campaign.elements.values()] == [2.0, 1.0, 1.0]
    assert campaign.elements["Mg"].request.out == tmp_path / "results" / "Mg"
    assert campaign.store == str(tmp_path / "oxides.sqlite")
    assert campaign.run_id("O") == "oxides/O"
    assert all(plan.request.resume for plan in campaign.elements.values())


def test_the_shortest_file(tmp_path: Path) -> None:
    campaign = read(tmp_path, 'elements = ["Si", "Ge"]')
    assert (campaign.name, list(campaign.elements)) == ("oxides", ["Si", "Ge"])
    assert campaign.out == tmp_path / "oxides"
    assert campaign.elements["Si"].request.evaluations == 300


def test_paths_are_relative_to_the_file_names_are_not(tmp_path: Path) -> None:
    campaign = read(
        tmp_path,
        'store = "postgresql+psycopg://user:secret@host/base"\n[defaults]\nreferences = "own/data"\n'
        '[elements.Si]\npartners = "sets/a.json"\nstart_from = ["group:old/b.json", "period"]\n'
        '[elements.Ge]\npartners = "ptbp"\nstart_from = "group"',
    )
    assert campaign.store == "postgresql+psycopg://user:secret@host/base"
    assert campaign.elements["Si"].request.references == str(tmp_path / "own/data")
    assert campaign.elements["Si"].request.partners == str(tmp_path / "sets/a.json")
    assert campaign.elements["Ge"].request.partners == "ptbp"
    assert campaign.elements["Si"].request.start_from == (f"group:{tmp_path / 'old/b.json'}", "period")
    assert campaign.elements["Ge"].request.start_from == ("group",)
    # What is compared and kept is what was written.
    assert campaign.elements["Si"].settings["references"] == "own/data"
    assert "secret" not in str(campaign.settings)


def test_needs_and_fallback(tmp_path: Path) -> None:
    some = read(tmp_path, OXIDES.replace("[groups", 'needs = ["Ca"]\n[groups'))
    assert some.elements["O"].needs == ("Ca",)
    without = read(
        tmp_path, OXIDES.replace('partners = "campaign"', 'partners = "campaign"\nexclude_partners = ["Ca"]')
    )
    assert without.elements["O"].needs == ("Mg",)
    text = OXIDES.replace('["Mg", "Ca"]', '["Mg"]').replace('"campaign"', '["campaign", "ptbp"]')
    other = read(tmp_path, text).elements["O"]
    assert (other.needs, other.fallback) == (("Mg",), "ptbp")
    assert other.replaceable == {"Mg", "Ca"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('elements = ["Si"]]', 1, "not TOML"),
        ("name = 3", 1, "name: must be a text in quotes"),
        ('name = "a/b"\nelements = ["Si"]', 1, "name: 'a/b' cannot name a campaign"),
        ("", None, "no element is named"),
        ('store = ""\nelements = ["Si"]', 1, "store: is empty"),
        ('[elements.Si]\nevaluations = "100"', 2, "elements.Si.evaluations: Input should be a valid integer"),
        ("[defaults]\nseed = 1", None, "no element is named"),
        ("elements = 3", 1, "elements: must be a list of symbols"),
        ('elements = ["Si", "Si"]', 1, "elements: Si is named twice"),
        ('elements = ["Si", "Xx"]', 1, "elements.Xx: unknown element 'Xx'"),
        ("[elements.Si]\nseed = 1\n[elements.Xx]\nseed = 2", 3, "elements.Xx: "),
        ('stroe = "a"', 1, "stroe: unknown key 'stroe'; did you mean 'store'?"),
        ("[defaults]\nevaluation = 3", 2, "defaults.evaluation: unknown key 'evaluation'; did you mean 'evaluations'"),
        ("[elements.Si]\n\nworkers = 3", 3, "elements.Si.workers: unknown key 'workers'; settings may have"),
        (
            "[elements.Si]\nevaluations = 0",
            2,
            "elements.Si.evaluations: Input should be greater than or equal to 1 (given: 0)",
        ),
        ('[defaults]\nseed = "x"\n[elements.Si]', 2, "defaults.seed: Input should be a valid integer"),
        ('[defaults]\nsampler = "magic"\n[elements.Si]', 2, "defaults.sampler: no sampler 'magic'"),
        ('[groups.a]\nelements = ["Si"]\nsampler = "magic"', 3, "groups.a.sampler: no sampler"),
        ('[elements.Si]\nrepulsion = "magic"', 2, "elements.Si.repulsion: no repulsion 'magic'"),
        ("[elements.Si]\nstart_from = 3", 2, "elements.Si.start_from: must be a list of texts (given: 3)"),
        ('elements = ["Si"]\n[elements.Ge]', 2, "not TOML: Cannot declare ('elements', 'Ge') twice"),
        ("[elements.Si]\nshare = -1", 2, "elements.Si.share: must be a number above 0, got -1"),
        ("[groups.a]\nelements = 5", 2, "groups.a.elements: "),
        ('[groups.a]\nelements = "SiGe"', 2, "groups.a.elements: "),
        ("[groups.a]\nseed = 1", 1, "groups.a.elements: a group needs its elements"),
        ('[groups.a]\nelements = ["Si"]\n[groups.b]\nelements = ["Si"]', 4, "groups.b.elements: Si is in 'a' already"),
        ('[elements.Si]\nneeds = ["Mg"]', 2, "elements.Si.needs: has a meaning with partners"),
        ('[elements.Si]\npartners = ["ptbp", "campaign"]', 2, "elements.Si.partners: must be"),
        (
            OXIDES.replace('["Mg", "Ca"]', '["Mg"]'),
            8,
            "elements.O.partners: O needs Ca, which this campaign does not fit: add Ca",
        ),
        (OXIDES.replace("[groups", 'needs = ["O"]\n[groups'), 10, "elements.O.needs: O cannot be its own partner"),
        (
            OXIDES.replace("[groups", 'needs = ["Si"]\n[groups'),
            10,
            "elements.O.needs: 'gpaw-pbe' has no binaries of O with Si; it has them with: Ca",
        ),
        (OXIDES.replace("[groups", 'needs = "Mg"\n[groups'), 10, "elements.O.needs: must be symbols"),
        (
            OXIDES.replace('partners = "ptbp"', 'partners = "campaign"\nneeds = ["O"]'),
            8,
            "elements.O.partners: elements need each other: O needs Ca needs O",
        ),
        # What no single setting is to blame for stands where the element does, which may be in a group alone.
        (
            '[groups.b]\nelements = [\n  "O",\n  "Mg",\n]\nexclude_partners = ["Ca"]',
            3,
            "groups.b.elements.O: partners to exclude (Ca) need a fit on binaries",
        ),
        (OXIDES.replace('"gpaw-pbe"', '"magic"'), 5, "defaults.references: 'magic' is neither a reference set nor a"),
        (
            OXIDES.replace('partners = "campaign"', 'partners = ["campaign", "magic"]'),
            8,
            "elements.O.partners: 'magic' is neither a parameter file nor a shipped set",
        ),
    ],
)
def test_what_is_refused_and_where(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    where = "/oxides.toml: " if line is None else f"/oxides.toml:{line}: "
    assert refused(tmp_path, text).startswith(where + message)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_campaign(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        read_campaign(tmp_path / "bytes.toml")


def test_elements_that_cannot_be_fitted_are_all_named(tmp_path: Path) -> None:
    campaign = read(
        tmp_path,
        '[defaults]\nreferences = "gpaw-pbe"\n[elements.Si]\ncrystals = ["magic"]\n[elements.Al]\n[elements.Ge]',
    )
    problems = check_elements(campaign, list(campaign.elements))
    assert [line.partition(":")[0] for line in problems] == ["Si", "Ge"]
    assert "no crystal 'magic'" in problems[0]
    assert [line.rpartition(" (")[2] for line in problems] == ["line 3, elements.Si)", "line 6, elements.Ge)"]
    assert check_elements(campaign, ["Al"]) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('elements = ["Al",\n  "Si",\n]\n[defaults]\ncrystals = ["diamond"]', {"Al": "line 1, elements.Al"}),
        ('elements = [\n  "Si",  # "Al"\n  \'Al\',\n]', {"Al": "line 3, elements.Al", "Si": "line 2, elements.Si"}),
        ("\nelements.Si.seed = 1\nelements.Si.share = 2\nelements.Al.seed = 3", {"Al": "line 4, elements.Al"}),
        ("elements = {Al = {seed = 1}}", {"Al": "line 1, elements.Al"}),
        (
            '[groups.a]\nseed = 2\nelements = [\n  "Al",\n  "Si",\n]\n[elements.Si]\nseed = 4',
            {"Si": "line 7, elements.Si; line 5, groups.a", "Al": "line 4, groups.a"},
        ),
        ('groups.a.elements = ["Al"]', {"Al": "line 1, groups.a"}),
    ],
)
def test_where_an_element_stands(tmp_path: Path, text: str, where: dict[str, str]) -> None:
    campaign = read(tmp_path, text)
    assert {symbol: campaign.where(symbol) for symbol in where} == where


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('space = "magic"', "O: 'magic' is neither"),
        ('crystals = ["diamond"]', "O: no crystal 'diamond'"),
        ('start_from = "nowhere.json"', "O: "),
        ('repulsion = "convex-cubic"', "O: repulsion convex-cubic does not combine with that of the partners"),
    ],
)
def test_what_waits_for_others_is_checked_at_once(tmp_path: Path, more: str, message: str) -> None:
    text = OXIDES.replace('partners = "ptbp"', "").replace('partners = "campaign"', f'partners = "campaign"\n{more}')
    campaign = read(tmp_path, text)
    (problem,) = [line for line in check_elements(campaign, ["O"]) if line]
    assert problem.startswith(message)
    assert problem.endswith(" (line 7, elements.O)")


def test_partners_with_several_forms_are_refused_at_once(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES.replace('partners = "ptbp"', "").replace("seed = 5", 'repulsion = "convex-cubic"'))
    (problem,) = check_elements(campaign, ["O"])
    assert problem.startswith("O: its partners have several forms of repulsion")
    assert "Mg convex-cubic" in problem
    assert "Ca screened-power" in problem


def test_one_text_may_stand_for_a_list(tmp_path: Path) -> None:
    one = read(tmp_path, '[elements.Si]\ncrystals = "diamond"\nstart_from = "none"').elements["Si"]
    other = read(tmp_path, '[elements.Si]\ncrystals = ["diamond"]\nstart_from = ["none"]').elements["Si"]
    assert one.request.crystals == ("diamond",)
    assert one.settings == other.settings


def test_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    campaign = read(tmp_path, 'store = "~/t.sqlite"\nout = "~/o"\nelements = ["Si"]')
    assert (campaign.store, campaign.out) == (str(tmp_path / "home/t.sqlite"), tmp_path / "home/o")


# --- partners of the campaign ---------------------------------------------------------------------------------------


def fitted(symbol: str, form: str = "screened-power", superposition: str = "density") -> ParameterSet:
    record = load_parameter_set("ptbp").element(symbol)
    repulsion = RepulsionParameters(form=form, values=record.repulsion.values if record.repulsion else {})
    return ParameterSet(
        name=f"fit of {symbol}",
        superposition=superposition,
        elements={symbol: record.model_copy(update={"repulsion": repulsion})},
    )


def job(campaign: CampaignFile, symbol: str) -> ElementJob:
    # Here a result is complete where there are parameters, and is this campaign's where the seed is 1.
    def is_published(folder: Path, trials: int | None, settings: Mapping[str, Any]) -> bool:
        if settings != {"seed": 1}:
            raise ParameterError(f"{folder} holds the result of a run with other settings")
        return (folder / "parameters.json").is_file()

    return ElementJob(campaign, campaign.elements[symbol], lambda *_: None, is_published)


def searched(folder: Path, **seeds: int) -> TrialStore:
    """A store with runs of these elements."""
    store = TrialStore.open(folder / "searched.sqlite")
    for symbol, seed in seeds.items():
        store.create_run(Run(run_id=f"oxides/{symbol}", settings={"seed": seed}))
    return store


def test_partners_of_another_campaign_are_refused(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES)
    for symbol in ("Mg", "Ca"):
        (campaign.out / symbol).mkdir(parents=True)
        fitted(symbol).save(campaign.out / symbol / "parameters.json")
    with searched(tmp_path, Mg=1, Ca=2) as store, pytest.raises(ParameterError, match="Ca holds the result of a run"):
        job(campaign, "O").request(store, ["Mg", "Ca"])


def test_partners_of_the_campaign(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES)
    store = searched(tmp_path, Mg=1, Ca=1)
    assert job(campaign, "Mg").request(store, []) == campaign.elements["Mg"].request
    with pytest.raises(ParameterError, match="Ca is done, but its parameters are not in"):
        job(campaign, "O").request(store, ["Mg", "Ca"])
    for symbol in ("Mg", "Ca"):
        folder = campaign.out / symbol
        folder.mkdir(parents=True)
        fitted(symbol).save(folder / "parameters.json")
    request = job(campaign, "O").request(store, ["Mg", "Ca"])
    assert request.partners == str(campaign.out / "O" / PARTNERS_NAME)
    partners = load_parameter_set(request.partners)
    assert partners.name == "oxides-partners-of-O"
    assert partners.elements == {**fitted("Mg").elements, **fitted("Ca").elements}
    assert partners.source == "Ca: fit of Ca; Mg: fit of Mg"
    fitted("Ca", superposition="potential").save(campaign.out / "Ca" / "parameters.json")
    with pytest.raises(ParameterError, match="partners of O do not have one superposition"):
        job(campaign, "O").request(store, ["Mg", "Ca"])
    store.close()


def test_partners_that_failed_come_from_the_fallback(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES.replace('"campaign"', '["campaign", "ptbp"]'))
    (campaign.out / "Mg").mkdir(parents=True)
    fitted("Mg").save(campaign.out / "Mg" / "parameters.json")
    with searched(tmp_path, Mg=1) as store:
        partners = load_parameter_set(str(job(campaign, "O").request(store, ["Mg"]).partners))
    assert partners.element("Mg") == fitted("Mg").element("Mg")
    assert partners.element("Ca") == load_parameter_set("ptbp").element("Ca")


def test_a_budget_below_what_has_been_done_asks_for_nothing_more(tmp_path: Path, monkeypatch) -> None:
    campaign = read(tmp_path, OXIDES)
    asked = []

    def search(plan: object, request: FitRequest, *_: object, **__: object) -> SimpleNamespace:
        asked.append(request.evaluations)
        return SimpleNamespace(run=SimpleNamespace(settings={"seed": 1}), proposal_seconds=None)

    monkeypatch.setattr(element_job, "search_fit", search)
    monkeypatch.setattr(element_job, "plan_fit", lambda _: None)
    with searched(tmp_path, Mg=1) as store:
        mg = job(campaign, "Mg")
        mg.search(store, SerialExecutor(), 1, [], lambda _: None, threading.Event())
        for index in range(22):
            store.append(Trial(mg.run_id, index, (0.5,), {"a": 0.5}, "finished", 1.0))
        mg.search(store, SerialExecutor(), 1, [], lambda _: None, threading.Event())
    assert asked == [20, 22]


def test_a_folder_of_another_run_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES)
    with searched(tmp_path, Mg=2) as store, pytest.raises(ParameterError, match="holds the result of a run"):
        job(campaign, "Mg").search(store, SerialExecutor(), 1, [], lambda _: None, threading.Event())


# --- the record -----------------------------------------------------------------------------------------------------


def test_record(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES)
    with TrialStore.open(campaign.store) as store:
        assert begin_campaign(store, campaign, resume=False) == []
        stored = store.load_run("oxides")
        assert stored.budget == {"file": OXIDES, "elements": campaign.settings}
        assert "dftbparam" in stored.provenance
        assert str(tmp_path) not in str(stored)
        # Its workers never came: it is begun anew like a new one.
        assert begin_campaign(store, campaign, resume=False) == []
        store.create_run(Run(run_id="oxides/Ca", settings={}))
        with pytest.raises(
            ParameterError, match=r"holds a campaign 'oxides' already; go on with it \(dftbparam campaign"
        ):
            begin_campaign(store, campaign, resume=False)
        assert begin_campaign(store, campaign, resume=True) == []


@pytest.mark.parametrize(
    "address",
    [
        "//user:secret@host/base",
        "//:secret@host/base",
        "//user:se@cret@host/base",
        "//host/base?user=me&password=secret",
    ],
)
def test_passwords_are_not_kept(tmp_path: Path, address: str) -> None:
    campaign = read(tmp_path, f'store = "postgresql+psycopg:{address}"\nelements = ["Si"]')
    with TrialStore.open(tmp_path / "a.sqlite") as store:
        begin_campaign(store, campaign, resume=True)
        kept = store.load_run("oxides").budget["file"]
    assert "cret" not in kept
    assert "***" in kept
    assert kept.endswith('"\nelements = ["Si"]')


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b'elements = ["Si"]\r\n')
    assert list(read_campaign(path).elements) == ["Si"]


def test_what_a_resumed_campaign_may_change(tmp_path: Path) -> None:
    first = read(tmp_path, OXIDES)
    changed = read(tmp_path, OXIDES.replace("evaluations = 20", "evaluations = 25").replace("seed = 4", "seed = 7"))
    with TrialStore.open(first.store) as store:
        begin_campaign(store, first, resume=True)
        # Nothing has been begun: everything may change.
        notes = begin_campaign(store, changed, resume=True)
        assert notes == [
            "Mg: evaluations: was 20, now 25",
            "Ca: evaluations: was 20, now 25",
            "Ca: seed: was 4, now 7",
        ]
        store.create_run(Run(run_id="oxides/Ca", settings={}))
        with pytest.raises(ParameterError) as caught:
            begin_campaign(store, first, resume=True)
        assert str(caught.value).splitlines()[1:] == ["  Ca: seed: was 7, now 4"]
        more = read(tmp_path, OXIDES.replace("seed = 4", "seed = 7") + "[elements.Si]\npatience = 9\n")
        assert "Si is new" in begin_campaign(store, more, resume=True)
        fewer = read(tmp_path, OXIDES.replace("seed = 4", "seed = 7"))
        assert "Si is no longer in the file; its trials are kept" in begin_campaign(store, fewer, resume=True)


def test_a_run_of_that_name_that_is_no_campaign(tmp_path: Path) -> None:
    campaign = read(tmp_path, OXIDES)
    with TrialStore.open(campaign.store) as store:
        store.create_run(Run(run_id="oxides", settings={}))
        with pytest.raises(ParameterError, match="holds a run 'oxides' that is no campaign"):
            begin_campaign(store, campaign, resume=True)


def test_settings_that_an_older_version_did_not_have() -> None:
    assert differences({}, {"targets": "eos", "crystals": []}) == ([], [])
    assert differences({}, {"targets": "eos,bands"}) == ([], ["targets: was 'eos', now 'eos,bands'"])
    assert differences({"patience": None}, {"patience": 3}) == (["patience: was None, now 3"], [])
    # Naming what the run took anyway changes nothing.
    assert differences({"in_flight": None}, {"in_flight": 4}, {"in_flight": 4}) == ([], [])
    assert differences({"in_flight": None}, {"in_flight": 4}, {"in_flight": 2})[1] == ["in_flight: was None, now 4"]
