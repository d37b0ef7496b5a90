"""Tickets that are made up, because no set of real ones comes with a package: what each is about is known.

A ticket is a few phrases, each drawn by itself given topic and urgency, so that the probability of both given the
phrases follows from Bayes' rule: nobody can tell a ticket's topic better than by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DAY = 86_400.0
START = 1_767_225_600.0
"""Midnight of 1 January 2026 (UTC)."""

PHRASES = {
    "billing": (
        "I was charged twice", "the invoice is wrong", "please send a refund", "my card was declined",
        "there is a fee I do not know", "the amount on the invoice is too high", "the payment failed",
        "where is my receipt",
    ),
    "delivery": (
        "my parcel has not arrived", "the tracking number does not work", "the driver left it at the wrong door",
        "the delivery is late", "can I change the address", "the box was damaged", "part of the order is missing",
        "the carrier says it was returned",
    ),
    "returns": (
        "I want to return this", "how do I send it back", "the size does not fit", "can I exchange it",
        "the return label is missing", "when do I get my money back", "I changed my mind",
        "the colour is not as shown",
    ),
    "login": (
        "I cannot log in", "the password reset mail never comes", "my account is locked", "the code is not accepted",
        "I lost my phone", "somebody else used my account", "my email address has changed",
        "the page says unknown user",
    ),
    "technical": (
        "the app crashes", "the screen stays blank", "it does not connect to the network", "the update failed",
        "there is an error message", "it is very slow today", "the button does nothing", "nothing is saved",
    ),
    "plans": (
        "I want to upgrade my plan", "what does the yearly plan cost", "please cancel my subscription",
        "is there a discount for students", "can I pause my plan", "how many users are included",
        "what is in the larger plan", "when does the contract end",
    ),
    "recall": (
        "the charger gets very hot", "I read about a recall", "is the battery safe to use",
        "there was smoke from the charger", "my serial number is on the list", "do I get another charger",
        "the plug has melted", "should I stop using it",
    ),
}  # fmt: skip
TOPICS = tuple(PHRASES)
NEW = TOPICS[-1]
"""The topic that nobody has written about before the change."""

EVERYDAY = (
    "hello", "good morning", "thanks in advance", "I have a question", "please help me",
    "I have been a customer for years", "this is my second message", "kind regards",
)  # fmt: skip
PRESSING = ("this is urgent", "I need it today", "this is dangerous", "please call me at once", "I am losing money")
CALM = ("no hurry", "whenever you have time", "just a short question", "it is not important", "take your time")

SHARES = np.array([0.22, 0.24, 0.16, 0.14, 0.14, 0.10])
"""Of the old topics among the tickets."""

URGENT = np.array([0.08, 0.15, 0.05, 0.25, 0.25, 0.03, 0.50])
"""The share of urgent tickets of each topic."""

OWN, SHARED, OTHER = 0.50, 0.16, 0.12
"""Chances that a phrase is of the ticket's own topic, an everyday one, one of any topic; the rest shows the tone."""

TELLING = 0.85
"""Chance that the tone of an urgent ticket is pressing, and that of another one calm."""

NEWCOMER = 0.15
"""The share of the new topic among the tickets once it is there."""


@dataclass(frozen=True)
class Plan:
    """How many days there are, with how many tickets each, and from which day on there is a new topic."""

    days: int = 80
    per_day: int = 80
    change: int = 40


def made(plan: Plan, seed: int) -> Iterator[dict[str, object]]:
    """Tickets in the order of their time; `posterior` is the chance of each topic, calm and urgent."""
    rng = np.random.default_rng(seed)
    phrases, table = _table()
    for day in range(plan.days):
        prior = _prior(has_new=day >= plan.change)
        for at in np.sort(rng.random(plan.per_day)) * DAY:
            topic, urgent = divmod(int(rng.choice(prior.size, p=prior.ravel())), 2)
            said = rng.choice(len(phrases), 2 + rng.poisson(1.2), p=table[topic, urgent])
            odds = prior * table[:, :, said].prod(axis=2)
            yield {
                "at": START + day * DAY + float(at),
                "text": ", ".join(phrases[i] for i in said),
                "topic": TOPICS[topic],
                "urgent": bool(urgent),
                "posterior": odds / odds.sum(),
            }


def _prior(*, has_new: bool) -> Array:
    """The chance of each topic, calm and urgent."""
    newcomer = NEWCOMER if has_new else 0.0
    shares = np.append(SHARES * (1.0 - newcomer), newcomer)
    return np.stack([shares * (1.0 - URGENT), shares * URGENT], axis=1)


def _table() -> tuple[tuple[str, ...], Array]:
    """All phrases, and the chance of each for a topic, calm and urgent."""
    own = [phrase for topic in TOPICS for phrase in PHRASES[topic]]
    phrases = (*own, *EVERYDAY, *PRESSING, *CALM)
    old = len(own) - len(PHRASES[NEW])
    table = np.zeros((len(TOPICS), 2, len(phrases)))
    tones = slice(len(own) + len(EVERYDAY), len(phrases))
    table[:, :, :old] += OTHER / old
    table[:, :, len(own) : tones.start] += SHARED / len(EVERYDAY)
    for urgent, pressing in enumerate((1.0 - TELLING, TELLING)):
        tone = np.repeat([pressing / len(PRESSING), (1.0 - pressing) / len(CALM)], [len(PRESSING), len(CALM)])
        table[:, urgent, tones] += (1.0 - OWN - SHARED - OTHER) * tone
    for topic in range(len(TOPICS)):
        first = sum(len(PHRASES[known]) for known in TOPICS[:topic])
        table[topic, :, first : first + len(PHRASES[TOPICS[topic]])] += OWN / len(PHRASES[TOPICS[topic]])
    return phrases, table
