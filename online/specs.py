"""Model specs: what a model is, declared in a table and checked before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from river import base, compose, metrics, reco, time_series

from online.comparison import BLOCKS, SWITCHES, Plan, announced
from online.components import (
    Component,
    ComponentError,
    check_bounded,
    component,
    construct,
    hash_seeded,
    is_transformer,
)
from online.feature_specs import features_of
from online.features import Feature
from online.history import Past
from online.reading import SpecError, boolean, choice, duration, integer, number

TASKS: Mapping[str, tuple[type, ...]] = {
    "binary": (base.Classifier,),
    "multiclass": (base.Classifier,),
    "regression": (base.Regressor,),
    "anomaly": (base.AnomalyDetector, base.SupervisedAnomalyDetector, base.AnomalyFilter),
    "clustering": (base.Clusterer,),
    "forecasting": (time_series.base.Forecaster,),
    "recommendation": (reco.base.Ranker,),
}
"""The tasks, each with the classes that a pipeline's last step may be."""

METRICS: Mapping[str, tuple[str, ...]] = {
    "binary": ("Accuracy", "F1", "ROCAUC", "LogLoss"),
    "multiclass": ("Accuracy", "MacroF1", "CrossEntropy"),
    "regression": ("MAE", "RMSE", "R2"),
    "anomaly": ("ROCAUC",),
    "clustering": ("Silhouette",),
    "forecasting": ("MAE", "RMSE"),
    "recommendation": ("MAE", "RMSE"),
}
"""The metrics of a spec that names none."""

ON_DRIFT = ("keep", "reset", "replace", "raise")
SIGNALS = ("error", "score", "label", "prediction", "missing")
"""What a detector may watch besides features; ``missing`` is the share of an event's features that it lacks."""

DECLARED = "declared"
"""The name of the pipeline that the model's own table declares, among its challengers."""

