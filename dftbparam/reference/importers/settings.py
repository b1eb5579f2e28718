"""How structures were computed, under common names, and whether sources agree on it.

========== ============================================================================================
functional name as people write it: PBE, PBEsol, r2SCAN, HSE06; with ``+U`` where Hubbard terms are on
code       program, e.g. VASP
version    of the program
cutoff     plane waves, eV
smearing   width, eV; ``scheme`` its kind
spin       ``none``, ``collinear`` or ``spin-orbit``
potentials of every element, sorted: ``PAW_PBE Si``
hubbard    the U values, sorted: ``Ti:3.9``
========== ============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dftbparam.errors import ReferenceDataError

Setting = str | float | int | bool

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "functional": ("functional", "xc", "xc_functional", "dft_functional"),
    "code": ("code", "program"),
    "version": ("version", "code_version"),
    "cutoff": ("cutoff", "encut", "ecut"),
    "smearing": ("smearing", "sigma"),
    "scheme": ("scheme",),
    "spin": ("spin",),
    "potentials": ("potentials", "pseudopotentials"),
    "hubbard": ("hubbard",),
}
"""Names in this package, and under which users' files have them (``info`` of an extended xyz file, columns of a
database)."""

LOCAL: Final = ("potentials", "hubbard")
"""Settings that belong to elements: those of two structures agree if they do for the elements that both have."""

_FUNCTIONALS: Final[Mapping[str, tuple[str, ...]]] = {
    "LDA": ("lda", "ca", "pz", "pw92", "pwlda", "ldapz"),
    "PBE": ("pbe", "pe", "ggapbe", "ggaxpbeggacpbe", "xcpbe"),
    "PBEsol": ("pbesol", "ps", "ggaxpbesolggacpbesol"),
    "revPBE": ("revpbe", "re"),
    "RPBE": ("rpbe", "rp"),
    "PW91": ("pw91", "91"),
    "AM05": ("am05", "am"),
    "BLYP": ("blyp",),
    "TPSS": ("tpss",),
    "SCAN": ("scan", "mggaxscanmggacscan"),
    "r2SCAN": ("r2scan", "mggaxr2scanmggacr2scan"),
    "HSE06": ("hse06", "hse"),
    "PBE0": ("pbe0",),
    "B3LYP": ("b3lyp",),
    "GGA": ("gga",),
}
_NAMES: Final = {word: name for name, words in _FUNCTIONALS.items() for word in words}

UNNAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "GGA": ("PBE", "PBEsol", "revPBE", "RPBE", "PW91", "AM05", "BLYP"),
}
"""A family where the source does not say which: it contradicts no member of it, and cannot replace its name."""


def functional_name(text: str) -> str:
    """Return the common name of a functional; what is not known is returned as it is, without blanks around it."""
    head, plus, tail = text.strip().partition("+")
    word = re.sub(r"[^a-z0-9]", "", text.lower())
    if word in _NAMES:
        return _NAMES[word]
    return _NAMES.get(re.sub(r"[^a-z0-9]", "", head.lower()), head.strip()) + plus + tail.strip()


def same_functional(first: str, second: str) -> bool:
    """Whether two names do not contradict each other: equal, or a family (GGA) and a member with the same addition."""
    if first == second:
        return True
    for family, member in ((first, second), (second, first)):
        head, *more = family.split("+", 1)
        name, *other = member.split("+", 1)
        if more == other and name in UNNAMED.get(head, ()):
            return True
    return False


def agreed_functional(given: str | None, recorded: Iterable[tuple[str, str]]) -> str:
    """Return the functional that all sources share.

    Parameters
    ----------
    given
        What the user says, or None.
    recorded
        Functional and source of everything that states one.

    Raises
    ------
    ReferenceDataError
        Two of them differ, or nobody states one; names the two and where they come from.
    """
    agreed = (functional_name(given), "--functional") if given else None
    for text, where in recorded:
        name = functional_name(text)
        if agreed is None:
            agreed = (name, where)
        elif not same_functional(agreed[0], name):
            raise ReferenceDataError(
                f"mixed functionals: {agreed[0]} ({agreed[1]}) and {name} ({where}); a set has one functional, import "
                "them as two sets",
                functionals=(agreed[0], name),
            )
        elif agreed[0] in UNNAMED and name not in UNNAMED:
            agreed = (name, where)
    if agreed is None or agreed[0].split("+")[0] in UNNAMED:
        what = "no file says which functional was used" if agreed is None else f"the files say {agreed[0]} alone"
        raise ReferenceDataError(f"{what}; say it with --functional, e.g. --functional PBE")
    return agreed[0]


def settings_from(table: Mapping[str, Any]) -> dict[str, Setting]:
    """Pick the settings out of a table of a file, under the names of this package."""
    found: dict[str, Setting] = {}
    lower = {str(key).lower(): value for key, value in table.items()}
    for name, aliases in ALIASES.items():
        for alias in aliases:
            value = lower.get(alias)
            if isinstance(value, str | int | float | bool) and str(value).strip():
                found[name] = functional_name(str(value)) if name == "functional" else value
                break
    return found


def contradictions(settings: Sequence[tuple[Mapping[str, Setting], str]]) -> dict[str, list[tuple[str, str]]]:
    """Compare settings with their sources.

    Returns
    -------
    Per setting that is not the same everywhere, its different values with the first source of each. A source that does
    not state a setting contradicts nobody.
    """
    seen: dict[str, dict[str, str]] = {}
    for table, where in settings:
        for name, value in table.items():
            parts = str(value).split(",") if name in LOCAL else [""]
            for part in parts:
                key, shown = _local(name, part) if name in LOCAL else (name, _shown(value))
                seen.setdefault(key, {}).setdefault(shown, where)
    return {
        key: list(values.items())
        for key, values in seen.items()
        if len(values) > 1 and not (key == "functional" and _one_functional(list(values)))
    }


def _one_functional(names: Sequence[str]) -> bool:
    return all(same_functional(a, b) for a in names for b in names)


def _local(name: str, part: str) -> tuple[str, str]:
    """Split ``Ti:3.9`` or ``PAW_PBE Si_d`` into the setting of that element, and its value."""
    text = part.strip()
    symbol = text.split(":")[0] if ":" in text else re.split(r"[_ ]", text.split(" ", 1)[-1])[0]
    return f"{name} of {symbol}", text


def _shown(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
