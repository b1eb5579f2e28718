"""Fortran list-directed input, as much of it as Slater-Koster files use.

DFTB+ reads SKF files with ``read(unit, *)`` (``type/oldskdata.F90``). That accepts commas or blanks between values,
repeat counts (``19*0.0``), exponents written with D, CRLF, records continued on the next line, and ``/`` as the end of
a record; whatever follows the last wanted value of a record is thrown away.

Three of its habits turn a typing error into wrong numbers without a word, and are refused here: a record that is one
value short takes it from the next line and throws the rest of that line away; an empty value (``1.0,,2.0``) leaves the
variable at what it was; and ``NaN`` and ``Inf`` are numbers.
"""

from __future__ import annotations

import re
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import FileFormatError

_TOKEN = re.compile(r"[^\s,/]+|,|/")
# The exponent letter may be missing when its sign is there: 1.5+3 is 1500 to Fortran.
_REAL = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdDqQ]([+-]?\d+)|([+-]\d+))?")
_INTEGER = re.compile(r"[+-]?\d+")
_REPEATED = re.compile(r"(\d+)\*(.*)")


class ListReader:
    """Reads records from the lines of one file, keeping count of where it is.

    Attributes
    ----------
    position
        Index of the next unread line (0-based).
    """

    def __init__(self, lines: list[str], path: str) -> None:
        self.lines = lines
        self.path = path
        self.position = 0

    def error(self, message: str, line: int | None = None) -> FileFormatError:
        """Build (not raise) the error for 0-based line ``line``, by default the one read last."""
        index = self.position - 1 if line is None else line
        return FileFormatError(message, path=self.path, line=max(index, 0) + 1)

    def items(self, index: int) -> list[str]:
        """All items of a line with repeat counts expanded, however many; for telling record kinds apart."""
        return [item for item in self._split(index, limit=10_000, strict=False) if item != "/"]

    def _split(self, index: int, limit: int, strict: bool = True) -> list[str]:
        """First ``limit`` items of a line; a ``/`` closes the list and is kept as its last item."""
        out: list[str] = []
        after_value = False
        for token in _TOKEN.findall(self.lines[index]):
            if len(out) >= limit:
                break
            if token == "/":
                out.append("/")
                break
            if token == ",":
                if not after_value and strict:
                    raise self.error("empty value between commas; DFTB+ would leave it at whatever it was", index)
                after_value = False
                continue
            after_value = True
            repeated = _REPEATED.fullmatch(token)
            if repeated is None:
                out.append(token)
                continue
            count, value = int(repeated[1]), repeated[2]
            if strict and (count == 0 or not value):
                raise self.error(f"{token!r} is not a repeated value such as 19*0.0", index)
            out.extend([value] * min(count, limit - len(out)))
        return out

    def take(self, n: int, what: str, *, after_slash: str | None = None) -> list[tuple[str, int]]:
        """Read one record of ``n`` items.

        Parameters
        ----------
        what
            What the record is, for error messages ("the grid line").
        after_slash
            The value of items that a ``/`` cuts off; without it, that is an error.

        Returns
        -------
        list of (item, 0-based line)

        Raises
        ------
        FileFormatError
            The file ends, a value is empty, or the record is too short for its line.
        """
        out: list[tuple[str, int]] = []
        first_line: int | None = None
        while len(out) < n:
            if self.position >= len(self.lines):
                raise self.error(f"the file ends within {what}: {len(out)} of {n} values found", len(self.lines) - 1)
            index = self.position
            self.position += 1
            wanted = n - len(out)
            # One item more than wanted shows whether a continued record ends with its line.
            found = self._split(index, wanted + 1)
            if not found:
                continue
            if found[-1] == "/" and len(found) <= wanted:
                out.extend((item, index) for item in found[:-1])
                if after_slash is None:
                    raise self.error(f"'/' ends {what} after {len(out)} of {n} values", index)
                out.extend([(after_slash, index)] * (n - len(out)))
                break
            if first_line is None:
                first_line = index
            elif len(found) > wanted and found[wanted] != "/":
                have = len(out)
                raise self.error(
                    f"{what} has {have} values, {n} are needed; DFTB+ would take {wanted} from the next line and "
                    "throw the rest of that line away",
                    first_line,
                )
            out.extend((item, index) for item in found[:wanted])
        return out

    def real(self, item: tuple[str, int], what: str) -> float:
        """Convert an item to a finite number."""
        text, line = item
        match = _REAL.fullmatch(text)
        if match is None:
            raise self.error(f"{what}: {text[:40]!r} is not a finite number", line)
        value = float(f"{match[1]}e{match[2] or match[3] or 0}")
        if not isfinite(value):
            raise self.error(f"{what}: {text[:40]!r} is beyond the range of double precision", line)
        return value

    def integer(self, item: tuple[str, int], what: str) -> int:
        """Convert an item to an integer; Fortran does not take 500.0 for one."""
        text, line = item
        if _INTEGER.fullmatch(text) is None:
            raise self.error(f"{what}: {text[:40]!r} is not an integer", line)
        return int(text)

    def reals(self, n: int, what: str, *, after_slash: str | None = None) -> list[float]:
        """Read one record of ``n`` finite numbers."""
        return [self.real(item, what) for item in self.take(n, what, after_slash=after_slash)]

    def table(self, n_rows: int, n_columns: int, what: str) -> NDArray[np.float64]:
        """Read ``n_rows`` records of ``n_columns`` numbers each, shape (n_rows, n_columns).

        The usual table (one record a line, blanks, commas or repeat counts) takes a fast path; anything else, errors
        included, the careful one.
        """
        fast = self._table_fast(n_rows, n_columns)
        if fast is not None:
            self.position += n_rows
            return fast
        out = np.empty((n_rows, n_columns))
        for row in range(n_rows):
            start = self.position
            try:
                out[row] = self.reals(n_columns, f"row {row + 1} of {what}", after_slash="0.0")
            except FileFormatError:
                rest = next((line.strip() for line in self.lines[start:] if line.strip()), "")
                if rest and not rest.startswith(("Spline", "RangeSep", "<")):
                    raise
                found = f"{rest[:20]!r} follows" if rest else "the file ends"
                raise self.error(
                    f"{what} has {row} rows, then {found}; nGrid asks for {n_rows} rows (nGrid - 1)",
                    min(start, len(self.lines) - 1),
                ) from None
        return out

    def _table_fast(self, n_rows: int, n_columns: int) -> NDArray[np.float64] | None:
        tokens: list[str] = []
        for line in self.lines[self.position : self.position + n_rows]:
            if "," in line:
                pieces = line.split(",")
                if any(not piece or piece.isspace() for piece in pieces[:-1]):
                    return None
                line = " ".join(pieces)
            parts = line.split()
            if "*" in line:
                expanded: list[str] = []
                for part in parts:
                    count, star, value = part.partition("*")
                    if not star:
                        expanded.append(part)
                    elif count.isdigit() and len(count) < 4:
                        expanded.extend([value] * int(count))
                    else:
                        return None
                parts = expanded
            if len(parts) < n_columns or "_" in line:
                return None
            tokens += parts[:n_columns]
        if len(tokens) != n_rows * n_columns:
            return None
        try:
            values = np.array(list(map(float, tokens))).reshape(n_rows, n_columns)
        except ValueError:
            return None
        return values if bool(np.isfinite(values).all()) else None
