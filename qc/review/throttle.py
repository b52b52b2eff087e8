"""The delay after wrong tokens: it grows with every one, for one name from one address.

Behind a proxy all reviewers have one address; so wrong tokens for one name keep nobody else out.
"""

import logging
import time
from collections.abc import Callable

from cachetools import TTLCache

FREE_FAILURES = 3
"""Wrong tokens without a delay: people paste wrongly."""
FIRST_DELAY_S = 1.0
"""The delay after the last of them; each further wrong token doubles it."""
LONGEST_DELAY_S = 60.0
FORGET_S = 900.0
"""After this time without a wrong token a name starts again."""
NAMES_AT_MOST = 4096
"""Names and addresses kept in memory; the oldest are forgotten first."""
LOG_INTERVAL_S = 1.0
"""At most one line of log in this time, so that an attack does not fill the disk."""

logger = logging.getLogger(__name__)


class SignInThrottle:
    """Counts wrong tokens, and tells how long a client must wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: TTLCache[tuple[str, str], tuple[int, float]] = TTLCache(
            NAMES_AT_MOST, FORGET_S, timer=clock
        )
        self._logged_at = float("-inf")
        self._unlogged = 0

    def wait_s(self, client: str, name: str) -> float:
        """Return how long a client must wait before it may try a name again; 0 for not at all."""
        _, until = self._failures.get((client, name), (0, 0.0))
        return max(0.0, until - self._clock())

    def fail(self, client: str, name: str) -> None:
        """Count a wrong token, and log it without the name, which may be a token typed there."""
        count = self._failures.get((client, name), (0, 0.0))[0] + 1
        # The exponent is limited: a float ends at 2 to the 1024
        doublings = min(count - FREE_FAILURES, 10)
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**doublings) if doublings >= 0 else 0.0
        self._failures[client, name] = (count, self._clock() + delay_s)
        self._log(client, count, delay_s)

    def succeed(self, client: str, name: str) -> None:
        """Forget the wrong tokens of a name."""
        self._failures.pop((client, name), None)

    def _log(self, client: str, count: int, delay_s: float) -> None:
        if self._clock() - self._logged_at < LOG_INTERVAL_S:
            self._unlogged += 1
            return
        logger.warning(
            "wrong name or token from %s, %d in a row for one name, next try in %.0f s; "
            "%d more since the last line",
            client,
            count,
            delay_s,
            self._unlogged,
        )
        self._logged_at, self._unlogged = self._clock(), 0
