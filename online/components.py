"""River's classes as components of a declared model: named in a table, checked against their own signatures, built.

    {use = "linear_model.LogisticRegression", optimizer = {use = "optim.SGD", lr = 0.005}}

Only public classes of the modules below can be reached; code, callables and files cannot.
"""

import datetime
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from river import api, base, compose

from online import durations

MODULES = frozenset(api.__all__) - {
    "active",
    "base",
    "covariance",
    "datasets",
    "evaluate",
    "sketch",
    "stream",
    "compat",
}

REFUSED = {
    "feature_extraction.RandomTreesEmbedding": "it keys on object ids, so that a replay differs from the first run",
    "compose.FuncTransformer": "it runs code; declare the transformation under features, or use another transformer",
    "compose.Grouper": "it groups by columns of its own; declare a key instead",
    "misc.SDFT": "it is no model",
    "misc.Skyline": "it is no model",
    "bandit.datasets": "it is no model",
    "bandit.envs": "it is no model",
}

HASH_SEEDED = ("cluster.KMeans", "cluster.CluStream", "tree.HoeffdingAdaptiveTreeClassifier")
"""Classes that follow hash order (the tree where labels are texts): they replay only under one fixed PYTHONHASHSEED."""

BOUNDS = {
    "forest.ARFClassifier": ("max_depth", 6),
    "forest.ARFRegressor": ("max_depth", 6),
    "forest.OXTRegressor": ("max_depth", 6),
}
"""Forests that grow without bound unless this argument is given."""

UNBOUNDED = ("forest.AMFClassifier", "forest.AMFRegressor")
"""Forests that nothing bounds."""

SUBSPACES = ("ensemble.SRPClassifier", "ensemble.SRPRegressor")
"""Forests that grow without bound unless their base model does not."""

FUNCTIONS: Mapping[str, Callable[[float], float]] = types.MappingProxyType(
    {name: getattr(math, name) for name in ("exp", "expm1", "log", "log1p", "sqrt")}
)
"""The functions that may stand for a callable argument."""

_TYPES: Mapping[str, type] = {"number": float, "integer": int, "string": str, "boolean": bool}


class ComponentError(ValueError):
    """A component that cannot be built: ``path`` within the declaration, what was given, what is allowed."""

    def __init__(self, path: str, given: object, allowed: str) -> None:
        super().__init__(f"{path}: given {given!r}; allowed is {allowed}")
        self.path = path
        self.given = given
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Component:
    """A River class by its public name, with arguments: scalars, lists, mappings, other components."""

    use: str
    arguments: Mapping[str, Any]
    path: str

    @property
    def kind(self) -> type:
        """The class itself."""
        return resolve(self.use, self.path)

    def walk(self) -> Iterator["Component"]:
        """This component and all within it."""
        yield self
        for value in self.arguments.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                if isinstance(inner, Component):
                    yield from inner.walk()


def resolve(name: object, path: str) -> type:
    """The public River class of this name.

    Raises:
        ComponentError: There is none, or it is refused.

    >>> resolve("optim.SGD", "").__module__
    'river.optim.sgd'
    """
    if not isinstance(name, str):
        raise ComponentError(path, name, 'the name of a River class, such as "linear_model.LogisticRegression"')
    for refused, why in REFUSED.items():
        if name == refused or name.startswith(f"{refused}."):
            raise ComponentError(path, name, f"another class: {why}")
    module, *rest = name.split(".")
    found: Any = getattr(api, module) if module in MODULES else None
    for step in rest:
        public = inspect.ismodule(found) and found.__name__.startswith("river") and not step.startswith("_")
        found = getattr(found, step, None) if public else None
    if not (inspect.isclass(found) and found.__module__.startswith("river.")) or inspect.isabstract(found):
        raise ComponentError(path, name, f"a public class of River: {_nearest(name)}")
    return typing.cast(type, found)


def _nearest(name: str) -> str:
    prefix, *steps = name.split(".")[:-1] or [name]
    if prefix not in MODULES:
        return "<module>.<class>, where the module is one of " + ", ".join(sorted(MODULES))
    module = getattr(api, prefix)
    for step in steps:
        if step not in module.__all__ or not inspect.ismodule(getattr(module, step)):
            break
        prefix, module = f"{prefix}.{step}", getattr(module, step)
    return ", ".join(f"{prefix}.{known}" for known in module.__all__ if inspect.isclass(getattr(module, known, None)))