_SUPERVISED = ("binary", "multiclass", "regression", "recommendation")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A declared model.

    ``label_wait`` is in seconds of event time, ``None`` for as long as ``pending`` allows. ``key`` names the entity
    that each instance belongs to, ``None`` for one model over all; where it is ``pooled``, one more instance learns
    from all keys, and a new key begins with a copy of it. ``features`` is ``None`` where none are declared.
    ``horizon`` counts steps ahead (forecasting), ``threshold`` is the score from which an anomaly is one. ``keys``
    bounds the instances held in memory, ``ceiling`` a snapshot in bytes, ``early`` the seconds that a label may precede
    its features. ``signals`` are those of detectors whose name is not their signal; after an alarm a detector raises no
    other for ``cooldown`` values. ``challengers`` are pipelines that learn beside this one, compared as ``comparison``
    announces. ``label_budget`` is the share of predictions whose labels may be asked for, ``None`` where none are.
    ``search`` is the space of `trimtab tune`. ``source`` is the table itself.
    """

    name: str
    task: str
    pipeline: tuple[Component, ...]
    metrics: tuple[Component, ...]
    features: Mapping[str, Feature] | None = None
    detectors: Mapping[str, Component] = field(default_factory=dict)
    key: str | None = None
    pooled: bool = False
    label_wait: float | None = None
    on_drift: str = "keep"
    learn_during_predict: bool = False
    allow_unbounded: bool = False
    horizon: int = 1
    threshold: float | None = None
    pending: int = 1_000_000
    keys: int = 100_000
    ceiling: int = 64 << 20
    early: float = 300.0
    signals: Mapping[str, str] = field(default_factory=dict)
    cooldown: int = 0
    challengers: Mapping[str, tuple[Component, ...]] = field(default_factory=dict)
    comparison: Plan = field(default_factory=Plan)
    label_budget: float | None = None
    search: Mapping[str, Any] = field(default_factory=dict, compare=False)
    source: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def supervised(self) -> bool:
        """Whether the model learns from labels."""
        return self.task in _SUPERVISED

    @property
    def pasts(self) -> tuple[Past, ...]:
        """The features that are figures of earlier events, by name."""
        features = self.features or {}
        pasts = (features[name].past for name in sorted(features))
        return tuple(past for past in pasts if past is not None)

    @property
    def hash_seeded(self) -> bool:
        """Whether the model replays only under a fixed PYTHONHASHSEED."""
        return any(hash_seeded(step) for step in self.pipeline)


def model_spec(name: str, mapping: Mapping[str, Any]) -> ModelSpec:
    """The model that a table declares.

    Raises:
        SpecError: Something in it cannot be; the path names where, such as ``models.churn.pipeline[1].optimizer.lr``.
    """
    path = f"models.{name}"
    known = [item.name for item in fields(ModelSpec) if item.name not in ("name", "signals", "source")]
    for given in mapping:
        if given not in known:
            raise SpecError(f"{path}.{given}", mapping[given], f"a field of a model: {', '.join(known)}")
    try:
        return _checked(name, path, mapping)
    except ComponentError as error:
        raise SpecError(error.path, error.given, error.allowed) from error


def _checked(name: str, path: str, mapping: Mapping[str, Any]) -> ModelSpec:
    task = choice(mapping.get("task"), tuple(TASKS), f"{path}.task")
    unbounded = boolean(mapping, "allow_unbounded", path)
    pipeline = _pipeline(mapping.get("pipeline"), f"{path}.pipeline", task, allow_unbounded=unbounded)
    detectors, signals = _detectors(mapping.get("detectors"), f"{path}.detectors", task, mapping.get("features"))
    challengers = _challengers(mapping, f"{path}.challengers", task, allow_unbounded=unbounded)
    spec = ModelSpec(
        name=name,
        task=task,
        pipeline=pipeline,
        metrics=_metrics(mapping.get("metrics", METRICS[task]), f"{path}.metrics", task),
        features=features_of(mapping.get("features"), f"{path}.features", task),
        detectors=detectors,
        key=_key(mapping.get("key"), f"{path}.key"),
        pooled=boolean(mapping, "pooled", path),
        label_wait=duration(mapping.get("label_wait"), f"{path}.label_wait"),
        on_drift=choice(mapping.get("on_drift", "keep"), ON_DRIFT, f"{path}.on_drift"),
        learn_during_predict=boolean(mapping, "learn_during_predict", path),
        allow_unbounded=unbounded,
        horizon=integer(mapping, "horizon", path, 1, 10_000),
        threshold=number(mapping.get("threshold"), f"{path}.threshold"),
        pending=integer(mapping, "pending", path, 1_000_000, 100_000_000),
        keys=integer(mapping, "keys", path, 100_000, 100_000_000),
        ceiling=integer(mapping, "ceiling", path, 64 << 20, 1 << 40),
        early=duration(mapping.get("early", 300.0), f"{path}.early") or 0.0,
        signals=signals,
        cooldown=integer(mapping, "cooldown", path, 0, 1_000_000, low=0),
        challengers=challengers,
        comparison=_comparison(mapping.get("comparison"), f"{path}.comparison", len(challengers)),
        label_budget=_label_budget(mapping.get("label_budget"), f"{path}.label_budget", task),
        search=_search(mapping.get("search"), f"{path}.search"),
        # What `trimtab tune` may try makes no other model.
        source={name: value for name, value in mapping.items() if name != "search"},
    )
    if spec.pooled and spec.key is None:
        raise SpecError(f"{path}.pooled", True, "left out, or a key: the pool is what new keys begin with")
    _try_out(spec)
    return spec


def _pipeline(given: object, path: str, task: str, *, allow_unbounded: bool) -> tuple[Component, ...]:
    tables = [given] if isinstance(given, Mapping | str) else given
    if not isinstance(tables, list | tuple) or not tables:
        raise SpecError(path, given, 'a list of tables {use = "<module>.<class>", ...}, the model last')
    steps = tuple(component(table, f"{path}[{index}]") for index, table in enumerate(tables))
    for step in steps:
        check_bounded(step, allow_unbounded=allow_unbounded)
    for index, step in enumerate(steps[:-1]):
        if not is_transformer(step.kind):
            raise SpecError(f"{path}[{index}].use", step.use, "a transformer, since another step follows it")
    kinds = TASKS[task]
    last = steps[-1].kind
    if not issubclass(last, (*kinds, compose.Pipeline)) or issubclass(last, reco.base.Ranker) != (
        task == "recommendation"
    ):
        said = " or ".join(kind.__name__ for kind in kinds)
        raise SpecError(f"{path}[{len(steps) - 1}].use", steps[-1].use, f"a {said} of River, for the task {task!r}")
    return steps


def _metrics(given: object, path: str, task: str) -> tuple[Component, ...]:
    if not isinstance(given, list | tuple):
        raise SpecError(path, given, 'a list of metric names, such as ["ROCAUC", "F1"]')
    found = tuple(component(table, f"{path}[{index}]", "metrics") for index, table in enumerate(given))
    for index, item in enumerate(found):
        kind = metrics.base.Metric if task != "clustering" else metrics.Silhouette
        if not issubclass(item.kind, kind):
            raise SpecError(f"{path}[{index}]", item.use, f"a metric that fits the task {task!r}")
    return found


def _detectors(
    given: object, path: str, task: str, features: object
) -> tuple[Mapping[str, Component], Mapping[str, str]]:
    """The detectors by name, and the signals of those that say ``on`` which one they are."""
    if given is None:
        given = {"error": {"use": "drift.ADWIN"}} if task in _SUPERVISED else {}
    if not isinstance(given, Mapping):
        raise SpecError(path, given, 'a table of detectors by signal, such as {error = {use = "drift.ADWIN"}}')
    found, signals = {}, {}
    for name, table in given.items():
        where = f"{path}.{name}"
        signal = table.get("on", name) if isinstance(table, Mapping) else name
        if isinstance(features, Mapping) and signal not in SIGNALS and signal not in features:
            raise SpecError(where, signal, f"a feature, or one of {', '.join(SIGNALS)}; or on = one of these")
        if isinstance(table, Mapping) and "on" in table:
            table = {key: value for key, value in table.items() if key != "on"}
            signals[str(name)] = str(signal)
        found[str(name)] = component(table, where, "drift")
        if not issubclass(found[str(name)].kind, base.DriftDetector | base.BinaryDriftDetector):
            raise SpecError(f"{where}.use", found[str(name)].use, "a drift detector of River")
    return found, signals


def _challengers(
    mapping: Mapping[str, Any], path: str, task: str, *, allow_unbounded: bool
) -> Mapping[str, tuple[Component, ...]]:
    given = mapping.get("challengers", {})
    if not isinstance(given, Mapping):
        raise SpecError(path, given, 'tables by name, such as {tree = {pipeline = [{use = "tree.…"}]}}')
    if given and (task not in _SUPERVISED or mapping.get("key") is not None):
        raise SpecError(path, list(given), f"left out: challengers are for {', '.join(_SUPERVISED)} without a key")
    found = {}
    for name, table in given.items():
        where = f"{path}.{name}"
        if name == DECLARED or not isinstance(name, str) or not name.isidentifier():
            raise SpecError(where, name, f"a name of letters, digits and _ other than {DECLARED}")
        if not isinstance(table, Mapping) or table.keys() != {"pipeline"}:
            raise SpecError(where, table, "{pipeline = […]}: everything else is the model's own")
        found[name] = _pipeline(table["pipeline"], f"{where}.pipeline", task, allow_unbounded=allow_unbounded)
    return found


def _comparison(given: object, path: str, rivals: int) -> Plan:
    """How challengers are compared; where no number of labels is given, it is one that suffices for so many rivals."""
    known = [item.name for item in fields(Plan)]
    table = {} if given is None else given
    if not isinstance(table, Mapping) or not set(table) <= set(known):
        raise SpecError(path, given, f"a table with any of {', '.join(known)}")
    level = number(table.get("level", Plan().level), f"{path}.level") or 0.0
    switch = choice(table.get("switch", SWITCHES[0]), SWITCHES, f"{path}.switch")
    suggested = announced(level=level, rivals=max(1, rivals)) if 0.0 < level < 0.5 else BLOCKS
    labels = integer(table, "labels", path, suggested, 100_000_000)
    try:
        return Plan(labels, level, switch)
    except ValueError as error:
        raise SpecError(path, given, str(error)) from error


def _label_budget(given: object, path: str, task: str) -> float | None:
    budget = number(given, path)
    if budget is None:
        return None
    if task not in ("binary", "multiclass") or not 0.0 < budget <= 1.0:
        raise SpecError(path, given, "a share above 0, at most 1, of the predictions of a binary or multiclass model")
    return budget


def _search(given: object, path: str) -> Mapping[str, Any]:
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    raise SpecError(path, given, 'a table such as {"pipeline[0].lr" = {low = 0.001, high = 0.1, log = true}}')


def _key(given: object, path: str) -> str | None:
    if given is None or (isinstance(given, str) and given):
        return given or None
    raise SpecError(path, given, "the name of the entity that has a model of its own, such as sku")


def _try_out(spec: ModelSpec) -> None:
    """Builds everything once, so that a class's own objections are heard now and not by the first event."""
    model = build(spec)
    path = f"models.{spec.name}"
    if spec.task == "multiclass" and not model._multiclass:
        raise SpecError(
            f"{path}.pipeline", spec.pipeline[-1].use, "a classifier of several classes: wrap it in multiclass.*"
        )
    for index, item in enumerate(spec.metrics):
        metric = construct(item)
        if spec.supervised and spec.task != "recommendation" and not metric.works_with(model):
            raise SpecError(f"{path}.metrics[{index}]", item.use, f"a metric that fits the task {spec.task!r}")
    for detector in spec.detectors.values():
        construct(detector)


def build(spec: ModelSpec) -> Any:
    """A new, empty River model of this spec: its pipeline, or the single step itself."""
    steps = [construct(step) for step in spec.pipeline]
    return compose.Pipeline(*steps) if len(steps) > 1 else steps[0]
