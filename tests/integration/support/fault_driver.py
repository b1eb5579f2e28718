"""The driver of the fault tests: ``python fault_driver.py OPTIONS-AS-JSON``. Ends with the exit code of its error."""

import json
import logging
import sys
from typing import Any

from fault_evaluation import evaluate

import dftbparam.campaign.dask_pool as dask_pool
from dftbparam.campaign.executor import executor
from dftbparam.campaign.run import run_campaign
from dftbparam.errors import DftbparamError
from dftbparam.space import Parameter, SearchSpace
from dftbparam.store import TrialStore


def run(options: dict[str, Any]) -> None:
    """``options``: store, notes, longest, evaluations; workers or scheduler; reconnect."""
    dask_pool.RECONNECT_SECONDS = options.get("reconnect", dask_pool.RECONNECT_SECONDS)
    space = SearchSpace((Parameter("a", 1.0, 10.0, "log"), Parameter("b", 0.0, 5.0)))
    with TrialStore.open(options["store"]) as store:
        run_campaign(
            space,
            evaluate,
            {"notes": options["notes"], "longest": options["longest"]},
            store=store,
            run_id="faults",
            proposer="skopt",
            seed=7,
            evaluations=options["evaluations"],
            n_initial=6,
            in_flight=4,
            batch=1,
            starting_points=[{"a": 5.0, "b": 1.0}],
            executor=executor(options.get("workers", 2), scheduler=options.get("scheduler")),
            resume=True,
        )


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    try:
        run(json.loads(sys.argv[1]))
    except DftbparamError as error:
        logging.error("%s: %s", type(error).__name__, error)
        sys.exit(error.exit_code)
