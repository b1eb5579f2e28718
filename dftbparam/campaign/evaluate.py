"""One evaluation: confinement parameters in, objective out. Pure; what a Dask worker runs.

In a fit on binaries the crystals hold frozen partners (`dftbparam.campaign.partners`), charges are self-consistent, and
the element's dimer with each partner has to have a wall, too.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from dftbparam.campaign.partners import pair_tables
from dftbparam.campaign.repulsion_fit import RepulsionSearch
from dftbparam.campaign.result import TrialResult
from dftbparam.campaign.scoring import (
    KPT_DENSITY,
    SCAN,
    TEMPERATURE,
    TRAINING_SCAN,
    crystal_settings,
    dimer_curve,
    energy_curves,
    fit_crystals,
)
from dftbparam.campaign.target_scoring import checked, compute_bands
from dftbparam.elements import element
from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.factory import make_engine
from dftbparam.errors import CalculationError, DftbparamError, NoMinimum
from dftbparam.reference import BandReference, CrystalReference
from dftbparam.score.bands import BandScore
from dftbparam.score.objective import BINARY_WEIGHTS, BandErrors, Measures, Objective, Targets, Weights, Zero
from dftbparam.score.short_range import DISTANCES, contact_distance
from dftbparam.skf import SKSet
from dftbparam.slako.build import build_tables
from dftbparam.slako.pseudoatom import free_atom
from dftbparam.space import ElementParameters, ParameterSet, RepulsionParameters
from dftbparam.space.element_space import element_parameters
from dftbparam.units import BOHR, HARTREE

Array = NDArray[np.float64]

MAX_FAILED: Final = 0.25
"""Share of the structures that may fail (all of them at the compressed end, in practice) before the trial does."""

VOLUMES: Final = (*TRAINING_SCAN, *SCAN)
"""Relative volumes at which a fit sees every crystal."""

BINARY_VOLUMES: Final = (0.50, 0.60, 0.70, 0.80, 0.86, 0.91, 0.955, 1.0, 1.045, 1.09, 1.15, 1.25, 1.40, 1.60)
"""Relative volumes at which a fit on binaries sees every crystal: 14 instead of 25, because each takes several
diagonalisations. Seven of them within 15 % of the reference carry the equation of state; outside they stand as far
apart as a deeper well is wide. Reports scan as finely as for elements."""

SCC_TOLERANCE: Final = 1e-5
"""Electrons, in evaluations: energies of MgO, CaO, TiO and ZnO then are within 0.01 meV/atom of those at 1e-7, with two
thirds of the diagonalisations."""

EVALUATION_VERSION: Final = 3
"""Raised whenever the same point would get another objective than before: a run begun with another is not resumed."""


@dataclass(frozen=True, eq=False)
class FitContext:
    """What evaluations of one element share; some kilobytes, shipped once per worker. Equal only to itself.

    Attributes
    ----------
    references
        The crystals that are fitted.
    form
        Name of the repulsion's form.
    engine, command
        ``embedded`` or ``dftb+``, and the program of the latter.
    partners
        Frozen parameters of the other elements in the crystals; the set's functional and superposition are the fit's.
    weights, binary_weights
        For crystals of the element alone, and for those with a partner.
    targets
        What counts beside E(V), and how much.
    stable
        The partners' most stable crystals, where formation energies are a target.
    bands
        Band structures behind the targets ``bands`` and ``gaps``.
    fixed
        Values by name of what is not searched and not at its default (`dftbparam.space.build.ElementSpace`).
    """

    symbol: str
    references: tuple[CrystalReference, ...]
    form: str = "screened-power"
    engine: str = "embedded"
    command: str | None = None
    functional: str = "PBE"
    superposition: str = "density"
    weights: Weights = field(default_factory=Weights)
    binary_weights: Weights = BINARY_WEIGHTS
    partners: ParameterSet | None = None
    targets: Targets = field(default_factory=Targets)
    stable: tuple[CrystalReference, ...] = ()
    bands: tuple[BandReference, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """Whether a crystal holds a second element."""
        return any(reference.partner is not None for reference in self.references)

    @property
    def volumes(self) -> tuple[float, ...]:
        """Relative volumes of the curves."""
        return BINARY_VOLUMES if self.binary else VOLUMES

    @property
    def frozen(self) -> dict[str, ElementParameters]:
        """Records of the partners that the crystals hold, by symbol."""
        names = dict.fromkeys(s for reference in self.references for s in reference.symbols if s != self.symbol)
        return {} if self.partners is None else {name: self.partners.element(name) for name in names}

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as JSON; what is off is left out."""
        kinds = {reference.partner is not None for reference in self.references}
        out: dict[str, Any] = {
            "symbol": self.symbol,
            "repulsion": self.form,
            "engine": self.engine,
            "functional": self.functional,
            "superposition": self.superposition,
            "weights": asdict(self.binary_weights if kinds == {True} else self.weights),
            "references": [reference.model_dump(mode="json") for reference in self.references],
            "scan": list(self.volumes),
            "dimer": list(DISTANCES),
            "kpt_density": KPT_DENSITY,
            "temperature_K": TEMPERATURE,
            "evaluation_version": EVALUATION_VERSION,
        }
        if len(kinds) == 2:
            out["binary_weights"] = asdict(self.binary_weights)
        if self.partners is not None:
            out["partners"] = {
                "set": self.partners.name,
                "elements": {name: record.model_dump(mode="json") for name, record in self.frozen.items()},
            }
            out["scc_tolerance"] = SCC_TOLERANCE
        if self.stable:
            out["formed_from"] = [reference.model_dump(mode="json") for reference in self.stable]
        if self.fixed:
            out["fixed"] = dict(self.fixed)
        if self.targets != Targets():
            weights = asdict(self.targets)
            # Younger than the others: runs begun before it do not name it.
            out["targets"] = {name: value for name, value in weights.items() if name != "formation" or value > 0.0}
            # Numbers by the thousand: their checksum says as much.
            out["bands"] = {one.name: hashlib.sha256(one.model_dump_json().encode()).hexdigest() for one in self.bands}
        return out


