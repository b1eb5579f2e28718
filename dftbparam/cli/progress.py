"""Progress of a fit: a bar on a terminal, plain lines otherwise. Both go to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dftbparam.cli.output import err, note

if TYPE_CHECKING:
    from dftbparam.campaign.run import Progress as CampaignProgress


def clock(seconds: float | None) -> str:
    """Write a duration as m:ss or h:mm:ss; a question mark where it is not known."""
    if seconds is None:
        return "?"
    whole = round(max(seconds, 0.0))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def line(progress: CampaignProgress, *, elapsed: bool = True) -> str:
    """Describe where a campaign stands, without the count of trials and, if asked, without the time it took."""
    parts = []
    if progress.best is not None:
        parts.append(f"best {progress.best.objective:.5g} (trial {progress.best.index})")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if elapsed:
        parts.append(f"{clock(progress.elapsed)} elapsed")
    if progress.proposal_seconds is not None:
        parts.append(f"{progress.proposal_seconds:.2g} s a proposal")
    if progress.done < progress.total:
        parts.append(f"{clock(progress.remaining)} left")
    return ", ".join(parts)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show work of ``total`` steps; yields a function to call with the name of each step that is done."""
    console = err()
    done = 0
    if not console.is_terminal:

        def tell(name: str) -> None:
            nonlocal done
            done += 1
            note(f"{what}: {done}/{total} {name}")

        yield tell
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task(what, total=total)

        def advance(name: str) -> None:
            bar.update(task, advance=1, description=f"{what} {name}")

        yield advance


@contextmanager
def stages() -> Iterator[Callable[[str, str, int, int], None]]:
    """Show work in stages of known length; yields ``tell(stage, name, done, total)``."""
    console = err()
    if not console.is_terminal:

        def tell(stage: str, name: str, done: int, total: int) -> None:
            # Thousands of steps are not thousands of lines.
            if done == total or done % max(total // 100, 1) == 0:
                note(f"{stage}: {done}/{total} {name}")

        yield tell
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, name: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, description=f"{stage} {name}")

        yield advance


class Reporter:
    """Shows `dftbparam.campaign.run.Progress` events; use it as a context manager and call it with each event."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.console = err()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self.done = 0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=None, state="starting")
        else:
            note(f"{self.what}: starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: CampaignProgress) -> None:
        """Show one event."""
        self.done = progress.done
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=progress.done, total=progress.total, state=line(progress, elapsed=False)
            )
            return
        latest = progress.latest
        if latest is None:
            if progress.done:
                note(f"{self.what}: {progress.done} of {progress.total} trials are in the store, {line(progress)}")
            return
        outcome = f"{latest.objective:.5g}" if latest.objective is not None else "failed"
        note(f"{self.what}: {progress.done}/{progress.total} trial {latest.index} {outcome}; {line(progress)}")