def component(table: object, path: str, prefix: str = "") -> Component:
    """The component that a table declares, checked against the class's own signature.

    Args:
        table: ``{use = "...", argument = value, ...}``, or the name alone.
        path: Where the table stands, for errors.
        prefix: The module meant where the name has none (``metrics``).

    Raises:
        ComponentError: The class or an argument is not allowed.
    """
    if isinstance(table, str):
        table = {"use": table}
    if not isinstance(table, Mapping) or "use" not in table:
        raise ComponentError(path, table, 'a table {use = "<module>.<class>", ...}')
    name = table["use"]
    if prefix and isinstance(name, str) and "." not in name:
        name = f"{prefix}.{name}"
    kind = resolve(name, f"{path}.use")
    given = {key: value for key, value in table.items() if key != "use"}
    return Component(name, _arguments(kind, given, path), path)


def _arguments(kind: type, given: Mapping[str, Any], path: str) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters
    hints = typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    rest = next((p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
    arguments: dict[str, Any] = {}
    for name, value in given.items():
        parameter = parameters.get(name)
        if (parameter is None or name == rest) and rest is None:
            allowed = ", ".join(parameters) or "no argument at all"
            raise ComponentError(f"{path}.{name}", value, f"an argument of {kind.__name__}: {allowed}")
        hint = Any if parameter is None else hints.get(name, _implied(parameter))
        many = parameter is not None and parameter.kind is parameter.VAR_POSITIONAL
        arguments[name] = _values(value, f"{path}.{name}") if many else _value(value, hint, f"{path}.{name}")
    for name, parameter in parameters.items():
        positional = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if name == "seed" and arguments.get("seed") is None:
            # A fold must be the same in every replay, so chance is never left to the moment.
            arguments["seed"] = 1
        elif positional and parameter.default is parameter.empty and name not in arguments:
            raise ComponentError(f"{path}.{name}", None, f"a value: {kind.__name__} cannot do without {name}")
    return arguments


def _implied(parameter: inspect.Parameter) -> Any:
    """What an argument without annotation takes, judged by its default."""
    default = parameter.default
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return float
    if isinstance(default, str):
        return str | float
    if isinstance(default, tuple):
        return tuple
    return Any


def _values(given: object, path: str) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise ComponentError(path, given, "a list")
    return [_element(value, f"{path}[{index}]") for index, value in enumerate(given)]


def _element(given: object, path: str) -> Any:
    """One of a list's values; a list of components within a list is one pipeline."""
    value = _value(given, Any, path)
    if isinstance(value, list) and value and all(isinstance(step, Component) for step in value):
        return Component("compose.Pipeline", {"steps": value}, path)
    return value


def _value(given: object, hint: Any, path: str) -> Any:
    """One argument's value, where ``hint`` is what the class says it takes."""
    kinds = _flatten(hint)
    if isinstance(given, Mapping) and "use" in given:
        return _nested(component(given, path), kinds, path)
    if isinstance(given, list | tuple):
        return _list(given, kinds, path)
    if isinstance(given, Mapping):
        if not (Any in kinds or dict in kinds):
            raise ComponentError(path, given, _said(kinds))
        return {str(key): _value(value, Any, f"{path}.{key}") for key, value in given.items()}
    return _scalar(given, kinds, path)


def _flatten(hint: Any) -> set[Any]:
    """The classes in a hint; ``Any`` where it says nothing that can be checked."""
    if hint is Any or hint is inspect.Parameter.empty or isinstance(hint, str | typing.TypeVar):
        return {Any}
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_flatten(inner) for inner in typing.get_args(hint)))
    if origin is type:
        return {type}
    return {origin or hint}


def _nested(found: Component, kinds: set[Any], path: str) -> Component:
    classes = {kind for kind in kinds if inspect.isclass(kind)}
    if Any not in kinds and not issubclass(found.kind, tuple(classes | {compose.Pipeline})):
        raise ComponentError(path, found.use, _said(kinds))
    return found


def _list(given: list[Any] | tuple[Any, ...], kinds: set[Any], path: str) -> Any:
    values = _values(given, path)
    if tuple in kinds:
        return tuple(values)
    if set in kinds:
        return set(values)
    if Any in kinds or any(kind is list or _iterable(kind) for kind in kinds):
        return values
    if values and all(isinstance(value, Component) for value in values):
        # A list of components in the place of one estimator is a pipeline.
        return Component("compose.Pipeline", {"steps": values}, path)
    raise ComponentError(path, given, _said(kinds))


def _iterable(kind: Any) -> bool:
    return getattr(kind, "__name__", "") in ("Iterable", "Sequence", "Collection")


