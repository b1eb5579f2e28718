"""What runs inside a Dask worker. Imported by workers, and by `dftbparam.campaign.executor` when it needs Dask."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from dftbparam.campaign.result import Evaluate, Outcome, run_one


class EvaluationPlugin(WorkerPlugin):
    """Carries the evaluation and its context to every worker once, restarted and late ones included.

    Dask's own scattered data would be lost with the last worker that holds it.
    """

    def __init__(self, name: str, evaluate: Evaluate, context: Any) -> None:
        self.name = name
        self.evaluate = evaluate
        self.context = context

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the worker starts or the plugin arrives."""
        # Ctrl-C on a terminal reaches the whole process group. The driver decides what happens; a worker that died
        # of it would only be restarted. Signals can be set from the main thread alone, which Dask may not be in.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_trial(plugin_name: str, parameters: dict[str, Any]) -> Outcome:
    """Evaluate one point with the evaluation that the plugin brought."""
    plugin = get_worker().plugins[plugin_name]
    assert isinstance(plugin, EvaluationPlugin)
    return run_one(plugin.evaluate, parameters, plugin.context)
