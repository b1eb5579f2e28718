"""Search spaces as data: what of an element is searched, in which range, and what is fixed (docs/spaces.md).

A file in TOML says it for any element, role by role (`ROLES`): ranges may be multiples of the covalent radius or the
element's own, from `dftbparam.elements`. `dftbparam.space.build` makes the search space of one element of it.

::

    format = 1
    name = "mine"
    confinement = "power"          # a role that is fixed

    [shell_radius]                 # a role that is searched: one number a shell ...
    range = ["0.8 r_cov", "5 r_cov"]
    scale = "log"
    prior = { centre = "element", width = 1.5 }

    [shell_radius.d]               # ... and otherwise for d shells
    range = [2.0, 12.0]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Final, Literal

from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.space.parameters import Kind, Scale

FORMAT: Final = 1
"""Raised when a file of the previous format means something else."""

DEFAULT_SPACE: Final = "default"

SMALLEST_RADIUS: Final = 1.0
"""Bohr: ``r_cov`` in a file is the covalent radius, and at least this: those of H and He say little of their reach."""

ELEMENT: Final = "element"
"""What a file writes where the element's own value or range, of `dftbparam.elements`, is meant."""

KINDS: Final = ("power", "woods-saxon")
"""Confinements of orbitals; a density may have ``none``, too."""


@dataclass(frozen=True)
class RoleInfo:
    """What a role means.

    Attributes
    ----------
    stem
        Of the names of its parameters: ``radius`` gives ``radius_3s``, or ``radius`` where all shells share it.
    unit
        Of numbers in a file.
    low, high
        Limits of what a confinement can take; both exclusive where ``open_low``.
    length
        Power of the covalent radius that relative values scale with: 1 a length, -1 its inverse, 0 none.
    shells
        Whether each shell may have its own.
    per_shell
        Whether each shell has its own unless the file says otherwise.
    texts
        The texts it can be, of a role that is no number.
    own_range, own_value
        Whether the element has a range, and a value, to be called ``element``.
    """

    stem: str
    unit: str = ""
    low: float = 0.0
    high: float = float("inf")
    open_low: bool = True
    length: int = 0
    shells: bool = False
    per_shell: bool = False
    texts: tuple[str, ...] = ()
    own_range: bool = False
    own_value: bool = False


ROLES: Final[Mapping[str, RoleInfo]] = {
    "confinement": RoleInfo("confinement", texts=KINDS),
    "density_confinement": RoleInfo("confinement_density", texts=(*KINDS, "none")),
    "shell_radius": RoleInfo("radius", "Bohr", length=1, shells=True, per_shell=True, own_range=True, own_value=True),
    "density_radius": RoleInfo("radius_density", "Bohr", length=1, own_range=True, own_value=True),
    "power": RoleInfo("power", low=1.0, high=20.0, open_low=False, shells=True, own_range=True),
    "density_power": RoleInfo("power_density", low=1.0, high=20.0, open_low=False, own_range=True),
    "height": RoleInfo("height", "Hartree", shells=True),
    "density_height": RoleInfo("height_density", "Hartree"),
    "steepness": RoleInfo("steepness", "1/Bohr", length=-1, shells=True),
    "density_steepness": RoleInfo("steepness_density", "1/Bohr", length=-1),
    "shift": RoleInfo("shift", "Hartree", low=-float("inf"), shells=True, per_shell=True, own_range=True),
}
"""Roles by their name in a file, in the order of a space's dimensions; ``repulsion`` comes last."""

REPULSION: Final = RoleInfo("repulsion", own_range=True)
"""A parameter of the repulsion's form, searched with the others instead of being fitted inside each evaluation."""


@dataclass(frozen=True)
class Quantity:
    """A number in the unit of its role, or times r_cov to the power ``length``."""

    value: float
    length: int = 0

    def of(self, covalent_radius: float) -> float:
        """The number for an element of this covalent radius, Bohr."""
        if not self.length:
            return self.value
        return self.value * max(covalent_radius, SMALLEST_RADIUS) ** self.length

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return not self.length and self.value == int(self.value)

    def __str__(self) -> str:
        return f"{self.value:g}" + ("", " r_cov", " / r_cov")[self.length]


Own = Literal["element"]


@dataclass(frozen=True)
class Entry:
    """What a file says of a role, or of a role for one kind of shell; one of ``fixed``, ``range`` and ``choices``.

    ``place`` is where it stands in the file; ``prior`` is (centre, width).
    """

    place: str
    fixed: Quantity | str | None = None
    range: tuple[Quantity, Quantity] | Own | None = None
    choices: tuple[Quantity | str, ...] = ()
    kind: Kind = "real"
    scale: Scale = "linear"
    prior: tuple[Quantity | Own, float] | None = None

    @property
    def searched(self) -> bool:
        """Whether it is a dimension of the space."""
        return self.fixed is None


@dataclass(frozen=True)
class Role:
    """A role in a file: for all shells (``entry``; None: left at its default) and for some (``shells``, by letter).

    ``per_shell``: each shell has its own number by ``entry``, else all share one.
    """

    entry: Entry | None
    per_shell: bool = False
    shells: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All there are."""
        own = () if self.entry is None else (self.entry,)
        return (*own, *self.shells.values())


@dataclass(frozen=True)
class SpaceDefinition:
    """A search space for any element. Made by `load_space`.

    ``roles`` by name (`ROLES`) and ``repulsion`` by the name of the form's parameter; ``source`` is the file, for
    messages.
    """

    name: str
    roles: Mapping[str, Role]
    repulsion: Mapping[str, Entry]
    description: str = ""
    source: str = ""

    def fix(self, role: str, value: float) -> SpaceDefinition:
        """Return the space with a role fixed."""
        entry = Entry(role, fixed=Quantity(value))
        return replace(self, roles={**self.roles, role: Role(entry)})

    def error(self, place: str, symbol: str, reason: str) -> ParameterError:
        """An error that shows for one element only."""
        return ParameterError(f"{self.source}: {place}, for {symbol}: {reason}", place=place, symbol=symbol)


def space_names() -> tuple[str, ...]:
    """Names of the spaces that ship with the package, the default first."""
    found = sorted(p.name.removesuffix(".toml") for p in _shipped().iterdir() if p.name.endswith(".toml"))
    return (DEFAULT_SPACE, *(name for name in found if name != DEFAULT_SPACE))


def load_space(name_or_path: str | Path) -> SpaceDefinition:
    """Load a space that ships with the package, or a TOML file.

    Raises
    ------
    ParameterError
        The name is neither a shipped space nor a file.
    FileFormatError
        The file is not a search space; the message names the place in it, and what would be right.
    """
    from dftbparam.space.definition_file import read_definition

    if isinstance(name_or_path, str) and name_or_path in space_names():
        file = _shipped() / f"{name_or_path}.toml"
        return read_definition(file.read_text(encoding="utf-8"), f"{name_or_path}.toml")
    path = Path(name_or_path)
    if not path.is_file():
        what = "is a folder" if str(name_or_path) and path.is_dir() else "is neither a file nor a shipped search space"
        raise ParameterError(
            f"{str(name_or_path)!r} {what}; shipped: {', '.join(space_names())}", name=str(name_or_path)
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"not UTF-8 text ({error.reason})", path=str(path)) from None
    except OSError as error:
        raise ParameterError(f"search space {str(path)!r} cannot be read ({error.strerror})", name=str(path)) from None
    return read_definition(text, str(path))


def _shipped() -> resources.abc.Traversable:
    return resources.files("dftbparam.space") / "data" / "spaces"