def _scalar(given: object, kinds: set[Any], path: str) -> Any:
    if callable(given) or (isinstance(given, float) and not math.isfinite(given)):
        raise ComponentError(path, given, "a finite number, a text, a boolean, a list or a table")
    if any(getattr(kind, "__name__", "") == "Callable" for kind in kinds) and isinstance(given, str):
        if given not in FUNCTIONS:
            raise ComponentError(path, given, f"one of {', '.join(FUNCTIONS)}")
        return FUNCTIONS[given]
    if type in kinds and isinstance(given, str):
        if given not in _TYPES:
            raise ComponentError(path, given, f"one of {', '.join(_TYPES)}")
        return _TYPES[given]
    if datetime.timedelta in kinds:
        return datetime.timedelta(seconds=_seconds(given, path))
    if Any in kinds or _fits(given, kinds):
        return given
    raise ComponentError(path, given, _said(kinds))


def _fits(given: object, kinds: set[Any]) -> bool:
    if isinstance(given, bool):
        return bool in kinds
    if isinstance(given, int):
        return bool({int, float} & kinds) or _hashable(kinds)
    if isinstance(given, float):
        return float in kinds
    if isinstance(given, str):
        return str in kinds or _hashable(kinds)
    return type(None) in kinds


def _hashable(kinds: set[Any]) -> bool:
    return any(getattr(kind, "__name__", "") == "Hashable" for kind in kinds)


def _seconds(given: object, path: str) -> float:
    try:
        return durations.seconds(given)  # type: ignore[arg-type]
    except ValueError as error:
        raise ComponentError(path, given, str(error)) from error


def _said(kinds: set[Any]) -> str:
    plain = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        list: "a list",
        dict: "a table",
    }
    said = [plain[kind] for kind in plain if kind in kinds]
    classes = sorted(
        f"{kind.__name__}" for kind in kinds if inspect.isclass(kind) and kind.__module__.startswith("river")
    )
    said += [f'a table {{use = "..."}} naming a River {name}' for name in classes]
    return " or ".join(said) or "left out"


def construct(found: Component) -> Any:
    """A new object of the component's class.

    Raises:
        ComponentError: The class itself refuses the arguments.
    """
    arguments = {name: _constructed(value) for name, value in found.arguments.items()}
    positional = [p.name for p in inspect.signature(found.kind).parameters.values() if p.kind is p.VAR_POSITIONAL]
    spread = [value for name in positional for value in arguments.pop(name, ())]
    try:
        return found.kind(*spread, **arguments)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ComponentError(found.path, dict(found.arguments), f"what {found.use} accepts: {error}") from error


def _constructed(value: Any) -> Any:
    if isinstance(value, Component):
        return construct(value)
    if isinstance(value, list | tuple | set):
        return type(value)(_constructed(inner) for inner in value)
    return value


def check_bounded(found: Component, *, allow_unbounded: bool) -> None:
    """Refuses a component that grows with every event, naming the line that bounds it.

    Raises:
        ComponentError: It, or one within it, has no bound.
    """
    if allow_unbounded:
        return
    for inner in found.walk():
        _check_bounded(inner)


def _check_bounded(found: Component) -> None:
    escape = "or allow_unbounded = true on the model, which then stops at the ceiling"
    if found.use in BOUNDS:
        name, value = BOUNDS[found.use]
        if found.arguments.get(name) is None:
            raise ComponentError(f"{found.path}.{name}", None, f"{name} = {value}, which bounds the forest, {escape}")
    elif found.use in UNBOUNDED:
        raise ComponentError(f"{found.path}.use", found.use, f"a forest that has a bound, such as ARF, {escape}")
    elif found.use in SUBSPACES and not _bounded_base(found.arguments.get("model")):
        tree = "HoeffdingTreeRegressor" if found.use.endswith("Regressor") else "HoeffdingTreeClassifier"
        line = f'model = {{use = "tree.{tree}", max_depth = 6}}'
        raise ComponentError(f"{found.path}.model", None, f"{line}, which bounds the forest, {escape}")


def _bounded_base(model: object) -> bool:
    if not isinstance(model, Component):
        return False
    return "tree." not in model.use or model.arguments.get("max_depth") is not None


def hash_seeded(found: Component) -> bool:
    """Whether this component replays only under a fixed PYTHONHASHSEED."""
    return any(inner.use in HASH_SEEDED for inner in found.walk())


def is_transformer(kind: type) -> bool:
    """Whether a class may stand before the last step of a pipeline."""
    return issubclass(kind, base.BaseTransformer | base.AnomalyFilter | compose.Pipeline | compose.TransformerUnion)
