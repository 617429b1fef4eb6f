"""Adaptive batching: what waits is answered together, and nothing waits for more to come.

Requests that the event loop has read by the time it comes round are one batch; while a slow model
works in a thread, those that arrive are the next one. The busier the server, the larger a batch,
and the less each row of it costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

MOST_ROWS = 1024

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Batcher(Generic[Ask, Answer]):
    """Gives `answer` what waits, some rows at a time.

    Args:
        answer: the answers to some rows, in their order; where it raises, each of the batch does.
        in_thread: run it in a thread, so that requests are read meanwhile. For models that take
            milliseconds or a GPU; others answer sooner than a thread is woken.
    """

    def __init__(
        self, answer: Callable[[Sequence[Ask]], list[Answer]], *, in_thread: bool = False
    ) -> None:
        self._answer = answer
        self._waiting: list[tuple[Sequence[Ask], asyncio.Future[list[Answer]]]] = []
        self._running = False
        self._thread = ThreadPoolExecutor(1, "predict") if in_thread else None

    async def ask(self, rows: Sequence[Ask]) -> list[Answer]:
        """The answers to the rows of one request."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Future[list[Answer]] = loop.create_future()
        self._waiting.append((rows, answers))
        if not self._running:
            self._running = True
            if self._thread is None:
                loop.call_soon(self._all_that_wait)
            else:
                self._task = loop.create_task(self._in_thread(self._thread))
        return await answers

    def _all_that_wait(self) -> None:
        self._running = False
        while batch := self._next():
            rows = [row for each, _ in batch for row in each]
            try:
                answers = self._answer(rows)
            except Exception as error:
                _fail(batch, error)
            else:
                _hand_out(batch, answers)

    async def _in_thread(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            rows = [row for each, _ in batch for row in each]
            try:
                answers = await loop.run_in_executor(thread, self._answer, rows)
            except Exception as error:
                _fail(batch, error)
            else:
                _hand_out(batch, answers)
        self._running = False

    def _next(self) -> list[tuple[Sequence[Ask], asyncio.Future[list[Answer]]]]:
        """Take whole requests until there are enough rows, at least one."""
        taken, rows = 0, 0
        for each, _ in self._waiting:
            if taken and rows + len(each) > MOST_ROWS:
                break
            taken, rows = taken + 1, rows + len(each)
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch


def _hand_out(
    batch: Sequence[tuple[Sequence[Ask], asyncio.Future[list[Answer]]]], answers: list[Answer]
) -> None:
    at = 0
    for rows, future in batch:
        # A caller who has gone has cancelled the future.
        if not future.done():
            future.set_result(answers[at : at + len(rows)])
        at += len(rows)


def _fail(
    batch: Sequence[tuple[Sequence[Ask], asyncio.Future[list[Answer]]]], error: Exception
) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
