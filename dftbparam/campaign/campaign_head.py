"""What a campaign file says beside how its elements are fitted: name, store, folder, which elements.

Apart from `dftbparam.campaign.campaign_file` because it needs no physics: `status` is to answer at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dftbparam.errors import FileFormatError
from dftbparam.space.toml_lines import line_of

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Tables(BaseModel):
    """The top level of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str | None = None
    store: str | None = None
    out: str | None = None
    elements: list[str] | dict[str, dict[str, Any]] = Field(default_factory=list)
    defaults: dict[str, Any] = Field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = Field(default_factory=dict)


class CampaignHead:
    """A campaign file whose top level has been checked.

    Attributes
    ----------
    name, store, out
        See `dftbparam.campaign.campaign_file.CampaignFile`; defaults and paths are settled.
    elements, groups, defaults
        As they stand in the file.
    text
        The file as it is.

    Raises
    ------
    FileFormatError
        The file cannot be read or is no TOML; an unknown key or a value of another kind at the top level.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.text = self.path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"not UTF-8 text ({error.reason})", path=str(path)) from None
        except OSError as error:
            raise FileFormatError(f"cannot be read ({error.strerror})", path=str(path)) from None
        tables = self._tables()
        self.name = self.path.stem if tables.name is None else tables.name
        if not NAME.fullmatch(self.name):
            raise self.fail(
                f"{self.name!r} cannot name a campaign; letters, digits and . _ - are allowed, at most 100 of them",
                "name",
            )
        folder = self.path.parent
        for key, value in (("store", tables.store), ("out", tables.out)):
            if value is not None and not value.strip():
                raise self.fail("is empty; leave it out for the default", key)
        store = f"{self.name}.sqlite" if tables.store is None else tables.store
        self.store = store if "://" in store else str(folder / Path(store).expanduser())
        self.out = folder / Path(self.name if tables.out is None else tables.out).expanduser()
        self.elements, self.groups, self.defaults = tables.elements, tables.groups, tables.defaults

    @property
    def symbols(self) -> list[str]:
        """Elements that are named, in the order of the file; whether they exist has not been checked."""
        listed = [group.get("elements") for group in self.groups.values()]
        groups = [one for symbols in listed if isinstance(symbols, list) for one in symbols if isinstance(one, str)]
        return list(dict.fromkeys([*self.elements, *groups]))

    def fail(self, message: str, *place: str) -> FileFormatError:
        """Make the error of a place such as ``elements``, ``Si``, ``evaluations``."""
        name = ".".join(place)
        return FileFormatError(
            f"{name}: {message}" if name else message, path=str(self.path), line=line_of(self.text, place)
        )

    def known(self, given: Iterable[str], known: Iterable[str], where: str, *place: str) -> None:
        """Refuse keys that do not exist, and say which was meant."""
        names = sorted(known)
        for key in given:
            if key in names:
                continue
            close = difflib.get_close_matches(key, names, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"{where} may have: {', '.join(names)}"
            raise self.fail(f"unknown key {key!r}; {advice}", *place, key)

    def _tables(self) -> _Tables:
        try:
            content = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            both = "Cannot declare ('elements'" in str(error)
            advice = (
                "; elements is a list already: list all elements, or give each a table [elements.X]" if both else ""
            )
            raise FileFormatError(
                f"not TOML: {error}{advice}", path=str(self.path), line=int(found.group(1)) if found else None
            ) from None
        self.known(content, _Tables.model_fields, "the file")
        try:
            return _Tables.model_validate(content)
        except ValidationError as error:
            # Of a union pydantic names the alternatives; the key is enough.
            key = str(error.errors()[0]["loc"][0])
            right = {
                "elements": 'a list of symbols, e.g. ["Si", "Ge"], or tables [elements.Si]',
                "defaults": "a table",
                "groups": "tables such as [groups.metals]",
            }.get(key, "a text in quotes")
            raise self.fail(f"must be {right}", key) from None
