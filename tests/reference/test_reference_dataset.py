import hashlib
import pickle
import shutil

import numpy as np
import pytest

from dftbparam.elements import all_symbols
from dftbparam.errors import FileFormatError, InputError, ReferenceDataError
from dftbparam.reference import (
    CrystalReference,
    Dataset,
    VolumeRange,
    dataset,
    e_of_v,
    list_datasets,
    load_dataset,
    reference_root,
)

HEADER = "symbol,prototype,volume,bulk_modulus,bulk_modulus_derivative,energy,energy_spread,n_codes"
ROW = "Si,diamond,20.4,0.55,4.3,-0.53,0.001,17"


@pytest.fixture(scope="module")
def acwf():
    return load_dataset()


@pytest.fixture
def folder(tmp_path):
    """A user's data set of one crystal."""
    target = tmp_path / "mine"
    target.mkdir()
    shutil.copy(reference_root() / "acwf-unaries-pbe" / "dataset.toml", target)
    (target / "data.csv").write_text(f"# mine\n\n{HEADER}\n{ROW}\n")
    return target


def test_the_shipped_set(acwf):
    assert acwf.name == "acwf-unaries-pbe"
    assert acwf.name in list_datasets()
    assert acwf.symbols == all_symbols()
    assert len(acwf.crystals) == 384
    assert acwf.checksum == hashlib.sha256((reference_root() / acwf.name / "data.csv").read_bytes()).hexdigest()
    assert (acwf.functional, acwf.spin, acwf.licence) == ("PBE", "none", "MIT")
    assert acwf.volume_range == VolumeRange(low=0.94, high=1.06, points=7)
    for symbol in acwf.symbols:
        crystals = acwf.crystals_of(symbol)
        assert [crystal.prototype for crystal in crystals] == ["sc", "bcc", "fcc", "diamond"]
        assert next(c.energy for c in crystals if c.prototype == "fcc") == 0.0


def test_known_numbers(acwf):
    diamond = acwf.stable("Si")
    assert diamond == CrystalReference(
        symbol="Si",
        prototype="diamond",
        volume=20.457473,
        bulk_modulus=0.552444,
        bulk_modulus_derivative=4.3118,
        energy=-0.530051,
        energy_spread=0.000957,
        n_codes=17,
    )
    assert acwf.stable("Cu").prototype == "fcc"
    assert acwf.stable("W").prototype == "bcc"


def test_missing_element(folder):
    with pytest.raises(ReferenceDataError, match="has no element 'C'; it has: Si"):
        load_dataset(folder).crystals_of("C")


def test_records_survive_pickle_and_json(acwf):
    assert pickle.loads(pickle.dumps(acwf)) == acwf
    assert Dataset.model_validate_json(acwf.model_dump_json()) == acwf


def test_points(acwf):
    reference = acwf.stable("Si")
    volumes, energies = e_of_v(reference)
    assert volumes / reference.volume == pytest.approx(np.linspace(0.94, 1.06, 7))
    assert energies[3] == pytest.approx(reference.energy, abs=1e-12)
    assert energies.min() == energies[3]
    volumes, energies = e_of_v(reference, **VolumeRange(low=0.8, high=1.3, points=11).model_dump())
    assert volumes.shape == energies.shape == (11,)
    assert reference.energies(volumes.reshape(1, 11)).shape == (1, 11)


@pytest.mark.parametrize("bad", [(1.1, 0.9, 7), (0.9, 0.9, 7), (0.0, 1.1, 7), (0.9, 1.1, 1), (0.9, float("inf"), 7)])
def test_bad_range(acwf, bad):
    with pytest.raises(InputError, match="relative volumes"):
        e_of_v(acwf.stable("Si"), *bad)


def test_a_users_folder(folder):
    for name in (folder, str(folder)):
        assert load_dataset(name).stable("Si").volume == 20.4


def test_columns_in_any_order_and_crlf(folder):
    columns = HEADER.split(",")
    values = ROW.split(",")
    text = ",".join(reversed(columns)) + "\r\n" + " , ".join(reversed(values)) + "\r\n"
    (folder / "data.csv").write_bytes(text.encode())
    assert load_dataset(folder).stable("Si").energy == -0.53


