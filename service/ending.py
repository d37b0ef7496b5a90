"""How a process of the service ends: in time, and with status 0, since it was asked to."""

import logging
import os
import signal
import sys
from typing import NoReturn

LATEST_S = 8.0
"""Platforms kill what has not ended ten seconds after it was asked to."""

_log = logging.getLogger(__name__)


def leave_soon() -> None:
    """Ends the process a little later, whatever it waits for then; called by a signal's handler, in the main thread.

    A store that does not answer could hold each thread in turn for seconds. Nothing acknowledged waits for them.
    """
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, LATEST_S)


def leave() -> NoReturn:
    """Ends now: the interpreter would take a second to free what River, SciPy and torch have made, for nobody."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _late(*_: object) -> NoReturn:
    _log.warning("ending without a last word from the store; what was acknowledged is kept there")
    leave()
