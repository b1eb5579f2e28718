"""What to fit, and what that comes to: the request of a fit, checked and settled before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dftbparam.campaign.cluster import load_profile
from dftbparam.campaign.dask_services import check_address
from dftbparam.campaign.evaluate import FitContext
from dftbparam.campaign.partners import choose_partners, common_form, load_partners
from dftbparam.campaign.target_scoring import cutoff_conflict, stable_elements
from dftbparam.campaign.warm_start import PUBLISHED as PUBLISHED_START
from dftbparam.campaign.warm_start import PlannedStart, plan_starts
from dftbparam.elements import element
from dftbparam.errors import InputError, ParameterError, ReferenceDataError
from dftbparam.propose import proposer, proposer_names
from dftbparam.reference import DEFAULT_DATASET, BandReference, CrystalReference, Dataset, load_dataset
from dftbparam.repulsion.forms import get_form
from dftbparam.score.objective import Targets
from dftbparam.space.build import DEFAULTS, ElementSpace, build_space
from dftbparam.space.definition import DEFAULT_SPACE, load_space


def _checked(value: str, check: Callable[[str], object]) -> str:
    """Return what a check of ours lets pass, as pydantic wants it."""
    try:
        check(value)
    except InputError as error:
        raise ValueError(error.message) from None
    return value


class FitRequest(BaseModel):
    """What to fit and how. Validated at construction.

    Attributes
    ----------
    references
        Name of a reference set, or a folder in the same layout.
    dftbplus
        The DFTB+ program for the engine ``dftb+``; None: ``DFTBPLUS_COMMAND``, else ``dftb+`` on the PATH.
    workers
        Local worker processes; 0 evaluates in this process. Ignored with ``scheduler`` and ``cluster``.
    repulsion
        Name of a form of `dftbparam.repulsion.forms`; with partners unless given their form, the only one that
        combines with theirs.
    cluster
        Profile of a batch system that workers are started on; contradicts ``scheduler``.
    space
        Name of a search space, or a file: see `dftbparam.space.definition`.
    power, shift
        Whether the confinement power, and the on-site shift of the polarisation shell, are searched in the default
        space.
    start_from
        Known parameters to begin with; see `dftbparam.campaign.warm_start`.
    partners
        Fit on binaries, with the other elements' parameters from this set, file or folder; None: on the element's own
        crystals.
    exclude_partners
        Partners that are left out.
    crystals
        Prototypes, or names such as ``Mg-O rocksalt``, of the crystals to fit; empty: all that have three dimensions.
    targets
        What to fit, with weights, as `dftbparam.score.objective.Targets` reads it: ``eos,bands:2``.
    design
        Sobol points after the starts, before the sampler is asked; None: 2 d + 2 in d dimensions. Good starts in number
        make them a waste. ``turbo`` itself goes on with Sobol points until 2 d trials are done.
    in_flight, batch, patience, min_improvement
        Trials under way at once, and proposed at once, and two rules to end early: see
        `dftbparam.campaign.run.run_campaign`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    references: str = DEFAULT_DATASET
    engine: Literal["embedded", "dftb+"] = "embedded"
    dftbplus: str | None = None
    sampler: str = proposer_names()[0]
    evaluations: int = Field(default=300, ge=1, strict=True)
    workers: int = Field(default=2, ge=0, strict=True)
    scheduler: str | None = None
    cluster: str | None = None
    seed: int = Field(default=0, ge=0, strict=True)
    out: Path
    resume: bool = False
    repulsion: str = "screened-power"
    space: str = DEFAULT_SPACE
    power: bool = Field(default=True, strict=True)
    shift: bool = Field(default=True, strict=True)
    start_from: tuple[str, ...] = Field(default=(PUBLISHED_START,), min_length=1)
    partners: str | None = None
    exclude_partners: tuple[str, ...] = ()
    crystals: tuple[str, ...] = ()
    targets: str = "eos"
    design: int | None = Field(default=None, ge=0, strict=True)
    in_flight: int | None = Field(default=None, ge=1, strict=True)
    batch: int | None = Field(default=None, ge=1, strict=True)
    patience: int | None = Field(default=None, ge=1, strict=True)
    min_improvement: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, strict=True)

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in proposer_names():
            raise ValueError(f"no sampler {name!r}; there are: {', '.join(proposer_names())}")
        return name

    @field_validator("repulsion")
    @classmethod
    def _known_form(cls, name: str) -> str:
        return _checked(name, get_form)

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, text: str) -> str:
        return _checked(text, Targets.parse)

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        element(self.symbol)
        if self.exclude_partners and self.partners is None:
            raise ValueError(
                f"partners to exclude ({', '.join(self.exclude_partners)}) need a fit on binaries: name the set that "
                "the partners come from"
            )
        if self.scheduler is not None and self.cluster is not None:
            raise ValueError(
                f"scheduler {self.scheduler} and cluster {self.cluster} contradict each other: a cluster's workers get "
                "a scheduler of their own; give one of them"
            )
        if self.design is not None and self.design > self.evaluations:
            raise ValueError(f"a design of {self.design} points is more than the {self.evaluations} evaluations")
        if self.space != DEFAULT_SPACE and not (self.power and self.shift):
            name = "shift" if self.power else "power"
            raise ValueError(
                f"a fixed {name} belongs to the default space; in space {self.space!r} write it as fixed, e.g. "
                f"{name} = {DEFAULTS[name]}"
            )
        return self


