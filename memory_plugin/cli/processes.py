"""Processes to read documents in, which end with the command, whatever ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def reading_processes(workers: int) -> Iterator[Executor]:
    """So many processes, started already; an error ends them with the work at hand, and drops what waits."""
    # fresh processes: a copy of this one would have its connections and its locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as executor:
        _start(executor, workers)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _start(executor: Executor, workers: int) -> None:
    """Start all processes while Ctrl-C waits: those that cannot leave it alone yet would complain of it."""
    hold = getattr(signal, "pthread_sigmask", None)  # what is held back here is held back in them; not on Windows
    before = hold(signal.SIG_BLOCK, {signal.SIGINT}) if hold else None
    try:
        for _ in range(workers):
            executor.submit(_nothing)
    finally:
        if hold:
            hold(signal.SIG_SETMASK, before)


def _nothing() -> None:
    """What a process does to be started."""


def _begin() -> None:
    """Ctrl-C ends the command, which ends its processes: they have nothing to say about it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A command that is killed cannot end its processes, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
