"""Something done again and again beside a block of code."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(action: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call a function every so many seconds in a thread, until the block ends.

    Args:
        action: Called in a copy of this thread's context, where Prefect finds its server and run.
        every_s: Seconds from the end of one call to the next.
        name: Of the thread.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every_s):
            action()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(repeat,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