@dataclass(frozen=True)
class FitPlan:
    """What a request comes to.

    The data; what evaluations share; the space that is searched, and the points of it to begin with; partners in the
    data without parameters; the Sobol points that were asked for.
    """

    data: Dataset
    context: FitContext
    space: ElementSpace
    starts: tuple[PlannedStart, ...] = ()
    without_parameters: tuple[str, ...] = ()
    design: int | None = None

    @property
    def initial(self) -> int:
        """Number of trials of the initial design, starts included, as `dftbparam.campaign.run.run_campaign` has it."""
        points = 2 * len(self.space.space) + 2 if self.design is None else self.design
        return max(1, len(self.starts) + points)

    @property
    def moved(self) -> tuple[str, ...]:
        """What was moved into the space's ranges, a line for each start that had to be."""
        return tuple(f"{start.origin}: {', '.join(start.moved)}" for start in self.starts if start.moved)


def plan_fit(request: FitRequest) -> FitPlan:
    """Settle what a request asks for; nothing is evaluated and no file is written.

    Raises
    ------
    InputError
        Unknown references, parameters or crystals; an element, a partner or a target that the data lack; forms of
        repulsion that do not combine; a search space or a start that is malformed or does not fit the element.
    """
    data, context, missing = _plan_evaluations(request)
    space, starts = _plan_search(request, context.form)
    # A malformed profile or address is said before files are made.
    if request.cluster is not None:
        load_profile(request.cluster)
    if request.scheduler is not None:
        check_address(request.scheduler)
    return FitPlan(data, replace(context, fixed=space.fixed), space, starts, missing, request.design)


def check_fit(request: FitRequest, partners: Collection[str], form: str) -> None:
    """Check all of a fit on binaries that can be checked before its partners have been fitted.

    Parameters
    ----------
    request
        Its ``partners`` are not looked at.
    partners, form
        Symbols of the partners, and the form of repulsion they are going to have.

    Raises
    ------
    InputError
        As `plan_fit`.
    EngineMissing
        The library of the sampler is missing.
    """
    data = load_dataset(request.references)
    _functional(data)
    chosen = _binaries(request, data, partners)
    _bands(data, chosen, Targets.parse(request.targets))
    _formed_from(request.symbol, data, chosen, Targets.parse(request.targets))
    if "repulsion" in request.model_fields_set and form != request.repulsion:
        raise ParameterError(
            f"repulsion {request.repulsion} does not combine with that of the partners, which is {form}: leave it out",
            form=request.repulsion,
        )
    _plan_search(request, form)


