"""A bound on what is in flight, and the one way in which futures are collected."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")

_LOOK_AGAIN_S = 1.0
"""Workers join without telling, so the bound is asked again after this time."""


class Completable(Protocol):
    """A future of Dask or of `concurrent.futures`."""

    def add_done_callback(self, function: Callable[[Any], Any], /) -> Any:
        """Call the function with the future once it is done."""


Submitted = TypeVar("Submitted", bound=Completable)


class StoppedError(Exception):
    """Nobody waits for what is in flight any more."""


class InFlight:
    """Futures in flight, at most as many as a function says; shared by threads."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._count = 0
        self._is_draining = False
        self._is_stopped = False
        self._changed = threading.Condition()

    def as_completed(
        self, items: Iterable[Item], submit: Callable[[Item], Submitted]
    ) -> Generator[tuple[Item, Submitted], None, None]:
        """Submit items as there is room, and yield each with its future as it completes.

        Raises:
            StoppedError: `stop` was called.
            Exception: Whatever the function that says how many raises.
        """
        pending = iter(items)
        following = list(_take(pending))
        futures: dict[Submitted, Item] = {}
        completed: deque[Submitted] = deque()

        def done(future: Submitted) -> None:
            with self._changed:
                self._count -= 1
                completed.append(future)
                self._changed.notify_all()

        while futures or (following and not self._is_draining):
            while following and self._has_room():
                try:
                    future = submit(following[0])
                except BaseException:
                    self._give_back()
                    raise
                futures[future] = following[0]
                future.add_done_callback(done)
                following = list(_take(pending))
            with self._changed:
                if not completed and not self._is_stopped:
                    self._changed.wait(timeout=_LOOK_AGAIN_S)
                if self._is_stopped:
                    raise StoppedError
            if not completed:
                # The function may raise, where what is in flight would never complete.
                self._limit()
            while completed:
                future = completed.popleft()
                yield futures.pop(future), future

    def drain(self) -> None:
        """Submit nothing more; loops over `as_completed` end with what is in flight."""
        with self._changed:
            self._is_draining = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End every loop over `as_completed`, whatever is still in flight."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """Take one place where there is one."""
        limit = self._limit()
        with self._changed:
            if self._is_draining or self._is_stopped or self._count >= limit:
                return False
            self._count += 1
            return True

    def _give_back(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()


def _take(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield the next item, if there is one."""
    for item in items:
        yield item
        return
