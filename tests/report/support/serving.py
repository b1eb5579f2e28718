"""Serving a store for tests: in a thread, without a campaign."""

from __future__ import annotations

import contextlib
import threading

from dftbparam.report.live import RunState, Standing, open_server


def standing_of(store, elements=(), dashboard=""):
    """What the command line tells of a store, without asking a campaign."""

    def standing():
        runs = tuple(
            RunState(
                run_id=one.run_id,
                name=one.run_id.rpartition("/")[2],
                state=one.state or "running",
                message=one.message,
                done=one.finished + one.failed,
                failed=one.failed,
                evaluations=one.evaluations,
                updated=one.updated,
            )
            for one in store.overview("demo/")
        )
        totals = {"elements": {"running": len(runs)}, "done": sum(one.done for one in runs), "failed": 0}
        return Standing(runs, totals, elements, dashboard)

    return standing


@contextlib.contextmanager
def served(source, host="127.0.0.1"):
    with open_server(source, host, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield opened
        finally:
            opened.shutdown()
            thread.join()