_SEARCHES: OrderedDict[FitContext, RepulsionSearch] = OrderedDict()
"""Neighbour lists per context: the same for every trial of a campaign, and a second's work to make."""


def repulsion_search(context: FitContext) -> RepulsionSearch:
    """Return the inner search of a context, made once per process."""
    if context not in _SEARCHES:
        objective = Objective(
            context.references,
            context.volumes,
            context.weights,
            context.targets,
            context.binary_weights,
            zeros_of(context),
        )
        _SEARCHES[context] = RepulsionSearch(
            context.symbol, context.form, context.references, objective, context.frozen
        )
        while len(_SEARCHES) > 16:
            _SEARCHES.popitem(last=False)
    return _SEARCHES[context]


@lru_cache(maxsize=16)
def zeros_of(context: FitContext) -> dict[str, Zero]:
    """Compute the energies of the partners' stable crystals, as report cards do; once per process.

    Raises
    ------
    NoMinimum
        A partner's own tables have no minimum there, so that there is no formation energy to fit.
    """
    zeros: dict[str, Zero] = {}
    for crystal in context.stable:
        made = parameter_set(replace(context, symbol=crystal.symbol), context.frozen[crystal.symbol], "partner")
        engine = _engine(context.engine, context.command)
        fit = fit_crystals(build_tables(made, [crystal.symbol]), [crystal], engine)[1][crystal.name]
        if isinstance(fit, DftbparamError):
            raise NoMinimum(
                f"the partner {crystal.symbol} has no minimum as {crystal.prototype} to count formation energies from: "
                f"{fit.message}",
                symbol=crystal.symbol,
            )
        zeros[crystal.symbol] = Zero(fit.e0, crystal.energy)
    return zeros


