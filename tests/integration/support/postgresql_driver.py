"""A driver: ``python postgresql_driver.py ADDRESS NOTES EVALUATIONS NAME,... [--compete]``.

Runs every named campaign to its end. With ``--compete`` others do the same: a run that somebody holds is left to them
for now.
"""

import os
import sys
import time

from kill_resume_evaluation import evaluate

from dftbparam.campaign.run import run_campaign
from dftbparam.errors import StoreError
from dftbparam.space import Parameter, SearchSpace
from dftbparam.store import TrialStore

SPACE = SearchSpace((Parameter("a", 1.0, 10.0, "log"), Parameter("b", 0.0, 5.0)))


def drive(store: TrialStore, name: str, notes: str, evaluations: int) -> int:
    """Run one campaign; return how many trials this process evaluated."""
    seed = sum(map(ord, name))
    outcome = run_campaign(
        SPACE,
        evaluate,
        notes,
        store=store,
        run_id=name,
        proposer="sobol",
        seed=seed,
        evaluations=evaluations,
        in_flight=2,
        n_initial=4,
        resume=True,
    )
    return outcome.evaluated


def main() -> None:
    address, notes, evaluations, names = sys.argv[1:5]
    compete = "--compete" in sys.argv
    me, done = f"driver {os.getpid()}", []
    waiting = names.split(",")
    with TrialStore.open(address) as store:
        while waiting:
            for name in list(waiting):
                ended = {run.run_id for run in store.overview() if run.finished + run.failed >= int(evaluations)}
                if compete and name in ended:
                    waiting.remove(name)
                    continue
                try:
                    evaluated = drive(store, name, notes, int(evaluations))
                except StoreError as error:
                    if not (compete and error.data.get("held")):
                        raise
                    continue
                waiting.remove(name)
                if evaluated:  # else somebody was quicker
                    store.set_state(name, "finished", driver=me)
                    done.append(name)
            time.sleep(0.02)
    sys.stdout.write(" ".join(done))


if __name__ == "__main__":
    main()