def _plan_search(request: FitRequest, form: str) -> tuple[ElementSpace, tuple[PlannedStart, ...]]:
    """The space that is searched and the points to begin with; says what library the sampler lacks."""
    definition = load_space(request.space)
    if not request.power:
        definition = definition.fix("power", DEFAULTS["power"])
    if not request.shift:
        definition = definition.fix("shift", DEFAULTS["shift"])
    atom = element(request.symbol)
    space = build_space(request.symbol, definition, get_form(form).parameters(atom.number, atom.covalent_radius))
    starts = plan_starts(request.start_from, space)
    proposer(request.sampler)
    return space, starts


def _binaries(request: FitRequest, data: Dataset, partners: Collection[str]) -> tuple[CrystalReference, ...]:
    """The crystals with these partners that are to be fitted, and own ones where they are named."""
    binaries = [c for c in data.binaries_of(request.symbol) if set(c.symbols) <= {request.symbol, *partners}]
    own = [c for c in data.crystals if c.partner is None and c.symbol == request.symbol]
    return choose_crystals(binaries, request.crystals, also=own)


def _plan_evaluations(request: FitRequest) -> tuple[Dataset, FitContext, tuple[str, ...]]:
    """The data, what evaluations share, and partners without parameters."""
    data = load_dataset(request.references)
    functional = _functional(data)
    targets = Targets.parse(request.targets)
    if request.partners is None:
        crystals = _own_crystals(request.symbol, data)
        chosen = choose_crystals(crystals, request.crystals)
        context = FitContext(
            symbol=request.symbol,
            references=chosen,
            form=request.repulsion,
            engine=request.engine,
            command=request.dftbplus,
            functional=functional,
            targets=targets,
            stable=_formed_from(request.symbol, data, chosen, targets),
            bands=_bands(data, chosen, targets),
        )
        return data, context, ()
    partners = load_partners(request.partners)
    if partners.functional != functional:
        raise ParameterError(
            f"partners are of a {partners.functional} set ({partners.name}), references {data.name!r} are {functional}",
            functional=partners.functional,
        )
    used, missing = choose_partners(request.symbol, data, partners, request.exclude_partners)
    chosen = _binaries(request, data, used)
    context = FitContext(
        symbol=request.symbol,
        references=chosen,
        form=request.repulsion,
        engine=request.engine,
        command=request.dftbplus,
        functional=functional,
        superposition=partners.superposition,
        partners=partners,
        targets=targets,
        stable=_formed_from(request.symbol, data, chosen, targets),
        bands=_bands(data, chosen, targets),
    )
    form = common_form(context.frozen) if context.frozen else request.repulsion
    if "repulsion" in request.model_fields_set and form != request.repulsion:
        raise ParameterError(
            f"repulsion {request.repulsion} does not combine with that of the partners of {partners.name!r}, which is "
            f"{form}: leave it out",
            form=request.repulsion,
        )
    return data, replace(context, form=form), missing


def choose_crystals(
    crystals: Sequence[CrystalReference], names: Sequence[str], also: Sequence[CrystalReference] = ()
) -> tuple[CrystalReference, ...]:
    """Choose crystals by prototype or by name; without names all of ``crystals`` that have three dimensions.

    Parameters
    ----------
    also
        Crystals that are taken only where they are named.

    Raises
    ------
    ReferenceDataError
        A name fits none; the message lists what there is. Or no crystal has three dimensions.
    """
    everything = [*crystals, *also]
    known = ", ".join(dict.fromkeys(c.name for c in everything))
    if not names:
        chosen = tuple(c for c in crystals if c.structure.dimensions == 3)
        if not chosen:
            raise ReferenceDataError(f"no crystal has three dimensions; choose what to fit of: {known}")
        return chosen
    for name in names:
        if not any(name in (c.name, c.prototype) for c in everything):
            raise ReferenceDataError(f"no crystal {name!r}; there are: {known}", name=name)
    return tuple(c for c in everything if c.name in names or c.prototype in names)