@cache
def _engine(name: str, command: str | None) -> Engine:
    """Return the engine, made once per process, so that DFTB+ is asked for its release once and not at every trial.

    Structures that fail are no news in a search: their scratch folders are not kept.
    """
    return make_engine(name, command=command, keep="never")


def parameters_of(
    context: FitContext, values: Mapping[str, Any], repulsion: RepulsionParameters | None = None
) -> ElementParameters:
    """Return the record that a point of the search space stands for."""
    atom = element(context.symbol)
    free = free_atom(atom.symbol, atom.configuration_text, atom.valence, context.functional)
    return element_parameters(context.symbol, {**context.fixed, **values}, repulsion, free.levels)


def given_repulsion(context: FitContext, values: Mapping[str, Any]) -> dict[str, float]:
    """Parameters of the repulsion that a point of the search space, or what it fixes, gives."""
    known = {**context.fixed, **values}
    prefix = "repulsion_"
    return {name.removeprefix(prefix): value for name, value in known.items() if name.startswith(prefix)}


def parameter_set(context: FitContext, record: ElementParameters, name: str, **more: Any) -> ParameterSet:
    """Return a set of this one element, with the context's functional and superposition."""
    return ParameterSet.model_validate(
        {
            "name": name,
            "functional": context.functional,
            "superposition": context.superposition,
            "elements": {context.symbol: record},
            **more,
        }
    )


def tables_of(context: FitContext, record: ElementParameters, *, repulsion: bool = True) -> SKSet:
    """Build the tables of a record: of the element, of its partners, and of the element with each partner."""
    if context.partners is None:
        return build_tables(parameter_set(context, record, "trial"), [context.symbol], repulsion=repulsion)
    return pair_tables(
        record,
        context.frozen,
        functional=context.functional,
        superposition=context.superposition,
        repulsion=repulsion,
    )


def evaluate(values: dict[str, Any], context: FitContext) -> TrialResult:
    """Build tables, compute electronic energies, fit the repulsion, and take the objective.

    Raises
    ------
    CalculationError
        The atom did not converge, or too many structures have no energy (an overlap that is not positive definite
        under compression, say).
    """
    tables = tables_of(context, parameters_of(context, values), repulsion=False)
    search = repulsion_search(context)
    engine = _engine(context.engine, context.command)
    electronic, errors = electronic_energies(tables, context, search.objective.volumes, engine)
    if np.isnan(electronic).sum() > MAX_FAILED * electronic.size:
        raise CalculationError(
            f"{len(errors)} of {electronic.size} structures have no energy; the first: {errors[0]}",
            failed=len(errors),
            first=type(errors[0]).__name__,
        )
    bands = band_scores(tables, context.bands, engine)
    other = search.objective.electronic(band_errors(bands))
    dimers = pair_curves(tables, search.dimers, engine, repulsion=False)
    fitted = search.fit(electronic, dimers, other, given_repulsion(context, values))
    measures = search.objective.measure(electronic + fitted.energies)
    details: dict[str, Any] = {
        "repulsion": fitted.parameters.model_dump(mode="json"),
        "crystals": {
            reference.name: {
                "dV": _number(measures.dV[i]),
                "dB": _number(measures.dB[i]),
                "dE": _number(measures.dE[i]),
                "unsound": float(measures.unsound[i]),
            }
            for i, reference in enumerate(context.references)
        },
    }
    metrics = {**_metrics(measures, len(errors)), "wall_violation": fitted.wall}
    if context.targets.formation > 0.0:
        binaries = [reference.name for reference in context.references if reference.partner is not None]
        details["formation"] = {name: _number(value) for name, value in zip(binaries, measures.formation, strict=True)}
        metrics["mean_abs_formation_error"] = _mean(measures.formation)
    if context.bands:
        found = [score for score in bands.values() if score is not None]
        metrics["bands_rms"] = float(np.mean([score.rms for score in found])) if found else None
        details["bands"] = {
            name: None
            if score is None
            else {"rms": score.rms, "rms_near": score.rms_near, "gap_error": score.gap_error}
            for name, score in bands.items()
        }
    return TrialResult(objective=fitted.objective, metrics=metrics, details=details)


