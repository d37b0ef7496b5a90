"""When to try again: the rule, without the clock."""

import random
from dataclasses import dataclass

from trimtab_client.errors import UnreachableError


def worth_repeating(status: int) -> bool:
    """Whether the same request may be answered later: the service is busy, away or broken, rather than unwilling."""
    return status in (408, 429) or status >= 500


@dataclass(frozen=True)
class Retry:
    """How patient a client is.

    Attributes:
        patience: Seconds after the first try from which on nothing is tried again.
        first: The first pause, in seconds; each further one is twice as long.
        longest: The longest pause, in seconds.
    """

    patience: float = 30.0
    first: float = 0.1
    longest: float = 5.0

    def pause(self, attempt: int, elapsed: float, asked: float, reason: str) -> float:
        """Seconds to wait before the next try.

        Args:
            attempt: How many tries have failed, from 1.
            elapsed: Seconds since the first.
            asked: Seconds that the service asked for (`Retry-After`), or 0.
            reason: Why the last one failed.

        Raises:
            UnreachableError: The patience is over.
        """
        # Jitter keeps clients that were refused together from coming back together.
        wait = max(asked, min(self.first * 2.0 ** (attempt - 1), self.longest) * random.uniform(0.5, 1.0))
        if elapsed + wait > self.patience:
            raise UnreachableError(f"no answer for {elapsed:.1f} s and {attempt} tries; the last: {reason}")
        return wait
