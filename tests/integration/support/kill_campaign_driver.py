"""The campaign driver that is killed: ``python kill_campaign_driver.py STORE FOLDER EVALUATIONS [AT_ONCE]``.

Two elements, the second on the result of the first, or, with ``AT_ONCE``, two more beside them; notes of every
evaluation in ``FOLDER/notes``.
"""

import sys
from pathlib import Path

from fake_jobs import FakeJob

from dftbparam.campaign.driver import drive
from dftbparam.campaign.executor import pool
from dftbparam.store import TrialStore


def main() -> None:
    store_address, folder, evaluations = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    at_once = int(sys.argv[4]) if len(sys.argv) > 4 else None
    context = {"notes": str(folder / "notes"), "longest": 0.12}
    jobs = [
        FakeJob("Mg", folder, evaluations=evaluations, context=context, proposer="skopt"),
        FakeJob("O", folder, evaluations=evaluations, needs=("Mg",), context=context, proposer="skopt"),
    ]
    if at_once is not None:
        jobs += [FakeJob(s, folder, evaluations=evaluations, context=context) for s in ("Si", "Ge")]
    with TrialStore.open(store_address) as store, pool(1 if at_once else 2) as workers:
        result = drive(jobs, store, workers, at_once=at_once)
    sys.exit(0 if all(one.state == "finished" for one in result.elements.values()) else 1)


# Worker processes and those that write results import this module anew.
if __name__ == "__main__":
    main()