def test_unknown_name_lists_the_known():
    with pytest.raises(ReferenceDataError, match=r"did you mean 'acwf-unaries-pbe'\? known sets: .*acwf-unaries-pbe"):
        load_dataset("acwf-unaries")
    with pytest.raises(ReferenceDataError, match="known sets"):
        load_dataset("nowhere/at/all")


@pytest.mark.parametrize("name", ["dataset.toml", "data.csv"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ReferenceDataError, match=f"has no {name}"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Si,diamond,twenty,0.55,4.3,-0.53,0.001,17", "volume 'twenty' is not a number"),
        ("Si,diamond,-20.4,0.55,4.3,-0.53,0.001,17", r"volume: .*greater than 0.*-20\.4"),
        ("Si,diamond,20.4,0,4.3,-0.53,0.001,17", "bulk_modulus: .*greater than 0"),
        (
            "Si,diamond,1.0,0.55,4.3,-0.53,0.001,17",
            "volume 1 .*Si diamond 0.866 Angstrom apart; plausible .*1.11 to 8.88",
        ),
        ("Si,bcc,2000,0.55,4.3,-0.53,0.001,17", "volume 2000 .*13.7 Angstrom apart"),
        ("H,sc,0.02,0.55,4.3,-0.53,0.001,17", "volume 0.02 .*H sc 0.271 Angstrom apart; plausible .*0.53 to 4.23"),
        ("Si,diamond,nan,0.55,4.3,-0.53,0.001,17", "volume: .*finite.*nan"),
        ("Si,diamond,20.4,0.55,4.3,inf,0.001,17", "energy: .*finite.*inf"),
        ("Si,diamond,20.4,0.55,4.3,-0.53,-1,17", "energy_spread: .*greater than or equal to 0"),
        ("Si,diamond,20.4,0.55,4.3,-0.53,0.001,1.5", "n_codes '1.5' is not a whole number"),
        ("Si,diamond,20.4,0.55,4.3,-0.53,0.001,0", "n_codes: .*greater than or equal to 1"),
        ("Si,diamond,20.4,0.55,4.3,-0.53,0.001", "7 values for 8 columns"),
        ("Si,diamond,20.4,0.55,4.3,,0.001,17", "energy '' is not a number"),
        ("si,bcc,20.4,0.55,4.3,-0.53,0.001,17", "unknown element 'si'; did you mean 'Si'"),
        ("Si,wurtzite,20.4,0.55,4.3,-0.53,0.001,17", "wurtzite is a binary crystal: Si needs a partner"),
        ("Si,cube,20.4,0.55,4.3,-0.53,0.001,17", "unknown prototype 'cube'; .*known are sc, bcc, fcc, diamond"),
        (ROW, "Si diamond was already given on line 4"),
    ],
)
def test_malformed_row(folder, row, reason):
    path = folder / "data.csv"
    text = path.read_text() if row == ROW else f"# mine\n\n{HEADER}\nC,sc,5,1,4,0,0,1\n"
    path.write_text(text + row + "\n")
    with pytest.raises(FileFormatError, match=reason) as caught:
        load_dataset(folder)
    assert caught.value.line == 5
    assert str(caught.value).startswith(f"{path}:5: ")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (HEADER.replace(",volume", ""), "missing column 'volume'"),
        (HEADER + ",pressure", "unknown column 'pressure'"),
        (HEADER + ",volume", "double column 'volume'"),
        (ROW, "missing column 'symbol'"),
    ],
)
def test_malformed_header(folder, header, reason):
    (folder / "data.csv").write_text(f"{header}\n{ROW}\n")
    with pytest.raises(FileFormatError, match=f"data.csv:1: {reason}"):
        load_dataset(folder)


@pytest.mark.parametrize("text", ["", "# nothing\n", HEADER + "\n"])
def test_no_data(folder, text):
    (folder / "data.csv").write_text(text)
    with pytest.raises(FileFormatError, match="no data"):
        load_dataset(folder)