def electronic_energies(
    tables: SKSet, context: FitContext, volumes: Array, engine: Engine
) -> tuple[Array, list[DftbparamError]]:
    """Energies (m, n), eV/atom, of the crystals at volumes (m, n), without repulsion; NaN and an error for failures."""
    if not context.binary:
        by_name: dict[str, Any] = {
            reference.name: row for reference, row in zip(context.references, volumes, strict=True)
        }
        curves, errors = energy_curves(tables, context.references, engine, by_name, repulsion=False)
        return np.array([curves[reference.name][1] for reference in context.references]), errors
    structures: list[Atoms] = []
    settings: list[Settings] = []
    for reference, row in zip(context.references, volumes, strict=True):
        # From the largest volume down, charges carry on; the compressed end, where they may jump, comes last.
        structures += [reference.atoms(float(v)) for v in row[::-1]]
        one = replace(crystal_settings(reference), repulsion=False, scc_tolerance=SCC_TOLERANCE, reuse_charges=True)
        settings += [replace(one, reuse_charges=False), *[one] * (len(row) - 1)]
    results = checked(engine.compute(tables, structures, settings))
    energies = [
        result.extrapolated_energy * HARTREE / len(atoms) if isinstance(result, Result) else np.nan
        for result, atoms in zip(results, structures, strict=True)
    ]
    failures = [result for result in results if not isinstance(result, Result)]
    return np.array(energies).reshape(volumes.shape)[:, ::-1], failures


def pair_curves(tables: SKSet, pairs: tuple[tuple[str, str], ...], engine: Engine, *, repulsion: bool = True) -> Array:
    """Energies (p, k) of two atoms of each pair at `short_range.DISTANCES`, eV; NaN where a calculation failed.

    Distances are relative to the contact distance, of unequal atoms the mean of both elements'.
    """
    curves: list[Any] = []
    for a, b in pairs:
        if a == b:
            curves.append(dimer_curve(tables, a, engine, repulsion=repulsion))
            continue
        contact = 0.5 * (contact_distance(a) + contact_distance(b)) * BOHR
        structures = [Atoms([a, b], positions=[(0, 0, 0), (0, 0, x * contact)]) for x in DISTANCES]
        settings = Settings(temperature=TEMPERATURE, repulsion=repulsion, scc_tolerance=SCC_TOLERANCE)
        results = engine.compute(tables, structures, settings)
        curves.append(
            [result.extrapolated_energy * HARTREE if isinstance(result, Result) else np.nan for result in results]
        )
    return np.array(curves)


def band_scores(tables: SKSet, references: tuple[BandReference, ...], engine: Engine) -> dict[str, BandScore | None]:
    """Compare band structures with their references, by crystal, as the report card does; None for what failed."""
    found, _ = compute_bands(tables, references, engine)
    scores = {one.reference.name: one.score for one in found}
    return {reference.name: scores.get(reference.name) for reference in references}


def band_errors(scores: Mapping[str, BandScore | None]) -> BandErrors:
    """What the objective takes of band scores; NaN for those that failed. A gap that is not known has no error."""
    bands = {name: np.nan if score is None else score.rms for name, score in scores.items()}
    gaps = {name: np.nan if score is None else score.gap_error for name, score in scores.items()}
    return BandErrors(bands=bands, gaps={name: error for name, error in gaps.items() if error is not None})


def _metrics(measures: Measures, failed: int) -> dict[str, Any]:
    return {
        "mean_abs_dV": _mean(measures.dV),
        "mean_abs_dB": _mean(measures.dB),
        "mean_abs_dE": _mean(measures.dE[measures.compared]),
        "sound": bool((measures.unsound == 0.0).all()),
        "failed_structures": failed,
    }


def _mean(values: Any) -> float | None:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.mean()) if len(finite) else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
