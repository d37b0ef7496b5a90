"""Features: what a model's input may hold, and how it becomes the numbers and texts that a pipeline takes.

A declared schema says each feature's type, range, allowed values and what a missing value means. Without one, numbers
(a boolean is one) and texts are accepted, and each name keeps the type it was first seen with.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import hypot
from typing import Any

from online.encodings import Filling, Rarity, hashed, moments, weighted, words_of
from online.events import Scalar
from online.history import Past

LIMIT = 1e30
"""No number beyond: its square is what a scaler keeps."""

UNDECLARED = 1_000
"""Feature names without a schema: a new name with every event would grow the model without end."""

TEXT = 10_000
"""Characters in a text or category."""

TYPES = ("number", "category", "text", "timestamp", "boolean", "history")
ENCODINGS = {"category": ("onehot", "hash", "none"), "text": ("hash", "tfidf", "none")}
IMPUTATIONS = ("mean", "median", "last")
_CATEGORIES = 64


class FeatureError(ValueError):
    """A feature that a model cannot take: which, what was given, what is allowed."""

    kind = "type"
    """What is wrong: its ``type``, its ``range``, a ``category`` that is not allowed, or that it is ``missing``."""

    def __init__(self, field: str, given: object, allowed: str, kind: str = "type") -> None:
        super().__init__(f"the feature {field!r} is {_shown(given)}; allowed is {allowed}")
        self.kind = kind
        self.field = field
        self.given = given
        self.allowed = allowed


def _shown(given: object) -> str:
    text = "missing" if given is None else repr(given)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True, slots=True)
class Feature:
    """One declared feature.

    A missing value is replaced as ``impute`` says: by the ``mean``, the ``median`` or the ``last`` of the values that
    came before it; where there were none, or nothing is said, by ``default``. Without either it is refused where
    ``required`` (as a declared feature is, unless it says otherwise), else left out.
    ``low`` and ``high`` bound a number, ``values`` lists the allowed categories. ``encode`` turns categories into one
    column each (``onehot``, 64 at most) or hashes words and categories into ``buckets`` columns, for ``tfidf`` weighted
    by how rare each word is; ``none`` leaves the text to the pipeline. ``parts`` of a timestamp become columns, as sine
    and cosine where ``cycle`` is set. ``past`` says what figure of earlier events a ``history`` feature is.
    """

    name: str
    type: str = "number"
    unit: str = ""
    doc: str = ""
    required: bool = False
    default: Scalar = None
    low: float = -LIMIT
    high: float = LIMIT
    values: tuple[str, ...] | None = None
    encode: str = ""
    buckets: int = 64
    parts: tuple[str, ...] = ("hour", "weekday")
    cycle: bool = True
    impute: str = ""
    past: Past | None = None

    def check(self, value: Scalar) -> Scalar:
        """The value as the model takes it, ``None`` for a missing one.

        Raises:
            FeatureError: It is not allowed.
        """
        if value is None:
            if self.default is None and self.required and not self.impute:
                raise FeatureError(self.name, None, f"{self.allowed}, always", "missing")
            return self.default
        match self.type:
            case "number":
                return self._number(value)
            case "boolean":
                if isinstance(value, bool):
                    return value
            case "timestamp":
                return self._timestamp(value)
            case _:
                return self._text(value)
        raise FeatureError(self.name, value, self.allowed)

    def _number(self, value: Scalar) -> Scalar:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise FeatureError(self.name, value, self.allowed)
        if self.low <= value <= self.high:
            return value
        raise FeatureError(self.name, value, self.allowed, "range")

    def _text(self, value: Scalar) -> Scalar:
        text = str(value) if isinstance(value, int) and self.type == "category" else value
        if not isinstance(text, str):
            raise FeatureError(self.name, value, self.allowed)
        if len(text) > TEXT:
            raise FeatureError(self.name, value, self.allowed, "range")
        if self.values is not None and text not in self.values:
            raise FeatureError(self.name, value, self.allowed, "category")
        return text

    def _timestamp(self, value: Scalar) -> Scalar:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 4e9:
            return float(value)
        if isinstance(value, str):
            try:
                moment = datetime.datetime.fromisoformat(value)
            except ValueError:
                raise FeatureError(self.name, value, self.allowed) from None
            return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        raise FeatureError(self.name, value, self.allowed)

    @property
    def allowed(self) -> str:
        """What this feature may be, in words."""
        match self.type:
            case "number":
                low = "" if self.low == -LIMIT else f" from {self.low:g}"
                high = "" if self.high == LIMIT else f" up to {self.high:g}"
                return f"a finite number{low}{high}{f' ({self.unit})' if self.unit else ''}"
            case "boolean":
                return "true or false"
            case "timestamp":
                return "a time such as 2026-01-31T12:00:00Z, or seconds since 1970"
        if self.values is not None:
            return "one of " + ", ".join(self.values)
        return f"a text of at most {TEXT} characters"


@dataclass(slots=True)
class Quality:
    """What came in under one feature's name: counts.

    ``seen`` and ``missing`` count events that were taken, ``new`` categories that had not been there before. Of those
    ``refused``, ``out_of_range`` had a number or a length beyond the allowed, ``wrong_type`` another type,
    ``not_allowed`` a category beyond the listed ones.
    """

    seen: int = 0
    missing: int = 0
    refused: int = 0
    new: int = 0
    out_of_range: int = 0
    wrong_type: int = 0
    not_allowed: int = 0


@dataclass(slots=True)
class Schema:
    """The features of one model: those declared, or those seen. Grows by `note` alone, which only the fold calls."""

    declared: Mapping[str, Feature] | None = None
    types: dict[str, str] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)
    quality: dict[str, Quality] = field(default_factory=dict)
    fillings: dict[str, Filling] = field(default_factory=dict)
    rarities: dict[str, Rarity] = field(default_factory=dict)
    # The names of the last features that were numbers all, as given and as sorted: most streams never change them.
    _memo: tuple[tuple[str, ...] | None, tuple[str, ...]] = (None, ())
    _sorted: list[tuple[str, Feature]] | None = None

    def check(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features in sorted order, valid and without missing values: a new dictionary, or the one given.

        Raises:
            FeatureError: The first one, in sorted order, that is not allowed.
        """
        if self.declared is not None:
            return self._check_declared(self.declared, features)
        names, order = self._memo
        if tuple(features) == names and _are_numbers(features):
            return features if names is order else {name: features[name] for name in order}
        return self._check_each(features)

    @property
    def intake(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """`take` and `encode` in one."""
        return self.take if self.declared is None else self._take_encoded

    def _take_encoded(self, features: dict[str, Any]) -> dict[str, Any]:
        return self.encode(self.take(features))

    def _check_each(self, features: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for name in sorted(features):
            value = features[name]
            if value is not None:
                self._check_type(name, value)
                checked[name] = value
        if len(checked) == len(features) and all(self.types.get(name) == "number" for name in checked):
            names, order = tuple(features), tuple(checked)
            self._memo = (order, order) if names == order else (names, order)
        return checked

    def take(self, features: dict[str, Any]) -> dict[str, Any]:
        """`check`, then `note` what was new: the fold's way in."""
        names, order = self._memo
        if tuple(features) == names:
            try:
                # None is larger than their Euclidean norm, which C computes at once.
                if hypot(*features.values()) <= LIMIT:
                    return features if names is order else {name: features[name] for name in order}
            except (TypeError, OverflowError):
                pass
        if self.declared is None:
            checked = self._check_each(features)
            if tuple(checked) != self._memo[1]:
                for name, value in checked.items():
                    self.types.setdefault(name, type_of(value))
            return checked
        checked = self._check_declared(self.declared, features)
        for name, feature in self._plain:
            self._note(feature, checked.get(name), missing=features.get(name) is None)
        return checked

    def _check_declared(
        self, declared: Mapping[str, Feature], features: Mapping[str, Scalar], *, fill: bool = True
    ) -> dict[str, Any]:
        for name in features:
            if name not in declared:
                raise FeatureError(name, features[name], f"left out: the model's features are {', '.join(declared)}")
            if declared[name].past is not None:
                raise FeatureError(name, features[name], "left out: it is computed from earlier events")
        checked: dict[str, Any] = {}
        for name, feature in self._plain:
            given = features.get(name)
            value = feature.check(given)
            if given is None and fill and name in self.fillings:
                value = self.fillings[name].value
            if value is not None:
                checked[name] = value
        return checked

    @property
    def _plain(self) -> list[tuple[str, Feature]]:
        """The declared features that events bring, sorted."""
        if self._sorted is None:
            declared = self.declared or {}
            self._sorted = [(name, declared[name]) for name in sorted(declared) if declared[name].past is None]
        return self._sorted

    def added(self, features: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was computed for a case, and would come out otherwise later; ``None`` where nothing ever is."""
        declared = self.declared
        if declared is None or not any(feature.impute or feature.past for feature in declared.values()):
            return None
        computed = {n for n, f in declared.items() if f.past is not None or (f.impute and features.get(n) is None)}
        return {name: value for name, value in checked.items() if name in computed}

    def recall(self, features: dict[str, Any], added: Mapping[str, Any] | None) -> dict[str, Any]:
        """The features as they were when they were taken, from the event and what was `added`."""
        if self.declared is None:
            return self.check(features)
        return self._check_declared(self.declared, features, fill=False) | dict(added or {})

    def _check_type(self, name: str, value: Scalar) -> None:
        found = type_of(value)
        known = self.types.get(name)
        if found == "":
            raise FeatureError(
                name, value, f"a finite number up to {LIMIT:g}, a text up to {TEXT} characters, or a boolean"
            )
        if known is None and len(self.types) >= UNDECLARED:
            raise FeatureError(name, value, f"one of the {UNDECLARED} names seen so far: declare the features")
        if known is not None and known != found:
            raise FeatureError(
                name, value, f"a {known}, as it was when first seen: declare the features to say otherwise"
            )

    def _note(self, feature: Feature, value: Any, *, missing: bool) -> None:
        """Learn from a feature's value, and count it."""
        name = feature.name
        quality = self.quality.get(name) or self.quality.setdefault(name, Quality())
        quality.seen += 1
        if missing:
            quality.missing += 1
            return
        if feature.impute:
            self.fillings.setdefault(name, Filling(feature.impute)).note(value)
        if feature.encode == "tfidf":
            self.rarities.setdefault(name, Rarity()).note(words_of(value), feature.buckets)
        if feature.encode == "onehot" and feature.values is None:
            known = self.categories.setdefault(name, [])
            if value not in known:
                quality.new += 1
                if len(known) < _CATEGORIES:
                    known.append(value)

    def missing(self, features: Mapping[str, Any]) -> float:
        """The share of the features, declared or seen so far, that an event lacks."""
        names = self.types if self.declared is None else [name for name, _ in self._plain]
        return sum(features.get(name) is None for name in names) / len(names) if names else 0.0

    def refuse(self, error: FeatureError) -> None:
        """Count a feature that `check` refused."""
        name = error.field
        if self.declared is None or name in self.declared:
            quality = self.quality.setdefault(name, Quality())
            quality.refused += 1
            quality.missing += error.kind == "missing"
            quality.out_of_range += error.kind == "range"
            quality.wrong_type += error.kind == "type"
            quality.not_allowed += error.kind == "category"

    def encode(self, checked: dict[str, Any]) -> dict[str, Any]:
        """What the pipeline takes, from features that `check` returned."""
        if self.declared is None:
            return checked
        columns: dict[str, Any] = {}
        for name, value in checked.items():
            columns |= self._columns(self.declared[name], value)
        return columns

    def _columns(self, feature: Feature, value: Any) -> dict[str, Any]:
        name = feature.name
        if feature.type == "timestamp":
            return moments(name, value, feature.parts, cycle=feature.cycle)
        if feature.encode == "onehot":
            known = feature.values or tuple(self.categories.get(name, ()))
            columns = {f"{name}={category}": float(category == value) for category in known}
            return columns | {f"{name}=other": float(value not in known)}
        if feature.encode == "hash":
            return hashed(name, [value] if feature.type == "category" else words_of(value), feature.buckets)
        if feature.encode == "tfidf":
            return weighted(name, words_of(value), feature.buckets, self.rarities.get(name) or Rarity())
        return {name: value}


def _are_numbers(features: Mapping[str, Scalar]) -> bool:
    """Whether all are numbers within the limit: none is larger than their Euclidean norm, which C computes at once."""
    try:
        return hypot(*features.values()) <= LIMIT  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def type_of(value: object) -> str:
    """The type of an undeclared feature; empty for what no model may see."""
    if isinstance(value, int | float):
        return "number" if -LIMIT <= value <= LIMIT else ""
    if isinstance(value, str):
        return "text" if len(value) <= TEXT else ""
    return ""
