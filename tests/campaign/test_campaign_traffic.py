"""An evaluation carries a few kilobytes each way: tables and SKF text stay on the workers."""

import socket
import threading
from pathlib import Path

import pytest

from dftbparam.campaign.evaluate import evaluate
from dftbparam.campaign.executor import pool
from dftbparam.campaign.fit import FitRequest, plan_fit

TRIALS = 8

MOST = 4_000
"""Bytes a trial and way, all that passes between driver and scheduler included: Dask's messages, heartbeats. Measured
for silicon: 1300 to the workers and 1200 back."""


class Relay:
    """Passes connections on to an address, and counts bytes to it and from it."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.counts = {"to": 0, "from": 0}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            for source, sink, way in ((near, far, "to"), (far, near, "from")):
                threading.Thread(target=self._pass, args=(source, sink, way), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65536):
                self.counts[way] += len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        self.listener.close()


@pytest.mark.slow
def test_a_few_kilobytes_each_way(tmp_path: Path) -> None:
    plan = plan_fit(FitRequest(symbol="Si", out=tmp_path))
    space = plan.space.space
    start = plan.starts[0].values
    with pool(2) as workers:
        assert workers.workers == 2
        workers.executor().start(evaluate, plan.context)
        host, port = workers.service.address.removeprefix("tcp://").split(":")  # type: ignore[attr-defined]
        relay = Relay((host, int(port)))
        with pool(scheduler=relay.address) as place:
            run = place.executor()
            run.start(evaluate, plan.context)
            before = dict(relay.counts)
            x = space.to_unit(start)
            for index in range(TRIALS):
                run.submit(index, space.from_unit(x * (1.0 - 0.01 * index)))
            ended = {}
            while len(ended) < TRIALS:
                ended |= dict(run.collect(60.0))
            counts = {way: (relay.counts[way] - before[way]) / TRIALS for way in before}
        relay.close()
    assert all(outcome.error is None for outcome in ended.values())
    assert 500 < counts["to"] < MOST, counts
    assert 500 < counts["from"] < MOST, counts
