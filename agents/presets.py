"""Training settings as data: one `Preset` for each world and algorithm, found by measurement on public instances."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

ALGORITHMS = ("ppo", "a2c", "dqn", "maskable-ppo")
# A number that may be as small as one likes, but not 0.
POSITIVE = (sys.float_info.min, sys.float_info.max)
SHARE = (0.0, 1.0)
COUNT = (1, sys.maxsize)
# Least and most of each setting, or of each of its entries.
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **dict.fromkeys(("copies", "rollout", "batch", "epochs", "hidden", "horizon"), COUNT),
        **dict.fromkeys(("buffer", "updates", "warm_rollout", "warm_batch"), COUNT),
        **dict.fromkeys(("learning_rate", "reward_scale", "temperatures", "minutes"), POSITIVE),
        **dict.fromkeys(("discount", "shaped_discount", "gae_lambda"), SHARE),
        **dict.fromkeys(("entropy_until", "scattered", "patience", "epsilon"), SHARE),
        "entropy": (0.0, sys.float_info.max),
        "basis": (0, sys.maxsize),
        "softening": (1.0, sys.float_info.max),
    }
)


def _said(least: float, most: float) -> str:
    """A range in words."""
    if (least, most) == POSITIVE:
        return "a number above 0"
    return f"at least {least:g}" if most >= sys.maxsize else f"{least:g} to {most:g}"


@dataclass(frozen=True)
class Preset:
    """How a policy is trained.

    Args:
        algo: `ppo`, `a2c`, `dqn` or `maskable-ppo`.
        name: what the card calls it.
        copies: copies of the world that step together.
        rollout: steps of each copy between updates.
        batch: decisions in a minibatch.
        epochs: passes over a rollout.
        discount: γ; 1 where an episode ends by itself.
        shaped_discount: γ where rewards are shaped, if another: what is left to be learned of them is small, so that a
            longer view costs no precision and lies nearer to the average reward.
        gae_lambda: λ of generalised advantage estimation (Schulman et al. 2016).
        learning_rate: at the start; falls linearly to 0 over the budget.
        entropy: bonus at the start; falls linearly to 0 at `entropy_until`, a share of the budget.
        hidden: widths of the layers of policy and value network.
        reward_scale: rewards are divided by it.
        horizon: steps after which an unending world is cut (its value is bootstrapped); None where episodes end.
        scattered: share of episodes that start in a state drawn evenly from all states, where they can be listed.
        shaped: whether rewards are shaped by a potential where the world has one (`agents.shaping`).
        basis: smooth functions that span the logits over a ladder of actions; 0 gives each action its own output.
        temperatures: those tried for the softmax as served; the best by value goes on the card.
        patience: share of the budget without a better checkpoint after which training ends.
        minutes: default budget.
        epsilon: exploration of a greedy policy as served (DQN).
        buffer: transitions that DQN remembers.
        updates: gradient steps of DQN after each step of all copies.
        softening: least and most that logits are divided by where training goes on from another policy, which is too
            sure of itself to explore. Between them by its gap in percent: the better a start, the less of it is given
            up; the least where the gap is not known.
        warm_rollout, warm_batch: at most these there: of a start that is nearly right, many small updates soon make
            what a few large ones make of none.

    Raises:
        ValueError: a setting outside its range.
    """

    algo: str
    name: str = "default"
    copies: int = 256
    rollout: int = 32
    batch: int = 2048
    epochs: int = 6
    discount: float = 1.0
    shaped_discount: float | None = None
    gae_lambda: float = 0.98
    learning_rate: float = 1e-3
    entropy: float = 0.01
    entropy_until: float = 0.8
    hidden: tuple[int, ...] = (64, 64)
    reward_scale: float = 1.0
    horizon: int | None = None
    scattered: float = 0.5
    shaped: bool = True
    basis: int = 0
    temperatures: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)
    patience: float = 0.5
    minutes: float = 2.5
    epsilon: float = 0.0
    buffer: int = 300_000
    updates: int = 1
    softening: tuple[float, float] = (3.0, 10.0)
    warm_rollout: int = 8
    warm_batch: int = 512

    def __post_init__(self) -> None:
        if self.algo not in ALGORITHMS:
            raise ValueError(f"algo {self.algo!r}: give one of {', '.join(ALGORITHMS)}")
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            given = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(least <= each <= most for each in given):
                raise ValueError(f"{name} {value}: give {_said(least, most)}")
        if not (self.hidden and self.temperatures):
            raise ValueError(f"hidden {self.hidden}, temperatures {self.temperatures}: give at least one of each")
        if self.softening[0] > self.softening[1]:
            raise ValueError(f"softening {self.softening}: give the least, then the most")

    @property
    def warm(self) -> "Preset":
        """The same for a training that goes on from another policy."""
        rollout, batch = min(self.rollout, self.warm_rollout), min(self.batch, self.warm_batch)
        return replace(self, rollout=rollout, batch=batch)

    def softened_by(self, gap: float | None) -> float:
        """What the logits of a start with this gap in percent (None where it is not known) are divided by.

        >>> [Preset("ppo").softened_by(gap) for gap in (0.2, 5.0, 30.0, None)]
        [3.0, 5.0, 10.0, 3.0]
        """
        least, most = self.softening
        return least if gap is None else min(max(gap, least), most)


DEFAULT = Preset("ppo", discount=0.99, gae_lambda=0.95, entropy=0.005)
PRICING = Preset("ppo", "pricing", reward_scale=5.0, basis=16)
RIVAL = replace(PRICING, name="pricing-rival")
REPLENISHED = Preset(
    "ppo", "pricing-replenished", discount=0.99, gae_lambda=0.95, reward_scale=1.0, horizon=200, basis=16, entropy=0.005
)
# It starts at a rule's prices, which is near the best that is known: small steps, and nearly the arg-max as served.
NETWORK = Preset(
    "ppo",
    "pricing-network",
    reward_scale=1.0,
    learning_rate=3e-4,
    entropy=0.0,
    epochs=4,
    scattered=0.9,
    warm_rollout=32,
    warm_batch=2048,
    temperatures=(1.0, 0.3, 0.1, 0.03, 0.01),
)
REPLACEMENT = Preset("ppo", "replacement", discount=0.98, gae_lambda=0.9, reward_scale=3.0, horizon=200)
MAINTENANCE = Preset(
    "ppo", "maintenance", discount=0.98, shaped_discount=0.99, gae_lambda=0.9, reward_scale=3.0, horizon=200
)
# All states of an inventory hold far more stock than anybody would: starting there teaches little.
INVENTORY = Preset(
    "ppo",
    "inventory",
    discount=0.98,
    gae_lambda=0.95,
    learning_rate=2e-3,
    reward_scale=30.0,
    horizon=200,
    entropy=0.005,
    scattered=0.0,
    basis=8,
)


def _variants(ppo: Preset) -> Mapping[str, Preset]:
    """The presets of the other algorithms that go with one of PPO."""
    a2c = replace(ppo, algo="a2c", copies=64, rollout=8, learning_rate=7e-4)
    dqn = replace(ppo, algo="dqn", copies=64, batch=512, basis=0, temperatures=(1.0,))
    return MappingProxyType({"ppo": ppo, "maskable-ppo": replace(ppo, algo="maskable-ppo"), "a2c": a2c, "dqn": dqn})


# By world id, then by algorithm; "" holds what suits any world.
PRESETS: Mapping[str, Mapping[str, Preset]] = MappingProxyType(
    {
        "": _variants(DEFAULT),
        "pricing": _variants(PRICING),
        "pricing-rival": _variants(RIVAL),
        "pricing-replenished": _variants(REPLENISHED),
        "pricing-network": _variants(NETWORK),
        "replacement": _variants(REPLACEMENT),
        "maintenance": _variants(MAINTENANCE),
        "inventory": _variants(INVENTORY),
    }
)


def preset(world: str, algo: str = "ppo") -> Preset:
    """The preset for a world id (or any environment id) and an algorithm.

    Raises:
        ValueError: an algorithm that has none.
    """
    found = PRESETS.get(world, {}).get(algo) or PRESETS[""].get(algo)
    if found is None:
        raise ValueError(f"no preset for algorithm {algo!r}: give one of {', '.join(sorted(PRESETS['']))}")
    return found
