"""Gathering: the decisions that are asked for while others are being appended are made together and appended together.

One evaluation of the network, one handful of array operations and one call of the log serve them all. Nobody waits for
company: where the log is idle, a turn of the event loop ends as soon as the requests that have arrived are read.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from online.events import Decided, digest, draft_id, encode
from online.log import Draft, Partition
from service.deciding.decide import Ask, ServedPoint, decide_all
from service.deciding.points import partition_of
from service.http.problems import failure
from service.http.writer import Outcome, Writer

_log = logging.getLogger(__name__)


class Made(NamedTuple):
    """A decision as it was made here, and what the log says, and where: appended, known already, or a conflict."""

    decided: Decided
    outcome: Outcome
    partition: Partition


class _Waiting(NamedTuple):
    served: ServedPoint
    ask: Ask
    answer: "asyncio.Future[Made]"


class Gathering:
    """Makes the decisions of one event loop, many at once.

    Args:
        secret: Key of the draws.
    """

    def __init__(self, writer: Writer, secret: bytes) -> None:
        self._writer = writer
        self._secret = secret
        self._waiting: list[_Waiting] = []
        self._appending = 0

    def decide(self, served: ServedPoint, ask: Ask) -> "asyncio.Future[Made]":
        """What is decided, once it is in the log.

        Raises:
            ProblemError: As `decide` and `Writer.append`.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Made] = loop.create_future()
        self._waiting.append(_Waiting(served, ask, answer))
        # What would only queue behind an append under way may as well be decided with what comes meanwhile.
        if len(self._waiting) == 1 and not self._appending:
            loop.call_soon(self._decide)
        return answer

    def _decide(self) -> None:
        waiting, self._waiting = self._waiting, []
        # What is served is swapped as a whole: requests of one turn may have seen two versions of a point.
        groups: dict[tuple[int, Partition], list[_Waiting]] = {}
        for one in waiting:
            partition = partition_of(one.served.point.name, one.ask.key)
            groups.setdefault((id(one.served), partition), []).append(one)
        for (_, partition), group in groups.items():
            try:
                self._append(partition, group)
            except Exception:  # noqa: BLE001 - whoever waits must hear of it, and the other groups go on
                _log.exception("%d decisions could not be made", len(group))
                for one in group:
                    _tell(one, failure())

    def _append(self, partition: Partition, group: list[_Waiting]) -> None:
        answers = decide_all(group[0].served, [one.ask for one in group], self._secret)
        made: list[tuple[_Waiting, Decided]] = []
        for one, answer in zip(group, answers, strict=True):
            if isinstance(answer, Decided):
                made.append((one, answer))
            else:
                _tell(one, answer)
        drafts = [Draft(draft_id(decided), digest(one.ask.request), encode(decided)) for one, decided in made]

        def deliver(outcomes: Sequence[Outcome] | Exception) -> None:
            self._appending -= 1
            # First of all, so that the log has work while the answers are written.
            if self._waiting and not self._appending:
                self._decide()
            for i, (one, decided) in enumerate(made):
                _tell(one, outcomes if isinstance(outcomes, Exception) else Made(decided, outcomes[i], partition))

        if not drafts:
            return
        self._appending += 1
        try:
            self._writer.submit(partition, drafts, deliver)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            deliver(error)


def _tell(one: _Waiting, made: Made | Exception) -> None:
    if one.answer.done():
        return
    if isinstance(made, Exception):
        one.answer.set_exception(made)
    else:
        one.answer.set_result(made)
