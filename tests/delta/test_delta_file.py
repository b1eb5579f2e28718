"""Model files: what is written is read, and nothing else."""

import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest

from dftbparam.delta.model_file import HEADER, load_model, read_header, save_model
from dftbparam.errors import ElementError, FileFormatError, InputError, ParameterError


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "silicon.delta"
    save_model(model, path)
    return path


def rewritten(file, target, change):
    """The file with its members changed: ``change(name, bytes)`` returns new bytes or None to leave one out."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def with_header(change):
    def apply(name, content):
        if name != f"{HEADER}.npy":
            return content
        header = json.loads(np.load(io.BytesIO(content)).tobytes())
        change(header)
        buffer = io.BytesIO()
        np.save(buffer, np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
        return buffer.getvalue()

    return apply


def test_a_model_reads_back_bit_for_bit(model, file, skf, samples, tmp_path):
    again = load_model(file, skf)
    for sample in samples[:3]:
        one, other = model.predict(sample.atoms), again.predict(sample.atoms)
        assert one.energy == other.energy
        assert one.energy_std == other.energy_std
        assert np.array_equal(one.forces, other.forces)
        assert np.array_equal(one.stress, other.stress)
    assert again.metrics == json.loads(json.dumps(model.metrics))
    save_model(again, tmp_path / "again.delta")
    assert (tmp_path / "again.delta").read_bytes() == file.read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


def test_the_header_says_what_it_is(file):
    header = read_header(file)
    assert header["elements"] == ["Si"]
    assert header["base"]["name"] == "model-spd"
    assert set(header["base"]["skf_sha256"]) == {"Si-Si"}
    assert header["descriptors"]["library"] == "featomic"
    assert header["metrics"]["levels"]["reference"]["rmse"] > 0.0
    assert {"data_sha256", "seed", "versions"} <= set(header["provenance"])
    with np.load(file, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_other_slater_koster_files_are_refused(file, skf, tmp_path):
    shutil.copytree(skf, tmp_path / "other")
    changed = tmp_path / "other" / "Si-Si.skf"
    changed.write_text(changed.read_text().replace("0.", "0.0", 1))
    with pytest.raises(ParameterError, match=r"corrects the set 'model-spd'; .*other has other files for Si-Si"):
        load_model(file, tmp_path / "other")
    changed.unlink()
    with pytest.raises(ElementError, match=r"no Slater-Koster file for Si-Si"):
        load_model(file, tmp_path / "other")


def test_files_that_are_none(file, tmp_path):
    with pytest.raises(InputError, match="no such model file"):
        load_model(tmp_path / "nothing.delta")
    (tmp_path / "text").write_text("x" * 300)
    with pytest.raises(FileFormatError, match="not a delta model"):
        load_model(tmp_path / "text")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(FileFormatError, match="not a delta model"):
        load_model(tmp_path / "empty")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(FileFormatError, match="not a delta model"):
        load_model(tmp_path / "pickle")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    with pytest.raises(FileFormatError, match="no header"):
        load_model(tmp_path / "foreign.npz")
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(FileFormatError, match="not a delta model"):
        load_model(tmp_path / "cut")


def test_damage_and_later_versions(file, tmp_path):
    def later(header):
        header["version"] = 99

    with pytest.raises(FileFormatError, match="version 99"):
        load_model(rewritten(file, tmp_path / "later", with_header(later)))

    def disturbed(name, content):
        return content[:-1] + b"\x01" if name == "mean.npy" else content

    with pytest.raises(FileFormatError, match="'mean' is not what the header says"):
        load_model(rewritten(file, tmp_path / "disturbed", disturbed))
    with pytest.raises(FileFormatError, match="'mixing' is missing or damaged"):
        load_model(rewritten(file, tmp_path / "without", lambda n, c: None if n == "mixing.npy" else c))

    def wrong(header):
        header["kernel"]["kind"] = "linear"

    with pytest.raises(ParameterError, match="linear"):
        load_model(rewritten(file, tmp_path / "wrong", with_header(wrong)))

    def bare(header):
        del header["domains"]

    with pytest.raises(FileFormatError, match="contradictory"):
        load_model(rewritten(file, tmp_path / "bare", with_header(bare)))


def test_files_of_version_1_have_one_domain_for_all_levels(model, file, samples, tmp_path):
    def former(header):
        header["version"] = 1
        header["domain"] = header.pop("domains")["reference"]
        del header["domain"]["places"]

    again = load_model(rewritten(file, tmp_path / "former", with_header(former)))
    one, other = model.predict(samples[0].atoms), again.predict(samples[0].atoms)
    assert one.energy == other.energy
    assert len(again.domains) == 1
    assert other.outside_levels == one.outside_levels == {"reference": ()}


def test_pickled_arrays_are_not_opened(file, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], dtype=object), allow_pickle=True)
    target = rewritten(file, tmp_path / "trap", lambda n, c: buffer.getvalue() if n == "mean.npy" else c)
    with pytest.raises(FileFormatError, match="'mean' is missing or damaged"):
        load_model(target)


def test_an_unwritable_place(model, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        save_model(model, tmp_path / "nowhere" / "model.delta")
