"""Progress of a campaign: a bar an element on a terminal, plain lines otherwise. Both go to standard error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from dftbparam.cli.output import err, note
from dftbparam.cli.progress import line

if TYPE_CHECKING:
    from dftbparam.campaign.driver import Event

PLAIN_SECONDS: Final = 5.0
"""Least time between two plain lines on one element, unless it found a better trial or came to its end."""


class CampaignReporter:
    """Shows `dftbparam.campaign.driver.Event`; use it as a context manager and call it with each event."""

    def __init__(self, what: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self.what = what
        self.budgets = {symbol: int(own["evaluations"]) for symbol, own in settings.items()}
        self.console = err()
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<3}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                console=self.console,
            )
            self._bar.start()
        else:
            note(f"{self.what}: starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        symbol = event.result.symbol
        if self._bar is not None:
            self._show(self._bar, symbol, event)
        elif event.progress is None:
            one = event.result
            where = " by another driver" if one.elsewhere and one.state != "waiting" else ""
            note(f"{symbol}: {one.state}{where}" + (f", {one.message}" if one.message else ""))
        else:
            self._line(symbol, event)

    def _show(self, bar: Progress, symbol: str, event: Event) -> None:
        if symbol not in self._tasks:
            self._tasks[symbol] = bar.add_task(symbol, total=self.budgets.get(symbol), state="")
        if event.progress is None:
            one = event.result
            bar.update(self._tasks[symbol], state=f"{one.state}{', ' if one.message else ''}{one.message}")
        else:
            bar.update(
                self._tasks[symbol],
                completed=event.progress.done,
                total=event.progress.total,
                state=line(event.progress, elapsed=False),
            )

    def _line(self, symbol: str, event: Event) -> None:
        progress = event.progress
        assert progress is not None
        latest = progress.latest
        if latest is None:
            if progress.done:
                note(f"{symbol}: {progress.done} of {progress.total} trials are in the store, {line(progress)}")
            return
        now = time.monotonic()
        better = progress.best is latest
        if not better and progress.done < progress.total and now < self._said.get(symbol, 0.0) + PLAIN_SECONDS:
            return
        self._said[symbol] = now
        outcome = f"{latest.objective:.5g}" if latest.objective is not None else "failed"
        note(f"{symbol}: {progress.done}/{progress.total} trial {latest.index} {outcome}; {line(progress)}")
