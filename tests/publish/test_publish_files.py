"""Output files appear whole or not at all, whatever stops the writing."""

import errno
import os

import pytest

from dftbparam.atomic_write import write_bytes
from dftbparam.delta import model_file
from dftbparam.errors import InputError
from dftbparam.publish import files


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"first\x00", b"second", b""):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    ("stop", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), InputError, r"a.bin' cannot be written \(No space left"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (MemoryError(), MemoryError, None),
    ],
)
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_what_stops_the_writing_leaves_the_old_file(tmp_path, monkeypatch, where, stop, raised, message):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def stopped(*_):
        raise stop

    monkeypatch.setattr(os, where, stopped)
    with pytest.raises(raised, match=message):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"nowhere/a.bin' cannot be written \(No such file.*choose another place"):
        write_bytes(tmp_path / "nowhere" / "a.bin", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes(tmp_path / "folder", b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_there_is_one_way_to_write():
    assert files.write_bytes is write_bytes
    assert model_file.write_bytes is write_bytes
