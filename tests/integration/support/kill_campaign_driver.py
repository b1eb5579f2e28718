"""The campaign driver that is killed: ``python kill_campaign_driver.py STORE FOLDER EVALUATIONS``.

Two elements, the second on the result of the first; notes of every evaluation in ``FOLDER/notes``.
"""

import sys
from pathlib import Path

from fake_jobs import FakeJob

from dftbparam.campaign.driver import drive
from dftbparam.campaign.executor import pool
from dftbparam.store import TrialStore


def main() -> None:
    path, folder, evaluations = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    context = {"notes": str(folder / "notes"), "longest": 0.12}
    jobs = [
        FakeJob("Mg", folder, evaluations=evaluations, context=context, proposer="skopt"),
        FakeJob("O", folder, evaluations=evaluations, needs=("Mg",), context=context, proposer="skopt"),
    ]
    with TrialStore.open(path) as store, pool(2) as workers:
        result = drive(jobs, store, workers)
    sys.exit(0 if all(one.state == "finished" for one in result.elements.values()) else 1)


# Worker processes and those that write results import this module anew.
if __name__ == "__main__":
    main()
