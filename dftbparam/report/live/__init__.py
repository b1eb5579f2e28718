"""The live view: the page of `dftbparam.report.html`, served while a campaign runs, fed from its trial store.

===============  =====================================================================================
``provisional``  what a run's trials say before it has a report card
``source``       reads the store, now and then, and keeps what has not changed
``server``       HTTP: three kinds of addresses, GET and HEAD, nothing that a visitor can change
===============  =====================================================================================

How runs stand is told by whoever knows campaigns (`Standing`); this package reads trials.
"""

from dftbparam.report.live.server import LiveServer, is_loopback, open_server
from dftbparam.report.live.source import LiveSource, RunState, Standing

__all__ = ["LiveServer", "LiveSource", "RunState", "Standing", "is_loopback", "open_server"]
