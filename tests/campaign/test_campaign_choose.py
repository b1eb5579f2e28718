"""Which trial of a fit on binaries becomes its result: none whose crystals collapse, where there is another."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dftbparam.campaign import fit
from dftbparam.reference import load_dataset


def trials(*objectives: float) -> list[Any]:
    return [SimpleNamespace(objective=value, index=i) for i, value in enumerate(objectives)]


def choose(monkeypatch: pytest.MonkeyPatch, objectives: list[float], collapsing: set[int]) -> tuple[int, int]:
    """Index of the chosen one, and how many cards were made."""
    made = []

    def candidate(context: Any, data: Any, engine: Any, trial: Any) -> Any:
        made.append(trial.index)
        return fit._Candidate(None, None, trial, None, np.empty(0), trial.objective)

    monkeypatch.setattr(fit, "_candidate", candidate)
    monkeypatch.setattr(fit, "_in_order", lambda context, trial: True)
    monkeypatch.setattr(fit, "_collapses", lambda context, engine, one: one.trial.index in collapsing)
    chosen = fit._choose(SimpleNamespace(binary=True), None, None, trials(*objectives))
    assert chosen.collapses is (chosen.trial.index in collapsing)
    return chosen.trial.index, len(made)


def test_the_best_card_of_the_leaders(monkeypatch):
    assert choose(monkeypatch, [5.0, 3.0, 4.0, 6.0, 7.0], set()) == (1, fit.BINARY_CANDIDATES)


def test_trials_that_collapse_are_passed_over(monkeypatch):
    """As many others are looked at as there would have been."""
    assert choose(monkeypatch, [5.0, 3.0, 4.0, 6.0, 7.0], {1, 2}) == (0, 5)


def test_where_all_collapse_the_best_is_taken(monkeypatch):
    many = [float(k) for k in range(30)]
    assert choose(monkeypatch, many, set(range(30))) == (0, fit.BINARY_CANDIDATES + fit.PASSED_OVER)


@pytest.mark.parametrize(("depth", "collapses"), [(-0.01, False), (0.01, True), (np.nan, True)])
def test_what_counts_as_a_collapse(monkeypatch, depth, collapses):
    """A point at 0.55 of the volume that lies ``depth`` below the minimum of the card, or has no energy."""
    crystals = load_dataset("acwf-unaries-pbe").crystals_of("W")
    seen: dict[str, Any] = {}

    def curves(tables: Any, references: Any, engine: Any, volumes: Any) -> Any:
        seen.update(volumes)
        energies = np.array([9.0, 5.0, -8.0 - depth, 3.0])
        return {one.name: (volumes[one.name], energies) for one in references}, []

    monkeypatch.setattr(fit, "energy_curves", curves)
    card = SimpleNamespace(crystals=[SimpleNamespace(prototype=one.name, energy=-8.0) for one in crystals])
    context = SimpleNamespace(binary=True, references=crystals)
    candidate = SimpleNamespace(tables=None, card=card)
    assert fit._collapses(context, None, candidate) is collapses
    assert seen["sc"] == pytest.approx(
        next(one.volume for one in crystals if one.name == "sc") * np.array(fit.COMPRESSED)
    )
    assert not fit._collapses(SimpleNamespace(binary=False, references=crystals), None, candidate)
