"""The clock is set back: what waits for a time of day is woken, for real streams of Dask."""

import asyncio
import time

import pytest
from tornado.ioloop import PeriodicCallback

import dftbparam.campaign.clock_watch as module
from dftbparam.campaign.clock_watch import ClockWatch


def test_streams_and_callbacks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    import distributed.batched
    from distributed.batched import BatchedSend

    real = time.time
    shift = [0.0]

    def now() -> float:
        return real() + shift[0]

    class Comm:
        """Notes what is written."""

        def __init__(self) -> None:
            self.written: list[object] = []

        def closed(self) -> bool:
            return False

        async def close(self) -> None:
            pass

        async def write(self, payload: object, **_: object) -> int:
            self.written.append(payload)
            return 1

    async def check() -> None:
        monkeypatch.setattr(time, "time", now)
        monkeypatch.setattr(distributed.batched, "time", now)
        comm, calls = Comm(), []
        stream = BatchedSend(interval="20ms")
        stream.start(comm)
        often = PeriodicCallback(lambda: calls.append(1), 20)
        often.start()
        watch = ClockWatch(lambda: [None, stream], lambda: [often, None])
        watch.start()
        stream.send("first")
        while not comm.written:
            await asyncio.sleep(0.001)
        # The stream now keeps what comes until 20 ms have passed.
        stream.send("second")
        shift[0] = -3600.0
        await asyncio.sleep(0.2)
        assert len(comm.written) == 1, "Dask has learnt to live with clocks that are set back: the watch can go"
        before = len(calls)
        watch._check()
        await asyncio.sleep(0.2)
        assert comm.written[1:] == [["second"]]
        assert len(calls) > before
        watch.stop()
        often.stop()
        await stream.close()

    monkeypatch.setattr(module, "CHECK_SECONDS", 3600.0)
    asyncio.run(check())


def test_nothing_is_woken_while_the_clock_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []

    async def check() -> None:
        watch = ClockWatch(lambda: woken.append(1) or [], lambda: [])  # type: ignore[func-returns-value]
        watch.start()
        await asyncio.sleep(0.2)
        watch.stop()

    monkeypatch.setattr(module, "CHECK_SECONDS", 0.02)
    asyncio.run(check())
    assert woken == []