def _own_crystals(symbol: str, data: Dataset) -> tuple[CrystalReference, ...]:
    """Crystals of the element alone; says how to go on where there are binaries only."""
    try:
        return data.crystals_of(symbol)
    except ReferenceDataError as error:
        compounds = list(dict.fromkeys(c.compound for c in data.binaries_of(symbol)))
        if not compounds:
            raise
        raise ReferenceDataError(
            f"{error.message}; of {symbol} it has binaries ({', '.join(compounds)}): to fit on them, say where the "
            "partners' parameters come from, e.g. --partners ptbp, or in a campaign "
            'file partners = "ptbp"',
            symbol=symbol,
        ) from None


def _bands(data: Dataset, crystals: Sequence[CrystalReference], targets: Targets) -> tuple[BandReference, ...]:
    """Band structures of the crystals, where bands or gaps are a target."""
    wanted = [name for name in targets.names if name in ("bands", "gaps")]
    if not wanted:
        return ()
    names = {crystal.name for crystal in crystals}
    fitted = {(crystal.symbols, crystal.prototype) for crystal in crystals}
    found = tuple(band for band in data.bands if (band.symbols, band.prototype) in fitted)
    if not found:
        compound = crystals[0].compound
        there = [f"{band.compound} {band.prototype}" for band in data.bands]
        same = [name for name in there if name.startswith(f"{compound} ")]
        raise ReferenceDataError(
            f"reference set {data.name!r} has no bands of the crystals to fit ({', '.join(sorted(names))}), so that "
            f"the target {wanted[0]} means nothing; it has bands of: {', '.join((same or there)[:12]) or 'none'}",
            target=wanted[0],
            dataset=data.name,
        )
    return found


def _formed_from(
    symbol: str, data: Dataset, crystals: Sequence[CrystalReference], targets: Targets
) -> tuple[CrystalReference, ...]:
    """The partners' stable crystals, where formation energies are a target; says what is missing for one."""
    if targets.formation == 0.0:
        return ()
    binaries = [crystal for crystal in crystals if crystal.partner is not None]
    there = [crystal.name for crystal in data.binaries_of(symbol)]
    if not binaries:
        how = (
            f"choose some of {', '.join(there[:12])} together with the partners' parameters (--partners)"
            if there
            else f"{data.name!r} has no binaries of {symbol}; a set that has some is acwf-oxides-pbe"
        )
        raise ReferenceDataError(
            f"the target formation needs binaries among the crystals to fit: {how}", target="formation"
        )
    stable = stable_elements(binaries, data)
    for crystal in binaries:
        lacking = [name for name in crystal.symbols if name not in stable]
        why = f"{data.name!r} has no crystals of {', '.join(lacking)}" if lacking else cutoff_conflict(crystal, data)
        if why:
            raise ReferenceDataError(
                f"{crystal.name} has no formation energy: {why}; leave out the target formation, or this crystal",
                target="formation",
            )
    own = stable[symbol]
    names = [crystal.name for crystal in crystals]
    if own.name not in names:
        raise ReferenceDataError(
            f"the target formation needs {symbol}'s most stable crystal, {own.name}, among those that are fitted: "
            f"--crystals '{','.join([own.name, *names])}'",
            target="formation",
        )
    return tuple(crystal for name, crystal in stable.items() if name != symbol)


def _functional(data: Dataset) -> str:
    if data.functional not in ("LDA", "PBE"):
        raise ParameterError(
            f"reference set {data.name!r} is {data.functional}; tables are made with LDA or PBE",
            functional=data.functional,
        )
    return data.functional
