"""Which offer, and when: a bandit, and what a log of other offers says of it. How offers work is made up."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.estimators import Index
from agents.figures import Bars
from agents.ope import Decisions, Report, report
from recipes.choices import Choices
from recipes.marketing.scanner import ARMS, MARGIN, cost
from recipes.measures import Array, half_width
from recipes.playing import Run

ROUNDS, LATE = 12_000, 100
"""Offers that are sent, and how many before it is known whether one brought a purchase."""

LOGGED, CONTROL = 60_000, 200_000
"""Offers sent by lot for the evaluation, and households on which its truth is simulated."""


@dataclass(frozen=True)
class Offers:
    """Households to whom an offer may go: what is known of each (n, 3), and expected cents by offer (n, arms)."""

    known: Sequence[Mapping[str, float]]
    cents: Array

    def drawn(self, rng: np.random.Generator, n: int) -> Index:
        """Places of n of them, by lot."""
        return rng.integers(0, len(self.known), n)


def send(run: Run, offers: Offers) -> None:
    """What to send, and when: the bandit as it learns, then as it is, by a log and by simulation."""
    rng = np.random.default_rng([run.seed, 1])
    choices = Choices(run.manifest.bandits["offer"], rng.random)
    places, taken = learned(choices, offers, rng)
    cents = offers.cents[places]
    own, fixed = cents[np.arange(ROUNDS), taken], int(cents.mean(axis=0).argmax())
    gain = half_width(own - cents[:, fixed])
    run.figure(
        f"cents an offer earns while it learns, made up (difference ± {gain:.2f})",
        float(own.mean()),
        (f"always {ARMS[fixed]}", float(cents[:, fixed].mean())),
        ("knows how it is made up", float(cents.max(axis=1).mean())),
    )
    shares = [float((taken[-1_000:] == arm).mean()) for arm in range(len(ARMS))]
    run.show(Bars("offers sent, of the last thousand", ARMS, shares, chosen=fixed))
    policy = np.array([distribution(choices, one) for one in offers.known])
    lift(run, offers, policy)


def learned(choices: Choices, offers: Offers, rng: np.random.Generator) -> tuple[Index, Index]:
    """Offers sent one by one; what each brought is known a hundred offers later."""
    places, taken = offers.drawn(rng, ROUNDS), np.zeros(ROUNDS, int)
    late: deque[tuple[str, float]] = deque()
    for turn, place in enumerate(places.tolist()):
        if len(late) >= LATE:
            choices.reward(*late.popleft())
        event, choice = choices.choose(offers.known[place])
        taken[turn] = ARMS.index(choice.arm)
        late.append((event, brought(offers, place, int(taken[turn]), rng)))
    return places, taken


def brought(offers: Offers, place: int, arm: int, rng: np.random.Generator) -> float:
    """Cents that one offer really brings: a bottle or none, less its cost."""
    spent = cost(ARMS[arm])
    chance = (offers.cents[place, arm] + spent) / MARGIN
    return MARGIN * float(rng.random() < chance) - spent


def distribution(choices: Choices, known: Mapping[str, float]) -> list[float]:
    """The probabilities with which the bandit would choose now; nothing is logged or learned."""
    found = choices.learner.bandit.choose(known, lambda _: 0.5).probabilities or {}
    return [found[arm] for arm in ARMS]


def lift(run: Run, offers: Offers, policy: Array) -> None:
    """What the bandit adds to sending nothing: by a log of offers by lot, by simulation, and where no log can say."""
    rng = np.random.default_rng([run.seed, 2])
    nothing = np.zeros_like(policy)
    nothing[:, ARMS.index("nothing")] = 1.0
    everything = logged(offers, rng, np.full(len(ARMS), 1.0 / len(ARMS)))
    gain, said = difference(*everything, policy, nothing)
    places = offers.drawn(rng, CONTROL)
    true = (policy * offers.cents).sum(axis=1)[places] - offers.cents[places, ARMS.index("nothing")]
    low, high = gain
    run.figure(
        f"cents an offer adds to sending nothing, by a log of offers by lot ({low:.2f} to {high:.2f})",
        (low + high) / 2.0,
        None,
        (f"simulated, ± {half_width(true):.2f}", float(true.mean())),
    )
    run.say(f"the log by lot: {said.verdict}; {'; '.join(said.reasons)}")
    mornings = np.array([0.0 if arm.endswith("evening") else 1.0 for arm in ARMS])
    _, refused = difference(*logged(offers, rng, mornings / mornings.sum()), policy, nothing)
    run.figure(
        "share of the bandit's offers that a log of mornings alone never had",
        refused.diagnostics.unsupported,
        ("log by lot", said.diagnostics.unsupported),
    )
    run.say(f"a log of mornings alone: {refused.verdict}; {'; '.join(refused.reasons)}")


def logged(offers: Offers, rng: np.random.Generator, shares: Array) -> tuple[Decisions, Index]:
    """Offers sent by these shares, and to whom."""
    places = offers.drawn(rng, LOGGED)
    arms = rng.choice(len(ARMS), LOGGED, p=shares)
    rewards = np.array([brought(offers, i, arm, rng) for i, arm in zip(places.tolist(), arms.tolist(), strict=True)])
    context = np.array([list(one.values()) for one in offers.known])[places]
    return Decisions(context, arms, shares[arms], rewards, np.tile(shares, (LOGGED, 1))), places


def difference(log: Decisions, places: Index, policy: Array, other: Array) -> tuple[tuple[float, float], Report]:
    """The interval of what a policy earns more than another one, doubly robust, and what is said of the policy."""
    one, two = report(log, policy[places]), report(log, other[places])
    parts = [found.estimates["dr"].influence for found in (one, two)]
    if parts[0] is None or parts[1] is None:
        return (float("nan"), float("nan")), one
    gain = parts[0] - parts[1]
    width = half_width(gain)
    return (float(gain.mean()) - width, float(gain.mean()) + width), one
