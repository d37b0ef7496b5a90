"""What can be said of predictions before their labels: which are worth asking for, and how many will be right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from online.active import Buyer, uniforms
from online.events import Observed
from online.foreseen import Estimated, Foreseen
from online.specs import ModelSpec
from online.tasks import Guess
from online.unlabelled import Said


@dataclass(slots=True)
class Outlook:
    """The buyer of a model with a label budget, and the performance foreseen of a binary one; ``None`` for others.

    What is foreseen begins again with each champion.
    """

    buyer: Buyer | None = None
    foreseen: Foreseen | None = None
    champion: str = ""

    @classmethod
    def of(cls, spec: ModelSpec) -> "Outlook":
        """That of a model that has predicted nothing yet."""
        buyer = None if spec.label_budget is None else Buyer(spec.label_budget)
        return cls(buyer, Foreseen() if spec.task == "binary" else None)

    def ask(self, event_id: str, probabilities: Mapping[Any, float] | None) -> bool | None:
        """Whether the label of this prediction is wanted, counted against the budget; ``None`` where nothing asks."""
        if self.buyer is None:
            return None
        chance = uniforms(event_id)
        wanted = self.buyer.wants(probabilities, chance)
        self.buyer.note(probabilities, chance, wanted=wanted)
        return wanted

    def note(self, event: Observed, champion: str, guess: Guess) -> float | None:
        """The champion's prediction, whose label will come later; the probability that it is right, to keep.

        ``None`` where a label, should it come, would be one that was not asked for: who knows why it came.
        """
        asked = self._count(event)
        if self.foreseen is None or not guess.probabilities:
            return None
        if champion != self.champion:
            self.champion, self.foreseen = champion, Foreseen()
        foreseen = self.foreseen.note(guess.probabilities[guess.value])
        return None if asked is False else foreseen

    def _count(self, event: Observed) -> bool | None:
        """Whether the label of this event was asked for, counted against the budget; ``None`` where nothing asks."""
        served = event.served
        if self.buyer is None or served is None or served.label_wanted is None:
            return None
        self.buyer.note(served.probabilities, uniforms(event.id), wanted=served.label_wanted)
        return served.label_wanted

    def settle(self, event_id: str, said: Said, y: Any) -> None:
        """The label of a prediction that `note` saw."""
        guess = said.guess
        if self.foreseen is None or said.foreseen is None or said.champion != self.champion or not guess.probabilities:
            return
        fair = self.buyer is None or self.buyer.is_fair(uniforms(event_id))
        self.foreseen.settle(guess.probabilities[guess.value], said.foreseen, right=guess.value == y, fair=fair)

    def estimated(self) -> Estimated | None:
        """The accuracy of the last predictions as it is foreseen; ``None`` where there are none to foresee."""
        found = None if self.foreseen is None else self.foreseen.estimated()
        return None if found is None or found.accuracy is None else found
