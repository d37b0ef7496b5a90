"""Models: what there are, what they have learned, what they set aside; and how one is declared or ended."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from online.events import Drifted, Scalar
from online.features import Quality
from online.foreseen import Estimated
from service.deciding.declarations import BreakingError, Declared, check_model
from service.deciding.live_specs import progress_of
from service.deciding.serving import ServedModel
from service.deciding.source_states import SourceState, states_of
from service.deciding.store import Store
from service.http.api import Api
from service.http.decoding import Decoder
from service.http.operations import SWITCH, Answer, Call, Operation, Parameter, flag, reply
from service.http.problems import Fault, ProblemError
from service.manifest import ManifestError, parse_model
from service.routes import rejects
from service.routes.champions import ChallengerState, ComparisonState, challengers, comparison
from service.routes.decisions import WriteAnswer
from service.routes.predictions import partition_of
from service.routes.rejects import RejectsAnswer

_SHOWN = ("key", "at", "features", "label")
"""What is shown of an event that was set aside."""


class Alarm(Struct, frozen=True):
    """One drift alarm: which detector, on what, and what it saw.

    Attributes:
        name: The detector's own, as it is declared.
        detector: The kind that it is.
    """

    at: float
    name: str
    detector: str
    signal: str
    entry: str
    key: str | None
    action: str
    evidence: dict[str, float]


class ModelSummary(Struct, frozen=True):
    """One model and how far it is."""

    name: str
    task: str
    learned: int
    metrics: dict[str, float]
    drift: bool


class LabelsWanted(Struct, frozen=True):
    """The budget of labels, and how much of it was spent: a prediction in `predictions` was asked a label for."""

    budget: float
    predictions: int
    wanted: int


class ModelDescription(Struct, frozen=True):
    """Everything about a model.

    Attributes:
        baseline: What simple rules reach on the same labels; a model that does not beat them is worth nothing.
        quality: What came in under the name of each declared feature; empty where none is declared.
        drift: Whether the latest alarm came within the last ten minutes of event time.
        warnings: The detectors that see a change coming which is not certain yet: those of River's that warn, and with
            `on_drift = "replace"` the others too.
        halted: Why it learns no more: `drift`, after an alarm with `on_drift = "raise"` until somebody resumes it, or
            `ceiling`; `null` where it learns.
        lag: Entries that the learner has not seen yet.
        champion: The candidate that answers; `declared` is the model's own pipeline.
        comparison: Left `null` where there are no challengers.
        estimated: The accuracy of the last predictions, before their labels: an estimate, to be believed while
            `calibrated` is true; that is `null` as long as labels are too few to tell. `gap` is how far earlier
            estimates were off, `error` its standard error; `within` is how far from the estimate the accuracy will
            prove, with 95 % confidence. `null` where nothing can be foreseen.
        labels_wanted: Left `null` where the model has no `label_budget`.
    """

    name: str
    task: str
    key: str | None
    spec: dict[str, Any]
    features: dict[str, str]
    quality: dict[str, Quality]
    learned: int
    counts: dict[str, int]
    metrics: dict[str, float]
    baseline: dict[str, float]
    alarms: int
    drift: bool
    warnings: list[str]
    halted: str | None
    lag: int
    entry: str
    champion: str
    challengers: list[ChallengerState]
    comparison: ComparisonState | None
    estimated: Estimated | None
    labels_wanted: LabelsWanted | None


class ModelsAnswer(Struct, frozen=True):
    """All models."""

    models: list[ModelSummary]


class AlarmsAnswer(Struct, frozen=True):
    """Drift alarms, the newest first."""

    alarms: list[Alarm]


class SourcesAnswer(Struct, frozen=True):
    """The streams of others that feed a model, and how far behind each is."""

    sources: list[SourceState]


class RebuildAnswer(Struct, frozen=True):
    """How far a model is that was declared anew; the model as it was serves meanwhile.

    Attributes:
        state: `none` where the model serves as it is declared, `waiting` until a learner begins, `replaying`.
        entries: How many entries the new model has seen, of so many in archive and log.
        left_s: Seconds until it serves, at the pace so far.
        trouble: What keeps it from going on; empty for nothing.
    """

    state: str
    entries: int = 0
    of: int = 0
    left_s: float | None = None
    trouble: str = ""


class Mended(Struct, frozen=True, forbid_unknown_fields=True):
    """What takes the place of what a rejected event held; what is left out stays as it was."""

    features: dict[str, Scalar] | UnsetType = UNSET
    label: Scalar | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    at: float | UnsetType | None = UNSET


class ReplayOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Brings a rejected entry back, as it was or mended; say why, and what was mended.

    Attributes:
        event: What is mended: any of `features`, `label`, `key` and `at`.
    """

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    actor: Annotated[str, Meta(min_length=1, max_length=200)] = "operator"
    event: Mended | None = None


