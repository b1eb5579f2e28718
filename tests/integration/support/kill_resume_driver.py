"""The driver that is killed: ``python kill_resume_driver.py STORE NOTES EVALUATIONS``."""

import sys

from kill_resume_evaluation import evaluate

from dftbparam.campaign.executor import executor
from dftbparam.campaign.run import run_campaign
from dftbparam.space import Parameter, SearchSpace
from dftbparam.store import TrialStore


def main() -> None:
    path, notes, evaluations = sys.argv[1:]
    space = SearchSpace((Parameter("a", 1.0, 10.0, "log"), Parameter("b", 0.0, 5.0)))
    with TrialStore.open(path) as store:
        run_campaign(
            space,
            evaluate,
            notes,
            store=store,
            run_id="killed",
            proposer="skopt",
            seed=7,
            evaluations=int(evaluations),
            n_initial=6,
            starting_points=[{"a": 5.0, "b": 1.0}],
            executor=executor(2),
            resume=True,
        )


if __name__ == "__main__":
    main()
