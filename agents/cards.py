"""What a card says of a world: its parameters, actions and observation as JSON has them, and the libraries used."""

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.bundle import Actions, BundleError, Card, ObservationField
from agents.ranges import Family
from envs.dynamics import Field, World

LIBRARIES = ("gymnasium", "numpy", "onnx", "onnxruntime", "sb3-contrib", "stable-baselines3", "torch", "trimtab")


def params_of(world: World) -> dict[str, Any]:
    """A world's parameters; `envs.worlds.make` takes them back."""
    values = {field.name: getattr(world.params, field.name) for field in dataclasses.fields(world.params)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value).tolist()


def actions_of(world: World) -> Actions:
    """A world's actions."""
    actions = world.actions
    values = None if actions.values is None else actions.values.tolist()
    listed = None if values is None else tuple(tuple(v) if isinstance(v, list) else v for v in values)
    n = actions.nvec[0] if len(actions.nvec) > 1 else actions.n
    return Actions(actions.name, n, actions.unit, listed, max(1, len(actions.nvec)))


def in_words(actions: Actions) -> str:
    """How many actions there are.

    >>> in_words(Actions("price", 16)), in_words(Actions("prices", 5, factors=3))
    ('16 actions', '3 × 5 actions')
    """
    return f"{actions.factors} × {actions.n} actions" if actions.factors > 1 else f"{actions.n} actions"


def fields_of(family: Family) -> tuple[ObservationField, ...]:
    """The observation's entries: the context, then the parameters that vary."""
    return tuple(_field(entry) for entry in (*family.world.context, *family.fields))


def _field(entry: Field) -> ObservationField:
    low, high = (float(bound) if np.isfinite(bound) else None for bound in (entry.low, entry.high))
    return ObservationField(entry.name, entry.unit, low, high, entry.doc)


def require_fit(card: Card, world: World) -> None:
    """Refuse a card whose actions or whose observation are not those of a world with a list of actions.

    Raises:
        BundleError: what the card says, and what the world needs.
        ParamsError: ranges of what cannot vary there.
    """
    needed, there = actions_of(world), f"{world.id} with these parameters"
    if (card.actions.n, card.actions.factors) != (needed.n, needed.factors):
        raise BundleError(
            f"the bundle has {in_words(card.actions)}, {there} has {in_words(needed)}: give the parameters of its world"
        )
    if card.actions.values is not None and not _alike(card.actions.values, _values(needed)):
        raise BundleError(
            f"the bundle's actions stand for {_listed(card.actions.values)}, those of {there} for "
            f"{_listed(_values(needed))}: give the parameters of its world"
        )
    names, context = [field.name for field in card.observation], [entry.name for entry in world.context]
    columns = sorted(Family(world, card.ranges).columns)
    if names[: len(context)] != context or sorted(names[len(context) :]) != columns:
        raise BundleError(f"the bundle observes {names}, {there} shows {context + columns}, the parameters last")


def _values(actions: Actions) -> Sequence[Any]:
    return range(actions.n) if actions.values is None else actions.values


def _alike(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    return np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, rtol=1e-6)


def _listed(values: Sequence[Any]) -> str:
    """The ends of a list as people read it."""
    return f"{values[0]} to {values[-1]}" if len(values) > 2 else ", ".join(map(str, values))


def in_shares(metrics: Mapping[str, float]) -> dict[str, float]:
    """A card's metrics, whose gaps are percents, with gaps as shares that are named so: one unit in all JSON.

    >>> in_shares({"value": 36.0, "gap": 0.5})
    {'value': 36.0, 'gap_share': 0.005}
    """
    return {
        (f"{name}_share" if name.startswith("gap") else name): value / 100 if name.startswith("gap") else value
        for name, value in metrics.items()
    }


def versions() -> dict[str, str]:
    """Versions of what a bundle is made with, those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
