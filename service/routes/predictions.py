"""Predictions: ask for one, and send the events and labels that teach a model."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from online.events import Labelled, Observed, Scalar, Served, decode, digest, draft_id, encode, scoped_id
from online.features import FeatureError
from online.log import Conflict, Draft, EntryId, Partition, parse_token, token
from online.model import Prediction
from online.tasks import LabelError
from service.deciding.points import EventTime, Identifier
from service.deciding.serving import ServedModel
from service.http.api import Api
from service.http.batches import BatchAnswer, answered, is_batch, rejection, sift
from service.http.decoding import Decoder
from service.http.operations import Answer, Call, Operation, reply
from service.http.problems import NOTHING, ProblemError, invalid
from service.routes.decisions import conflict

Features = dict[str, Scalar]


class PredictRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Asks for a prediction.

    Attributes:
        learn: Whether the case is logged, so that the model learns from it once its label is known; a prediction that
            is only looked at leaves no trace.
        after: An `entry` that some write answered with: wait until the model has learned it.
    """

    features: Features
    id: Identifier | None = None
    key: Identifier | None = None
    at: EventTime | None = None
    learn: bool = True
    after: str | None = None


class EventRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One case that was seen, with its label where that is known already."""

    features: Features
    id: Identifier | None = None
    key: Identifier | None = None
    at: EventTime | None = None
    label: Scalar | UnsetType = UNSET


class LabelRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The label of a case that was predicted, or logged, under this id."""

    id: Identifier
    label: Scalar
    key: Identifier | None = None
    at: EventTime | None = None


class ModelState(Struct, frozen=True):
    """The state that predicted: labels it had learned, the last entry it had seen, and how long before that was."""

    learned: int
    entry: str
    age_s: float


class PredictAnswer(Struct, frozen=True, omit_defaults=True):
    """A prediction; a function of the stored entry alone where it was logged, so that a retry reads the same.

    Attributes:
        prediction: The label or the number; none where the model has none yet.
        drift: Whether the model has sounded a drift alarm in the last ten minutes of event time.
        label_wanted: Whether the label of this very case would help the model most; left out where nothing asks.
        interval: Ends of what a model of intervals says the number lies in, once it has errors to go by.
        entry: Where the case stands in the log; left out where it was not logged.
    """

    id: str
    prediction: Scalar
    model: ModelState
    drift: bool
    probabilities: dict[str, float] | None = None
    score: float | None = None
    label_wanted: bool | None = None
    interval: tuple[float, float] | None = None
    entry: str | None = None


def partition_of(model: str, key: str | None = None) -> Partition:
    """Where a model's events are logged."""
    return Partition.of(f"model:{model}", key)


