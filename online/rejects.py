"""What a fold sets aside: kept with its reason under an index field, for people to look at, mend and bring back."""

from online.events import Event, EventError, Rejected, Replayed, decode
from online.fold import Place, reject_field, rejection
from online.log import Entry


class Rejects:
    """The index fields of rejected entries that changed."""

    def __init__(self) -> None:
        self._changed: dict[str, bytes | None] = {}

    def add(self, place: Place, entry: Entry, reason: str, field: str | None = None) -> Rejected:
        """Set an entry aside; the report of it."""
        place.rejected += 1
        rejected = rejection(entry, reason, field)
        name, data = reject_field(rejected)
        self._changed[name] = data
        return rejected

    def bring_back(self, event: Replayed) -> Event:
        """The event within a replay; the entry that held it is rejected no more.

        Raises:
            EventError: It cannot be read, or is a replay in turn.
        """
        again = decode(event.event)
        if isinstance(again, Replayed):
            raise EventError("a replay of a replay")
        self._changed[f"reject:{event.entry}"] = None
        return again

    def changes(self) -> dict[str, bytes | None]:
        """The fields that changed since this was asked last; ``None`` for one that is gone."""
        changed, self._changed = self._changed, {}
        return changed