@pytest.mark.parametrize("name", ["dataset.toml", "data.csv"])
def test_not_text(folder, name):
    (folder / name).write_bytes(b"ok\n\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("format = 1", "format = 3", "format = 3; this version reads format = 1 to 2"),
        ("format = 1\n", "", "format = None"),
        ("angstrom^3/atom", "bohr^3/atom", "units.volume: .*angstrom.*bohr"),
        ('doi = "10', "doi = 10", r"dataset\.toml:5: not TOML"),
        ("title =", "titel =", "title: Field required"),
        ("low = 0.94", "low = 1.94", "volume_range: .*upside down"),
        ('spin = "none"', 'spin = "up"', "spin: .*up"),
        ("format = 1", 'format = 1\nchecksum = "0"', "'checksum' is read from the data"),
    ],
)
def test_malformed_description(folder, old, new, reason):
    path = folder / "dataset.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FileFormatError, match=reason):
        load_dataset(folder)


def test_root_of_a_checkout_and_of_an_installed_package(tmp_path, monkeypatch):
    shipped = reference_root()
    installed = tmp_path / "site" / "dftbparam" / "reference"
    installed.mkdir(parents=True)
    monkeypatch.setattr(dataset, "__file__", str(installed / "dataset.py"))
    with pytest.raises(ReferenceDataError, match="missing"):
        reference_root()
    shutil.copytree(shipped, tmp_path / "site" / "references")
    assert reference_root() == tmp_path / "site" / "references"
    shutil.copytree(shipped, installed / "data")
    assert reference_root() == installed / "data"
    assert len(load_dataset().crystals) == 384


def test_every_shipped_set_is_described_and_loads():
    for name in list_datasets():
        loaded = load_dataset(name)
        assert loaded.name == name
        readme = (reference_root() / name / "README.md").read_text()
        assert loaded.doi in readme
        assert "licence" in readme


def test_ground_state_crystals_agree_with_another_set():
    """Two all-electron sets by different people: volumes of unpolarised cubic elements agree within 0.7 %."""
    own, other = load_dataset("dcdft-wien2k"), load_dataset("acwf-unaries-pbe")
    assert len(own.crystals) == len(own.symbols) == 71
    volumes = {(c.symbol, c.prototype): c.volume for c in other.crystals}
    polarised = {"O", "Cr", "Mn", "Fe", "Co", "Ni"}
    cubic = [c for c in own.crystals if (c.symbol, c.prototype) in volumes and c.symbol not in polarised]
    assert len(cubic) > 20
    for crystal in cubic:
        assert crystal.volume == pytest.approx(volumes[crystal.symbol, crystal.prototype], rel=0.007)
    # Molecules are there, at their own size: the bond of free N2 is 1.098 Angstrom.
    nitrogen = next(c for c in own.crystals if c.symbol == "N")
    assert nitrogen.atoms(nitrogen.volume).get_all_distances(mic=True).round(3)[0, 1:].min() == pytest.approx(
        1.10, abs=0.01
    )


def test_oxides_have_the_elements_of_the_other_set_and_energies_of_one_code_agree():
    oxides, elements = load_dataset("acwf-oxides-pbe"), load_dataset("acwf-unaries-pbe")
    assert len(oxides.compounds) == 95
    assert [c for c in oxides.crystals if c.partner is None] == list(elements.crystals)
    by_name = {c.name: c for c in oxides.crystals if c.partner is not None}
    assert len(by_name) == 380
    # WIEN2k alone (results-*-wien2k-dk_0.06.json of the study), eV/atom: MgO, fcc Mg, fcc O.
    by_wien2k = -3751.333375 - 0.5 * (-5451.379496 - 2043.188689)
    magnesia = by_name["Mg-O rocksalt"]
    assert magnesia.energy == pytest.approx(by_wien2k, abs=0.01)
    assert magnesia.volume == pytest.approx(9.6245, abs=1e-3)
    assert magnesia.n_codes > 10