class Predictions:
    """The handlers that predict and that take events and labels."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._predict = Decoder(PredictRequest)
        self._event = Decoder(EventRequest)
        self._label = Decoder(LabelRequest)

    async def predict(self, call: Call) -> Answer:
        """Answers from the model's last snapshot, and logs the case so that its label can teach the model."""
        name = call.path["model"]
        model = self._api.model(name)
        request = self._predict.decode(call.body)
        self._api.check_time(request.at)
        self._check_key(model, request.key)
        if request.after is not None:
            model = await self._caught_up(name, request.after)
        prediction = await self._ask(model, request)
        event_id = request.id or self._api.new_id()
        wanted = model.learner.outlook.ask(event_id, prediction.probabilities) if request.learn else None
        served = Served(
            value=prediction.value,
            probabilities=prediction.probabilities,
            score=prediction.score,
            learned=model.learner.learned,
            entry=str(model.progress.cursor),
            drift=model.is_drifting,
            label_wanted=wanted,
            interval=prediction.interval,
        )
        self._api.telemetry.prediction(name, request.learn)
        if not request.learn:
            return reply(_predicted(event_id, served, model.progress.cursor, self._api.clock(), None))
        event = Observed(id=event_id, features=request.features, key=request.key, at=request.at, served=served)
        partition = partition_of(name, request.key)
        # `after` says when to answer, not what is asked: a retry without it is the same request.
        draft = Draft(draft_id(event), digest(replace(request, after=None)), encode(event))
        outcome = await self._api.writer.append(partition, draft)
        if isinstance(outcome, Conflict):
            raise conflict("event", event_id)
        if not outcome.fresh:
            stored = decode(outcome.entry.payload)
            served = stored.served if isinstance(stored, Observed) and stored.served is not None else served
        seen = EntryId.parse(served.entry or "0-0")
        return reply(_predicted(event_id, served, seen, outcome.entry.at, token(partition, outcome.entry.id)))

    async def _ask(self, model: ServedModel, request: PredictRequest) -> Prediction:
        try:
            if model.spec.key is None:
                return model.learner.predict(None, request.features)
            # The instance of a key may have to be fetched: not on the event loop.
            return await self._api.store.ask(lambda store: model.predict(store, request.key, request.features))
        except FeatureError as error:
            raise _feature_problem(error) from None

    async def _caught_up(self, name: str, after: str) -> ServedModel:
        """The model once it has learned the entry; a 503 where that takes too long."""
        try:
            _, entry = parse_token(after)
        except ValueError as error:
            raise invalid("after", str(error), after) from None
        return await self._api.serving.caught_up(name, entry)

    async def events(self, call: Call) -> Answer:
        """Takes one case, or many as NDJSON, with or without labels; a line that is wrong is rejected alone."""
        name = call.path["model"]
        model = self._api.model(name)

        def read(raw: bytes) -> Draft:
            request = self._event.decode(raw)
            self._check(model, request)
            event = Observed(
                id=request.id or self._api.new_id(),
                features=request.features,
                key=request.key,
                at=request.at,
                label=request.label,
            )
            return Draft(draft_id(event), digest(request), encode(event))

        return answered(await self._take(name, call, read))

    async def labels(self, call: Call) -> Answer:
        """Takes the label of one earlier case, or of many as NDJSON; the model learns from the features of then."""
        name = call.path["model"]
        model = self._api.model(name)

        def read(raw: bytes) -> Draft:
            request = self._label.decode(raw)
            self._api.check_time(request.at)
            self._check_key(model, request.key)
            _check_label(model, request.label)
            event = Labelled(id=request.id, label=request.label, key=request.key, at=request.at)
            return Draft(draft_id(event), digest(request), encode(event))

        answer = await self._take(name, call, read)
        if answer.id is not UNSET:
            request = self._label.decode(call.body)
            ids = [scoped_id(request.id, request.key)]
            partition = partition_of(name, request.key)
            (case,) = await self._api.store.ask(lambda store: store.log.find(partition, ids))
            answer = replace(answer, state="waiting" if case is None else "joined")
        return answered(answer)

    async def _take(self, name: str, call: Call, read: Any) -> BatchAnswer:
        """Appends one draft, or the good ones of a batch."""
        partition = partition_of(name)
        if not is_batch(call):
            draft: Draft = read(call.body)
            outcome = await self._api.writer.append(partition, draft)
            if isinstance(outcome, Conflict):
                raise conflict("event", _bare(draft.id))
            self._api.telemetry.events(name, "accepted", 1)
            entry = token(partition, outcome.entry.id)
            return BatchAnswer(1, [], int(not outcome.fresh), entry, _bare(draft.id))
        good, rejected = sift(call.body, read)
        outcomes = await self._api.writer.append_all(partition, [draft for _, draft in good])
        last, duplicates, accepted = None, 0, 0
        for (line, draft), outcome in zip(good, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                rejected.append(rejection(line, conflict("event", _bare(draft.id))))
                continue
            accepted += 1
            duplicates += not outcome.fresh
            last = outcome.entry.id
        self._api.telemetry.events(name, "accepted", accepted)
        self._api.telemetry.events(name, "rejected", len(rejected))
        self._api.telemetry.rejects(f"model:{name}", (line.status for line in rejected))
        entry = "" if last is None else token(partition, last)
        return BatchAnswer(accepted, sorted(rejected, key=lambda line: line.line), duplicates, entry)

    def _check(self, model: ServedModel, request: EventRequest) -> None:
        """What can be said about an event before the learner sees it."""
        self._api.check_time(request.at)
        self._check_key(model, request.key)
        try:
            model.learner.schema.check(request.features)
        except FeatureError as error:
            raise _feature_problem(error) from None
        if request.label is not UNSET:
            _check_label(model, request.label)

    def _check_key(self, model: ServedModel, key: str | None) -> None:
        if model.spec.key is not None and key is None:
            raise invalid("key", f"the {model.spec.key} that the event is about", NOTHING)
        if model.spec.key is None and key is not None:
            raise invalid("key", f"nothing: the model {model.spec.name!r} declares no key", key)

    def operations(self) -> list[Operation]:
        """What can be asked of a model, and told to it."""
        base = "/v1/models/{model}"
        write: dict[str, Any] = {"problems": ("unknown-model", "conflict", "unavailable"), "scope": "ingest"}
        predict: dict[str, Any] = {**write, "scope": "predict", "hot": True, "request": PredictRequest}
        predict["example"] = {"id": "case-1", "features": {"age": 42, "plan": "basic"}}
        predict["problems"] = (*predict["problems"], "not-learned-yet")
        event: dict[str, Any] = {**write, "request": EventRequest, "batch": True}
        event["example"] = {"id": "case-2", "features": {"age": 35, "plan": "plus"}, "label": True}
        label: dict[str, Any] = {**write, "request": LabelRequest, "batch": True}
        label["example"] = {"id": "case-1", "label": False}
        operations = [
            Operation("POST", f"{base}/predict", "Predict", self.predict, PredictAnswer, **predict),
            Operation("POST", f"{base}/events", "Send events", self.events, BatchAnswer, **event),
            Operation("POST", f"{base}/labels", "Send labels", self.labels, BatchAnswer, **label),
        ]
        return [operation.tagged("models") for operation in operations]


def _predicted(event_id: str, served: Served, seen: EntryId, at: float, entry: str | None) -> PredictAnswer:
    # An id's first part is the milliseconds of its append: enough for an age that a retry computes alike.
    age = max(0.0, at - seen.ms / 1000) if seen.ms else 0.0
    return PredictAnswer(
        id=event_id,
        prediction=served.value,
        model=ModelState(served.learned, served.entry or "0-0", round(age, 3)),
        drift=served.drift,
        probabilities=served.probabilities,
        score=served.score,
        label_wanted=served.label_wanted,
        interval=served.interval,
        entry=entry,
    )


def _feature_problem(error: FeatureError) -> ProblemError:
    field = "features" if error.field == "*" else f"features.{error.field}"
    return invalid(field, error.allowed, NOTHING if error.given is None else error.given)


def _check_label(model: ServedModel, label: Any) -> None:
    try:
        model.task.label(label)
    except LabelError as error:
        raise invalid("label", error.allowed, error.given) from None


def _bare(draft: str) -> str:
    """The id as the caller gave it, from the one under which the log remembers it."""
    return draft.rpartition("\x1f")[2].removesuffix("/label")
