"""Bandit specs: arms, a way of exploring and a regressor, declared in a table and checked before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from river import base, linear_model

from online import durations
from online.components import Component, ComponentError, check_bounded, component
from online.exploration import EpsilonGreedy, ExplorationError, Explorer, InverseGap, LinUCB, Thompson
from online.reading import SpecError

EXPLORERS: Mapping[str, type[Explorer]] = {
    "inverse_gap": InverseGap,
    "epsilon_greedy": EpsilonGreedy,
    "lin_ucb": LinUCB,
    "thompson": Thompson,
}
_REGRESSOR = "linear_model.BayesianLinearRegression"
_ARMS = 1_000


@dataclass(frozen=True, slots=True)
class BanditSpec:
    """A declared bandit.

    ``arms`` are those offered at the beginning; others come and go while it runs; without any it has no choices of its
    own, and its arms are the actions of the points that name it. ``wait`` is how long, in seconds of
    event time, a choice waits for its reward; then it earned ``default``, or nothing is learned where that is ``None``.
    ``source`` is the table itself.
    """

    name: str
    arms: tuple[str, ...]
    explore: Explorer
    model: Component
    wait: float = 86_400.0
    default: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def explore_by(self) -> str:
        """The name of its way of exploring."""
        return next(name for name, kind in EXPLORERS.items() if isinstance(self.explore, kind))


def bandit_spec(name: str, mapping: Mapping[str, Any]) -> BanditSpec:
    """The bandit that a table declares.

    Raises:
        SpecError: Something in it cannot be; the path names where, such as ``bandits.offers.explore.use``.
    """
    path = f"bandits.{name}"
    known = ("arms", "explore", "model", "wait", "default")
    for given in mapping:
        if given not in known:
            raise SpecError(f"{path}.{given}", mapping[given], f"a field of a bandit: {', '.join(known)}")
    explore = _explorer(mapping.get("explore", {"use": "inverse_gap"}), f"{path}.explore")
    try:
        wait = durations.seconds(mapping.get("wait", "1d"))
    except ValueError as error:
        raise SpecError(f"{path}.wait", mapping["wait"], str(error)) from error
    default = mapping.get("default")
    if default is not None and (isinstance(default, bool) or not isinstance(default, int | float)):
        raise SpecError(f"{path}.default", default, "a number, or left out")
    return BanditSpec(
        name=name,
        arms=_arms(mapping["arms"], f"{path}.arms") if "arms" in mapping else (),
        explore=explore,
        model=_model(mapping.get("model", _REGRESSOR), f"{path}.model", explore),
        wait=wait,
        default=None if default is None else float(default),
        source=dict(mapping),
    )


def _arms(given: object, path: str) -> tuple[str, ...]:
    names = given if isinstance(given, list | tuple) else ()
    fit = all(isinstance(arm, str) and 0 < len(arm) <= 200 and "/" not in arm for arm in names)
    if fit and 0 < len(names) <= _ARMS and len(set(names)) == len(names):
        return tuple(names)
    raise SpecError(path, given, f"a list of 1 to {_ARMS} different names, without slashes")


def _explorer(given: object, path: str) -> Explorer:
    table = {"use": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or table.get("use") not in EXPLORERS:
        raise SpecError(path, given, f"one of {', '.join(EXPLORERS)}, such as {{use = 'inverse_gap', scale = 4}}")
    kind = EXPLORERS[table["use"]]
    (setting,) = (item.name for item in fields(kind))
    settings = {name: value for name, value in table.items() if name != "use"}
    for name, value in settings.items():
        if name != setting or isinstance(value, bool) or not isinstance(value, int | float):
            raise SpecError(f"{path}.{name}", value, f"the number {setting}")
    try:
        return kind(**settings)
    except ExplorationError as error:
        raise SpecError(path, dict(table), str(error)) from error


def _model(given: Any, path: str, explore: Explorer) -> Component:
    try:
        found = component(given, path)
        check_bounded(found, allow_unbounded=False)
    except ComponentError as error:
        raise SpecError(error.path, error.given, error.allowed) from error
    kind = linear_model.BayesianLinearRegression if explore.spreads else base.Regressor
    if not issubclass(found.kind, kind):
        said = f"{_REGRESSOR}: {type(explore).__name__} asks for a posterior" if explore.spreads else "a regressor"
        raise SpecError(f"{path}.use", found.use, said)
    return found
