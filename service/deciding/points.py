"""Decision points at run time: a declared point with its world, its actions, its baseline and its typed request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from agents import baselines
from agents.baselines import RulePolicy
from agents.bundle import BundleError, Card
from agents.policy import FixedAction, Policy
from envs import worlds
from envs.conditioning import columns_of, nominal
from envs.dynamics import Field, World
from online.events import Decided, Scalar
from online.log import Partition
from service.deciding.point_bandits import is_bandit
from service.http.decoding import Decoder
from service.http.problems import NOTHING, invalid
from service.manifest import PointSpec

Action: TypeAlias = float | list[int | float]
Index: TypeAlias = int | list[int]
Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]

WHOLE_VECTOR = 64
"""With more actions than this an answer carries the propensity alone, unless the caller asks for the whole vector."""

Identifier = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$")]
"""An id or a key made by a caller. No control characters: one of them separates key and id in the log. No slash: one
separates a decision from its outcome there, and the names of a path."""

EventTime = Annotated[float, Meta(ge=0, le=1e11)]


@dataclass(frozen=True)
class Point:
    """What a decision point is, ready to serve.

    Attributes:
        context: The entries of the context, in the order of the observation.
        actions: What an answer's `action` can be, by index: a physical value, the numbers of the components that are
            acted on, or the index itself where the set has no values. Where an action is a product, what each of its
            factors can be.
        baseline: The rule that serves where no bundle does, unless a bandit is declared to.
        decoder: Decodes a request's body, whose `context` has one typed field for each entry.
        outcomes: The fields from which an outcome's reward is computed.
    """

    spec: PointSpec
    world: World
    context: tuple[Field, ...]
    actions: tuple[Action, ...]
    baseline: Policy
    baseline_name: str
    decoder: Decoder[Any]
    outcomes: tuple[Field, ...]

    @classmethod
    def of(cls, spec: PointSpec) -> "Point":
        """The point that `spec` declares; the spec was validated when it was parsed."""
        world = worlds.make(spec.world, spec.params, spec.ranges)
        # Candidates are held against a rule, in simulations, also where a bandit serves: it would be untaught there.
        declared = baselines.BASELINES[spec.world][0] if is_bandit(spec.baseline) else spec.baseline
        rule = baseline_of(declared, world)
        name = declared if isinstance(declared, str) else f"fixed:{declared:g}"
        context = tuple(world.context)
        decoder = Decoder(request_struct(spec, context), allowed_words(spec, context))
        return cls(
            spec=spec,
            world=world,
            context=context,
            actions=actions_of(world),
            baseline=rule,
            baseline_name=name,
            decoder=decoder,
            outcomes=tuple(world.outcomes),
        )

    @property
    def name(self) -> str:
        """The point's name."""
        return self.spec.name

    def names(self, context: msgspec.Struct, entry: str) -> bool:
        """Whether a caller gave this entry of the context."""
        return getattr(context, self._place_of(entry)) is not msgspec.UNSET

    def filled(self, context: msgspec.Struct, values: Mapping[str, float]) -> msgspec.Struct:
        """A context with the entries that the caller left out."""
        known = {self._place_of(name): value for name, value in values.items()}
        return msgspec.structs.replace(context, **known) if known else context

    def _place_of(self, entry: str) -> str:
        return f"entry_{[one.name for one in self.context].index(entry)}"

    def rows(self, contexts: Sequence[msgspec.Struct]) -> Rows:
        """The contexts as observations (n, k), less the parameters."""
        return np.array([msgspec.structs.astuple(context) for context in contexts], np.float32)

    @property
    def models(self) -> tuple[str, ...]:
        """The prediction models whose drift concerns the point: those declared to, and those that foretell for it."""
        return tuple(dict.fromkeys((*self.spec.adapt.models, *(one.model for one in self.spec.forecasts.values()))))

    @property
    def factors(self) -> int:
        """How many choices make one action: 1, or more for a product (a price for each product)."""
        return len(self.world.actions.nvec)

    def action(self, index: Index) -> Action:
        """The action of an index; the list of them for a product."""
        if isinstance(index, list):
            return [cast(float, self.actions[one]) for one in index]
        return self.actions[index]

    def lists(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Masks or probabilities (n, factors · a) with the list of each factor apart: (n · factors, a)."""
        return rows.reshape(len(rows) * self.factors, -1)

    def narrowed(self, mask: Mask, allowed: Sequence[Action] | None) -> Mask:
        """Which actions may be taken (factors · a,): those that the world allows, by `mask`, and the caller too.

        Args:
            allowed: Actions; for a product, what each factor may be. `None`: the caller does not mind.

        Raises:
            ProblemError: No action is left, or one does not exist.
        """
        if allowed is None:
            left = [*self.lists(mask[None])]
        elif self.factors == 1:
            left = [self._narrowed(mask, allowed, "allowed")]
        else:
            lists = self._each(allowed, "allowed", "with the values that it may have")
            masks = self.lists(mask[None])
            left = [self._narrowed(masks[j], one, f"allowed[{j}]") for j, one in enumerate(lists)]
        if not all(one.any() for one in left):
            possible = [self.actions[i] for i in np.flatnonzero(self.lists(mask[None]).any(axis=0))]
            raise invalid("allowed", f"at least one of {_listed(possible)}, which this context allows", allowed)
        return np.concatenate(left)

    def _narrowed(self, mask: Mask, allowed: Sequence[Any], path: str) -> Mask:
        chosen = np.zeros(len(self.actions), bool)
        chosen[[self._place(action, f"{path}[{i}]") for i, action in enumerate(allowed)]] = True
        return mask & chosen

    def index(self, action: Action, path: str) -> Index:
        """The index of an action given by its value; for a product, the indices of its factors.

        Raises:
            ProblemError: There is no such action; the answer lists those that there are.
        """
        if self.factors == 1:
            return self._place(action, path)
        each = self._each(action, path, "with its value")
        return [self._place(one, f"{path}[{j}]") for j, one in enumerate(each)]

    def _each(self, given: Any, path: str, what: str) -> list[Any]:
        """Something for each factor."""
        if not isinstance(given, list) or len(given) != self.factors:
            named = self.world.actions.name
            raise invalid(path, f"a list of {self.factors}, one for each of the {named}, {what}", given)
        return given

    def _place(self, action: Any, path: str) -> int:
        try:
            if isinstance(action, list) and not all(isinstance(one, int) for one in action):
                raise ValueError("components are named by whole numbers")
            return self.world.actions.index_of(action)
        except ValueError:
            raise invalid(path, f"one of the actions {_listed(self.actions)}", action) from None

    @property
    def outcome_fields(self) -> tuple[str, ...]:
        """The names of the fields from which an outcome's reward is computed."""
        return tuple(entry.name for entry in self.outcomes)

    def check_outcome(self, fields: Mapping[str, float]) -> None:
        """Refuses outcome fields that the point's world cannot give.

        Raises:
            ProblemError: A field is unknown, missing, outside its bounds, or no whole number where one is meant.
        """
        known = self.outcome_fields
        for name in fields:
            if name not in known:
                raise invalid(f"fields.{name}", f"one of: {', '.join(known)}", name, known=known)
        for entry in self.outcomes:
            if entry.name not in fields:
                raise invalid(f"fields.{entry.name}", "a number", NOTHING, known=known)
            value = fields[entry.name]
            if not entry.low <= value <= entry.high or (entry.whole and value != int(value)):
                raise invalid(f"fields.{entry.name}", in_words(entry), value)

    def reward_of(self, decided: Decided, fields: Mapping[str, Any]) -> float:
        """The reward of one outcome of a decision, from its fields.

        Raises:
            ValueError: A field is missing, or no number.
        """
        if missing := [name for name in self.outcome_fields if name not in fields]:
            raise ValueError(f"fields.{missing[0]} is missing; needed are {', '.join(self.outcome_fields)}")
        row = np.array([[decided.context[entry.name] for entry in self.context]], np.float32)
        given = {name: np.array([float(fields[name])]) for name in self.outcome_fields}
        return float(self.world.reward_of(row, np.array([decided.index]), given)[0])

    def check(self, card: Card) -> None:
        """Refuses a bundle that was not made for this point.

        Raises:
            BundleError: World, actions or observation differ; the message says how.
        """
        if card.kind != "foreign" and card.world != self.spec.world:
            raise BundleError(
                f"the bundle is for the world {card.world!r}, the point {self.name!r} for {self.spec.world!r}"
            )
        self._check_actions(card)
        names = [entry.name for entry in self.context]
        given = [entry.name for entry in card.observation]
        if given[: len(names)] != names:
            raise BundleError(f"the bundle observes {given}, the context of {self.name!r} is {names}: they must agree")
        for entry, theirs in zip(self.context, card.observation, strict=False):
            if theirs.unit != entry.unit:
                raise BundleError(
                    f"{entry.name} is in {theirs.unit!r} in the bundle and in {entry.unit!r} in the point"
                )
        parameters = {parameter.name for parameter in worlds.WORLDS[self.spec.world].parameters}
        known = parameters.union(*(columns_of(self.world, name) for name in self.world.tunable))
        if strangers := [name for name in given[len(names) :] if name not in known]:
            raise BundleError(f"the bundle also observes {strangers}, which are no parameters of {self.spec.world!r}")

    def example(self) -> dict[str, Any]:
        """A request as a caller would send it."""
        state = self.world.initial(1, np.random.default_rng(0))
        numbers = self.world.observe(state)[0].astype(float).tolist()
        context = {entry.name: number for entry, number in zip(self.context, numbers, strict=True)}
        return {"id": "order-1", "context": context} | ({"key": "a-17"} if self.spec.key is not None else {})

    def estimates_for(self, card: Card) -> dict[str, float] | None:
        """The parameters that a policy observes after the context, at their nominal values; `None` for none.

        Raises:
            BundleError: The point's world has no such single number.
        """
        names = [entry.name for entry in card.observation[len(self.context) :]]
        numbers = nominal(self.world)
        values: dict[str, float] = {}
        for name in names:
            value = np.asarray(numbers.get(name, getattr(self.world.params, name, np.nan)), float)
            if value.ndim or not np.isfinite(value):
                raise BundleError(f"the policy observes the parameter {name!r}, for which {self.name!r} has no number")
            values[name] = float(value)
        return values or None

    def _check_actions(self, card: Card) -> None:
        ours, theirs = self.world.actions.values, card.actions
        if theirs.factors != self.factors:
            raise BundleError(
                f"an action of the bundle is {theirs.factors} choices, one of the point {self.name!r} {self.factors}"
            )
        if theirs.n != len(self.actions):
            raise BundleError(f"the bundle has {theirs.n} actions, the point {self.name!r} has {len(self.actions)}")
        if theirs.values is None:
            return
        given = np.asarray(theirs.values, float)
        if ours is None or given.shape != ours.shape or not np.allclose(given, ours, rtol=1e-9, atol=0):
            listed = _listed(self.actions)
            raise BundleError(f"the bundle's actions are {_listed(theirs.values)}, the point's are {listed}")
        if theirs.unit != self.world.actions.unit:
            raise BundleError(
                f"the bundle's actions are in {theirs.unit!r}, the point's in {self.world.actions.unit!r}"
            )


def partition_of(point: str, key: str | None = None) -> Partition:
    """Where a point's decisions and outcomes are logged."""
    return Partition.of(f"point:{point}", key)


def actions_of(world: World) -> tuple[Action, ...]:
    """The actions of a world by index, as JSON has them."""
    values = world.actions.values
    if values is None:
        return tuple(range(world.actions.nvec[0]))
    if values.ndim == 2:
        return tuple([int(one) for one in np.flatnonzero(members)] for members in values)
    return tuple(np.asarray(values, float).tolist())


def baseline_of(named: str | float, world: World) -> Policy:
    """The rule of this name, or the fixed action of this value."""
    if isinstance(named, str):
        return baselines.make(named, world)
    index, nvec = world.actions.index_of(named), world.actions.nvec
    if len(nvec) == 1:
        return FixedAction(index, nvec[0])
    return RulePolicy("fixed", len(world.context), nvec, lambda seen: np.full((len(seen), len(nvec)), index))


def request_struct(spec: PointSpec, context: Sequence[Field]) -> type[msgspec.Struct]:
    """The struct of a decision's request: what `POST /v1/decisions/{point}` takes."""
    keyed = [("key", Identifier)] if spec.key is not None else []
    asking = [("features", dict[str, dict[str, Scalar]] | None, None)] if spec.forecasts else []
    return msgspec.defstruct(
        f"{spec.name}.DecisionRequest",
        [
            ("context", context_struct(spec.name, context, tuple(spec.forecasts))),
            *keyed,
            ("id", Identifier | None, None),
            ("episode", Identifier | None, None),
            ("at", EventTime | None, None),
            ("allowed", list[Action] | None, None),
            ("baseline", Action | None, None),
            ("deferred", bool, False),
            *asking,
        ],
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


def context_struct(point: str, context: Sequence[Field], foretold: Sequence[str] = ()) -> type[msgspec.Struct]:
    """A struct with one bounded number for each entry of the context, under its own name.

    Those that models foretell may be left out.
    """
    # defstruct wants Python identifiers; the names that clients see are the entries' own.
    names = {f"entry_{i}": entry.name for i, entry in enumerate(context)}
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for place, entry in zip(names, context, strict=True):
        number = Annotated[float, _bounds(entry)]
        fields.append((place, number | UnsetType, UNSET) if entry.name in foretold else (place, number))
    return msgspec.defstruct(
        f"{point}.Context", fields, rename=names, frozen=True, forbid_unknown_fields=True, kw_only=True
    )


def _bounds(entry: Field) -> Meta:
    low = float(entry.low) if np.isfinite(entry.low) else None
    high = float(entry.high) if np.isfinite(entry.high) else None
    unit = {"x-unit": entry.unit} if entry.unit else {}
    return Meta(ge=low, le=high, multiple_of=1 if entry.whole else None, description=entry.doc, extra_json_schema=unit)


def allowed_words(spec: PointSpec, context: Sequence[Field]) -> dict[str, str]:
    """Field path → what is allowed there, for the answers to requests that do not fit."""
    names = ", ".join(entry.name for entry in context)
    words = {"context": f"an object with the numbers {names}"}
    words |= {f"context.{entry.name}": in_words(entry) for entry in context}
    identifier = "a string of 1 to 200 characters without slashes or control characters"
    words |= dict.fromkeys(("id", "episode"), f"{identifier}, or left out")
    if spec.key is not None:
        words["key"] = f"the {spec.key}: {identifier}"
    return words


def in_words(entry: Field) -> str:
    """What a context's entry may be.

    >>> in_words(Field("stock", "items", 0.0, 20.0, "left to sell", whole=True))
    'a whole number from 0 to 20 (items)'
    """
    kind = "whole number" if entry.whole else "number"
    unit = f" ({entry.unit})" if entry.unit else ""
    low, high = np.isfinite(entry.low), np.isfinite(entry.high)
    if low and high:
        return f"a {kind} from {entry.low:g} to {entry.high:g}{unit}"
    if low or high:
        return f"a {kind} {f'of at least {entry.low:g}' if low else f'of at most {entry.high:g}'}{unit}"
    return f"a finite {kind}{unit}"


def _listed(values: Sequence[Any]) -> str:
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values[:8]]
    return f"{', '.join(shown)}{f', … ({len(values)} in all)' if len(values) > 8 else ''}"
