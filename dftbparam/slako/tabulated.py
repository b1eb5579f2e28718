"""A pseudo-atom reduced to what tables of pairs are built from, and its file.

A set of many elements solves every atom once; other processes, and a later run, read it back bit for bit, so that the
tables come out the same. The file is NumPy's ``npz`` without pickled objects: reading one runs no code of it.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import FileFormatError
from dftbparam.slako.twocentre import RadialTables

Array = NDArray[np.float64]


class PairAtom(Protocol):
    """What `dftbparam.slako.build.pair_files` needs of an atom; see `dftbparam.slako.pseudoatom.PseudoAtom`."""

    @property
    def symbol(self) -> str:
        """Chemical symbol."""
        ...

    @property
    def shells(self) -> tuple[tuple[str, int], ...]:
        """Name and angular momentum of every valence shell."""
        ...

    @property
    def levels(self) -> Mapping[str, float]:
        """On-site energy per shell, Hartree."""
        ...

    @property
    def hubbard(self) -> Mapping[str, float]:
        """U per shell, Hartree."""
        ...

    @property
    def occupations(self) -> Mapping[str, float]:
        """Electrons per shell."""
        ...

    @property
    def tables(self) -> RadialTables:
        """Radial tables for the integrator."""
        ...

    @property
    def mass(self) -> float:
        """Atomic mass units."""
        ...


@dataclass(frozen=True)
class TabulatedAtom:
    """The `PairAtom` part of a pseudo-atom; attributes as there."""

    symbol: str
    shells: tuple[tuple[str, int], ...]
    levels: dict[str, float]
    hubbard: dict[str, float]
    occupations: dict[str, float]
    tables: RadialTables
    mass: float

    @classmethod
    def of(cls, atom: PairAtom) -> TabulatedAtom:
        """Take it out of a solved pseudo-atom; arrays are shared, not copied."""
        return cls(
            symbol=atom.symbol,
            shells=atom.shells,
            levels=dict(atom.levels),
            hubbard=dict(atom.hubbard),
            occupations=dict(atom.occupations),
            tables=atom.tables,
            mass=atom.mass,
        )

    def save(self, path: Path, key: str = "") -> None:
        """Write the file, whole or not at all; ``key`` says what it was made from (see `load`)."""
        record = {
            "key": key,
            "symbol": self.symbol,
            "shells": self.shells,
            "levels": self.levels,
            "hubbard": self.hubbard,
            "occupations": self.occupations,
            "mass": self.mass,
            "reach": self.tables.reach,
        }
        buffer = io.BytesIO()
        np.savez(
            buffer,
            coefficients=self.tables.coefficients,
            angular=self.tables.angular,
            # Numbers in JSON read back to the same double.
            record=np.frombuffer(json.dumps(record).encode(), dtype=np.uint8),
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path, key: str | None = None) -> TabulatedAtom | None:
        """Read the file; None where there is none, or where it was written with another ``key``.

        Raises
        ------
        FileFormatError
            The file is damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
                record = json.loads(data["record"].tobytes())
                if key is not None and record["key"] != key:
                    return None
                tables = RadialTables(data["coefficients"], data["angular"], record["reach"])
            return cls(
                symbol=record["symbol"],
                shells=tuple((nl, int(l)) for nl, l in record["shells"]),
                levels=record["levels"],
                hubbard=record["hubbard"],
                occupations=record["occupations"],
                tables=tables,
                mass=record["mass"],
            )
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise FileFormatError(f"damaged tables of an atom ({error}); delete it", path=str(path)) from None
