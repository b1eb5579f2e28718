"""What tests that kill drivers have in common."""

import time

import psutil


def wait_until_gone(processes: list[psutil.Process], seconds: float = 15.0) -> list[psutil.Process]:
    """Processes that are still alive after at most ``seconds``; one that nobody has waited for (zombie) is not."""
    end = time.monotonic() + seconds
    while True:
        alive = []
        for process in processes:
            try:
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
            except psutil.NoSuchProcess:
                pass
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.05)
