"""A trial store as a campaign leaves it, for tests of the live view: written by hand, no engine."""

from __future__ import annotations

from typing import Any

from dftbparam.reference import load_dataset
from dftbparam.store import Run, Trial, TrialStore


def begin(store: TrialStore, symbol: str, campaign: str = "demo", evaluations: int = 10) -> str:
    """Begin the run of an element, on its crystals of the default data set; returns its name."""
    run_id = f"{campaign}/{symbol}"
    references = [crystal.model_dump(mode="json") for crystal in load_dataset().crystals_of(symbol)]
    space = {"radius_3s": {"low": 2.0, "high": 10.0, "scale": "log", "unit": "Bohr"}}
    store.create_run(
        Run(
            run_id=run_id,
            settings={
                "evaluation": {"symbol": symbol, "references": references},
                "space": space,
                "campaign": {"n_initial": 2},
            },
            budget={"evaluations": evaluations},
        )
    )
    return run_id


def trial(run_id: str, index: int, objective: float | None, **details: Any) -> Trial:
    """A trial with the same errors for each crystal, or a failed one; ``details`` by crystal changes some."""
    plain = {"dV": objective, "dB": -10.0, "dE": 0.1, "unsound": 0.0}
    crystals = {name: plain | details.get(name, {}) for name in ("sc", "bcc", "fcc", "diamond")}
    return Trial(
        run_id=run_id,
        index=index,
        x=(0.1,),
        parameters={"radius_3s": 4.0 + index},
        status="failed" if objective is None else "finished",
        objective=objective,
        details={} if objective is None else {"crystals": crystals},
        error={"type": "AtomError", "message": "no"} if objective is None else None,
        seconds=1.0,
        started="2026-01-01T00:00:00.000+00:00",
        finished="2026-01-01T00:00:01.000+00:00",
    )