class Models:
    """The handlers of `/v1/models`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._replay = Decoder(ReplayOrder)
        self._table: Decoder[dict[str, Any]] = Decoder(dict)

    async def listed(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        """Every model, with its figures."""
        return reply(ModelsAnswer([summary(model) for model in self._api.serving.now.models.values()]))

    async def describe(self, call: Call) -> Answer:
        """What a model is, what it takes, what it has learned and how well it does."""
        return reply(description(self._api.model(call.path["model"])))

    async def alarms(self, call: Call) -> Answer:
        """The latest drift alarms, the newest first, each with its evidence."""
        model = self._api.model(call.path["model"])
        return reply(AlarmsAnswer([_alarm(alarm) for alarm in reversed(model.learner.alarms)]))

    async def rebuild(self, call: Call) -> Answer:
        """How far the model is that was declared anew, and learns its past beside the one that serves."""
        name = call.path["model"]
        serves = self._api.model(name).spec.source

        def look(store: Store) -> RebuildAnswer:
            wanted = store.declarations.model_before(name)
            if wanted is None or wanted.source == serves:
                return RebuildAnswer("none")
            found = progress_of(store.blob, name)
            if found is None or found.state != "replaying":
                return RebuildAnswer("waiting")
            return RebuildAnswer(found.state, found.entries, found.of, found.left_s, found.trouble)

        return reply(await self._api.store.ask(look))

    async def sources(self, call: Call) -> Answer:
        """The streams of others that feed the model: what is unread there, and what was trimmed before it was read."""
        name = call.path["model"]
        self._api.model(name)
        states = await self._api.store.ask(lambda store: states_of(store.blob))
        return reply(SourcesAnswer([state for state in states if state.model == name]))

    async def rejects(self, call: Call) -> Answer:
        """The entries that the learner set aside, each with its reason and what it held."""
        name = call.path["model"]
        self._api.model(name)
        return await rejects.listed(self._api, call, partition_of(name), _SHOWN)

    async def replay(self, call: Call) -> Answer:
        """Brings an entry that was set aside back, as it was or mended: the learner takes it as if it came now."""
        name, entry = call.path["model"], call.path["entry"]
        self._api.model(name)
        order = self._replay.decode(call.body)
        return await rejects.bring_back(self._api, partition_of(name), entry, order.actor, order.event)

    async def declare(self, call: Call) -> Answer:
        """Declares a model, or changes it, with the table that the manifest would hold.

        A change of what has learned already is refused, unless `replay` says to learn anew from archive and log; the
        model as it was serves until that is done (`GET …/rebuild`).
        """
        name, table = call.path["model"], self._table.decode(call.body)
        replay = flag(call, "replay")
        try:
            spec = parse_model(name, table)
        except ManifestError as error:
            raise ProblemError("invalid-request", str(error), error.fault) from None

        def put(store: Store) -> None:
            check_model(store.declarations.model_before(name), spec, store.log, replay=replay)
            store.declarations.declare(self._api.new_id(), self._declared(call, name, table))

        try:
            await self._api.store.ask(put)
        except BreakingError as error:
            raise ProblemError("conflict", f"{error}.", Fault("replay", "true, or a new name")) from None
        await self._api.serving.settle()
        return reply(description(self._api.model(name)))

    async def end(self, call: Call) -> Answer:
        """Ends a model: it predicts and learns no more. Its log stays."""
        name = call.path["model"]
        self._api.model(name)
        event = self._declared(call, name, None)
        entry = await self._api.store.ask(lambda store: store.declarations.declare(self._api.new_id(), event))
        await self._api.serving.settle()
        return reply(WriteAnswer(name, str(entry.id)))

    def _declared(self, call: Call, name: str, table: dict[str, Any] | None) -> Declared:
        actor, reason = call.query.get("actor", "operator"), call.query.get("reason", "")
        return Declared("model", name, table, actor, reason, self._api.clock())

    def operations(self) -> list[Operation]:
        """What can be done with models."""
        base = "/v1/models/{model}"
        why = (Parameter("actor", {"type": "string"}, "Who wants it"), Parameter("reason", {"type": "string"}, "Why"))
        anew = Parameter("replay", SWITCH, "Learn anew from the log, where the change asks for it")
        read: dict[str, Any] = {"problems": ("unknown-model",)}
        stored: dict[str, Any] = {"problems": ("unknown-model", "unavailable")}
        listed: dict[str, Any] = {"problems": (*stored["problems"], "invalid-request"), "query": (rejects.LIMIT,)}
        replay: dict[str, Any] = {
            "problems": (*stored["problems"], "unknown-entry", "conflict", "invalid-request"),
            "scope": "operate",
            "example": {"reason": "the sensor was mended", "event": {"features": {"temperature": 291.5}}},
        }
        put: dict[str, Any] = {"problems": ("conflict", "unavailable"), "scope": "admin", "query": (anew, *why)}
        put["example"] = {"task": "binary", "pipeline": [{"use": "linear_model.LogisticRegression"}]}
        end: dict[str, Any] = {**stored, "scope": "admin", "query": why}
        again = f"{base}/rejects/{{entry}}/replay"
        operations = [
            Operation("GET", "/v1/models", "List models", self.listed, ModelsAnswer, scope="read"),
            Operation("GET", base, "Describe a model", self.describe, ModelDescription, **read, scope="read"),
            Operation("PUT", base, "Declare a model", self.declare, ModelDescription, request=TABLE, **put),
            Operation("DELETE", base, "End a model", self.end, WriteAnswer, **end),
            Operation("GET", f"{base}/alarms", "List drift alarms", self.alarms, AlarmsAnswer, **read, scope="read"),
            Operation(
                "GET", f"{base}/rebuild", "Follow a rebuild", self.rebuild, RebuildAnswer, **stored, scope="read"
            ),
            Operation("GET", f"{base}/sources", "List sources", self.sources, SourcesAnswer, **stored, scope="read"),
            Operation(
                "GET", f"{base}/rejects", "List rejected entries", self.rejects, RejectsAnswer, **listed, scope="read"
            ),
            Operation("POST", again, "Bring an entry back", self.replay, WriteAnswer, request=ReplayOrder, **replay),
        ]
        return [operation.tagged("models") for operation in operations]


TABLE = {
    "type": "object",
    "description": "What the manifest would hold under the name; docs/manifest.md has the fields.",
    "properties": {"task": {"type": "string"}, "pipeline": {}},
    "required": ["task", "pipeline"],
}


def summary(model: ServedModel) -> ModelSummary:
    """A model in one line."""
    return ModelSummary(
        model.spec.name, model.spec.task, model.learner.learned, model.learner.metrics(), model.is_drifting
    )


def description(model: ServedModel) -> ModelDescription:
    """A model in full."""
    learner, spec = model.learner, model.spec
    buyer = learner.outlook.buyer
    taken = {name: feature.allowed for name, feature in (spec.features or {}).items()}
    return ModelDescription(
        name=spec.name,
        task=spec.task,
        key=spec.key,
        spec=dict(spec.source),
        features=taken or dict(learner.schema.types),
        quality=dict(learner.schema.quality),
        learned=learner.learned,
        counts=learner.counts,
        metrics=learner.metrics(),
        baseline=learner.baseline(),
        alarms=len(learner.alarms),
        drift=model.is_drifting,
        warnings=learner.candidates.current.warnings(),
        halted=learner.candidates.current.halted,
        lag=model.progress.lag,
        entry=str(model.progress.cursor),
        champion=learner.candidates.champion,
        challengers=challengers(learner),
        comparison=comparison(learner),
        estimated=learner.outlook.estimated(),
        labels_wanted=None if buyer is None else LabelsWanted(buyer.budget, buyer.seen, buyer.bought),
    )


def _alarm(alarm: Drifted) -> Alarm:
    return Alarm(
        alarm.at,
        alarm.name or alarm.signal,
        alarm.detector,
        alarm.signal,
        alarm.entry,
        alarm.key,
        alarm.action,
        alarm.evidence,
    )
