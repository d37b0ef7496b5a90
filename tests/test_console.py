"""The console without a browser: who gets in, what is fetched how often, what needs a person, how figures are made."""

import asyncio
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import msgspec
import pytest

from agents.drawing import draw
from service.console import figures, model, overview, point
from service.console import system as system_page
from service.console.markup import link, plain, seconds, short
from service.console.orders import champions, orders_of, replay, resumed
from service.console.reader import Reader, Unreachable
from service.console.report import page as report_page
from service.console.sessions import Access
from service.console.settings import ConsoleSettings, read
from service.outside.client import ServiceError
from service.processes.supervisor import free_port
from service.settings import SettingsError

TOKEN, LOOK = "operate-with-this-token", "only-look-with-this-token"
RELEASE = {
    "mode": "live",
    "incumbent": "a" * 64,
    "candidate": None,
    "share": 0.0,
    "since": 10.0,
    "reason": "good",
    "actor": "ana",
}


class Service(ThreadingHTTPServer):
    """Answers with what it was told to, and counts what it was asked."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.asked = answers, list[tuple[str, str]]()
        self.notes, self.resumed = dict[str, str](), list[str]()
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("authorization", "")))
        if self.path == "/v1/feed":
            return self._tell()
        status, body = self.server.answers.get(self.path, (404, {"title": "nothing here"}))
        data = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _tell(self) -> None:
        """The notes that there are, and the end of the stream."""
        self.server.resumed.append(self.headers.get("last-event-id", ""))
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        for note, subject in list(self.server.notes.items()):
            if note > self.server.resumed[-1]:
                data = msgspec.json.encode({"text": "moved", "subject": subject}).decode()
                self.wfile.write(f"id: {note}\nevent: drift\ndata: {data}\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def serve():
    started = []

    def start(**answers: Any) -> Service:
        found = Service({f"/v1/{name}": answer for name, answer in answers.items()})
        started.append(found)
        return found

    yield start
    for service in started:
        service.shutdown()
        service.server_close()


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(work())


def test_many_viewers_cost_one_request(serve) -> None:
    service, now = serve(system=(200, {"at": 1})), [0.0]

    async def look() -> None:
        reader = Reader(service.url, clock=lambda: now[0])
        await asyncio.gather(*(reader.get("/v1/system", 1.0) for _ in range(20)))
        await reader.get("/v1/system", 1.0)
        assert len(service.asked) == 1
        now[0] = 1.1
        assert await reader.get("/v1/system", 1.0) == {"at": 1}
        assert len(service.asked) == 2
        await reader.close()

    run(look)


def test_a_service_that_is_away_leaves_what_was_known(serve) -> None:
    service, now = serve(system=(200, {"at": 1})), [0.0]

    async def look() -> None:
        reader = Reader(service.url, clock=lambda: now[0])
        await reader.get("/v1/system")
        service.answers["/v1/system"] = (503, {"title": "away"})
        now[0] = 5.0
        assert await reader.get("/v1/system") == {"at": 1}
        assert "503" in reader.trouble
        assert reader.silent_s == 5.0
        with pytest.raises(Unreachable):
            await reader.get("/v1/other") if service.answers.setdefault("/v1/other", (503, {})) else None
        service.answers["/v1/system"] = (200, {"at": 2})
        now[0] = 7.0
        assert await reader.get("/v1/system") == {"at": 2}
        assert reader.trouble == ""
        await reader.close()

    run(look)


def test_what_happens_is_asked_for_at_once_and_nothing_else(serve) -> None:
    service = serve(system=(200, {"at": 1}))
    service.answers |= {"/v1/points/price": (200, 1), "/v1/points/stock": (200, 2)}
    service.notes["1"] = "point:price"
    paths = ["/v1/system", "/v1/points/price", "/v1/points/stock"]

    async def look() -> None:
        reader = Reader(service.url, "key")

        async def seen() -> list[str]:
            del service.asked[:]
            for path in paths:
                await reader.get(path, 60.0)
            return [path for path, _ in service.asked if path in paths]

        assert await seen() == paths
        reader.listen()
        while reader.news < 1:
            await asyncio.sleep(0.01)
        assert await seen() == paths[:2]
        service.notes["2"] = "point:stock"
        while reader.news < 2:
            await asyncio.sleep(0.01)
        assert await seen() == [paths[0], paths[2]]
        assert service.resumed[:2] == ["", "1"]
        await reader.close()

    run(look)


def test_news_are_followed_only_while_somebody_looks(serve) -> None:
    service, now = serve(), [0.0]
    service.notes["1"] = "point:price"

    async def look() -> None:
        reader = Reader(service.url, clock=lambda: now[0])
        reader.listen()
        while reader.news < 1:
            await asyncio.sleep(0.01)
        now[0] = 60.0
        await asyncio.sleep(1.5)
        before = len(service.resumed)
        await asyncio.sleep(1.5)
        assert len(service.resumed) == before
        await reader.close()

    run(look)


def test_a_refusal_is_said_and_not_mistaken_for_silence(serve) -> None:
    service = serve()

    async def look() -> None:
        reader = Reader(service.url)
        with pytest.raises(ServiceError, match="404"):
            await reader.get("/v1/points/none")
        assert reader.trouble == ""
        assert reader.peek("/v1/points/none") is None
        await reader.close()

    run(look)


def test_a_service_without_keys_is_open_to_this_machine(serve) -> None:
    service = serve()
    session = run(lambda: Access(ConsoleSettings(url=service.url), lambda: 0.0).session(None))
    assert session is not None
    assert session.acts


def test_a_service_with_keys_says_what_a_key_may_do(serve) -> None:
    service = serve(me=(401, {"title": "send a key"}))
    access = Access(ConsoleSettings(url=service.url), lambda: 0.0)
    assert run(lambda: access.session(None)) is None
    assert run(lambda: access.admit("tt_bad_key")) is None
    service.answers["/v1/me"] = (200, {"key": "k1", "scopes": ["read"]})
    session = run(lambda: access.admit("tt_k1_secret"))
    assert (session.name, session.acts) == ("k1", False)
    assert service.asked[-1] == ("/v1/me", "Bearer tt_k1_secret")
    assert run(lambda: access.session(session.id)) is session
    service.answers["/v1/me"] = (200, {"key": "k2", "scopes": ["read", "operate"]})
    assert run(lambda: access.admit("tt_k2_secret")).acts


def test_the_consoles_own_tokens_open_it_where_the_service_has_no_keys(serve) -> None:
    now = [0.0]
    settings = ConsoleSettings(url=serve().url, operator_token=TOKEN, read_token=LOOK)
    access = Access(settings, lambda: now[0])
    assert run(lambda: access.session(None)) is None
    assert run(lambda: access.admit("wrong")) is None
    assert run(lambda: access.admit("")) is None
    operator, reader = run(lambda: access.admit(TOKEN)), run(lambda: access.admit(LOOK))
    assert (operator.acts, reader.acts) == (True, False)
    assert access.lives(operator)
    run(lambda: access.end(operator.id))
    assert not access.lives(operator)
    assert run(lambda: access.session(operator.id)) is None
    now[0] = 13 * 3600.0
    assert run(lambda: access.session(reader.id)) is None


def test_while_the_service_is_away_nobody_may_act() -> None:
    away = f"http://127.0.0.1:{free_port('127.0.0.1', 0)}"
    session = run(lambda: Access(ConsoleSettings(url=away), lambda: 0.0).session(None))
    assert session is not None
    assert not session.acts


def test_settings_keep_the_console_private(monkeypatch) -> None:
    with pytest.raises(SettingsError, match="TRIMTAB_CONSOLE_TRUST_NETWORK"):
        read(host="0.0.0.0")
    monkeypatch.setenv("TRIMTAB_CONSOLE_OPERATOR_TOKEN", "short")
    with pytest.raises(SettingsError, match="OPERATOR_TOKEN") as caught:
        read()
    assert "'short'" not in str(caught.value)


def system(**changes: Any) -> dict[str, Any]:
    priced = {
        "name": "price",
        "world": "pricing",
        "baseline": "rule",
        "release": RELEASE,
        "decisions": 10,
        "pending": 1,
        "rejected": 0,
        "lag": 0,
        "age_s": 0.5,
        "values": [],
        "error": "",
    }
    return {
        "at": 100.0,
        "age_s": 0.1,
        "processes": [],
        "models": [],
        "points": [priced],
        "jobs": [],
        "feed": [],
    } | changes


def unknown(path: str, fresh_s: float) -> None:
    """Nothing is known yet."""


def test_what_is_broken_comes_before_what_is_worth_a_look() -> None:
    calm = system()
    assert overview.needs(calm, unknown) == []
    assert "Nothing needs you" in overview.attention(calm, unknown)
    troubled = system(processes=[{"process": "learner", "age_s": 60.0}])
    troubled["points"][0] |= {"rejected": 3, "error": "no bundle"}
    assert [need.tone for need in overview.needs(troubled, unknown)] == ["bad", "bad", "warn"]


def test_a_world_of_the_wrong_shape_and_a_hold_are_said_first_on_the_overview_and_on_the_point() -> None:
    loop = {"attention": "a person is needed: no <parameters> fit", "paused": "ana keeps it", "stage": "steady"}
    asked = []

    def peek(where: str, _: float) -> dict[str, str]:
        asked.append(where)
        return loop

    bad, warn = overview.needs(system(), peek)
    assert asked == ["/v1/points/price/adaptation"]
    assert (bad.tone, warn.tone) == ("bad", "warn")
    assert "a person is needed: no &lt;parameters&gt; fit" in bad.what
    assert "held: ana keeps it" in warn.what
    shown = point.title(system()["points"][0], loop)
    assert "a person is needed: no &lt;parameters&gt; fit" in shown


def test_a_bandit_is_named_offered_and_never_linked_to_a_bundles_page() -> None:
    release = RELEASE | {"incumbent": "bandit:offers"}
    answer = {"release": release, "policies": [], "held": None, "bandits": {"bandit:offers": 1200}}
    orders = {order.name: order for order in orders_of("price", answer)}
    assert orders["Promote"].fields["digest"] == {"bandit:offers": "bandit:offers · 1200 rewards"}
    assert orders["Promote"].body({"digest": "bandit:offers"}) == {"digest": "bandit:offers"}
    head = point.title(system()["points"][0] | {"release": release}, None)
    assert "<code>bandit:offers</code> serves" in head
    assert "/policies/" not in head
    assert "1,200" in point.policies("price", answer)


def test_a_failed_job_is_forgotten_once_one_has_succeeded() -> None:
    failed = {"point": "price", "kind": "train", "state": "failed", "detail": {"error": "too slow"}}
    assert len(overview.needs(system(jobs=[failed]), unknown)) == 1
    # The newest job comes first.
    assert overview.needs(system(jobs=[failed | {"state": "done"}, failed]), unknown) == []


def test_an_overview_of_nothing_says_what_to_do() -> None:
    empty = system(points=[])
    assert "PUT /v1/points/NAME" in overview.points(empty, lambda *_: None)
    assert "PUT /v1/models/NAME" in overview.models(empty, lambda *_: None)


def test_what_redis_lacks_is_shown_with_its_cure() -> None:
    checks = [
        {"name": "writes", "ok": True, "text": "accepted"},
        {"name": "memory", "ok": False, "text": "full: raise <maxmemory>"},
    ]
    html = system_page.store({"checks": checks})
    assert html.count("well") == 1
    assert html.count("mend") == 1
    assert "raise &lt;maxmemory&gt;" in html
    assert "own memory" in system_page.store({"checks": []})


def test_orders_fit_what_stands() -> None:
    bundle = {"digest": "b" * 64, "algo": "ppo", "kind": "network", "role": ""}
    bare = {"release": RELEASE, "policies": [], "held": None, "bandits": {}}
    assert "Promote" not in [order.name for order in orders_of("price", bare)]
    full = {"release": RELEASE, "policies": [bundle], "held": {"on": True}, "bandits": {}}
    orders = {order.name: order for order in orders_of("a/b", full)}
    assert {"Stop", "Roll back", "Mode", "Promote", "Train now", "Release hold"} == set(orders)
    assert orders["Stop"].path == "/v1/policies/a%2Fb/mode"
    assert orders["Stop"].body({}) == {"mode": "off"}
    assert orders["Mode"].body({"mode": "live", "digest": ""}) == {"mode": "live"}


def test_a_challenger_that_learns_well_can_be_served() -> None:
    rows = [{"name": "tree", "trouble": None}, {"name": "broken", "trouble": "out of memory"}]
    (order,) = champions("churn", {"champion": "declared", "challengers": rows})
    assert (order.path, order.body({})) == ("/v1/models/churn/champion", {"champion": "tree"})
    assert champions("churn", {"champion": "declared"}) == []
    (again,) = resumed("churn", {"halted": "drift"})
    assert (again.path, again.body({})) == ("/v1/models/churn/resume", {})
    assert resumed("churn", {"halted": "ceiling"}) == resumed("churn", {"halted": None}) == []
    assert resumed("churn", {"halted": None, "challengers": [{"halted": "drift"}]}) != []
    assert resumed("churn", {"halted": "ceiling", "challengers": [{"halted": "drift"}]}) == []


def test_a_model_says_that_it_stands_still_or_that_a_change_may_be_coming() -> None:
    told = {"name": "churn", "task": "binary", "drift": True, "key": None, "spec": {}, "champion": "declared"}
    assert "learns no more" in model.title({**told, "halted": "drift", "warnings": ["error"]})
    coming = model.title({**told, "halted": None, "warnings": ["error"]})
    assert "learns no more" not in coming
    assert "a change may be coming, by error" in coming
    assert "warning" not in model.title({**told, "halted": None, "warnings": []})
    tree = {"name": "tree", "trouble": None, "finding": None, "metrics": {}}
    assert "learns no more" in model.challengers({"challengers": [{**tree, "halted": "drift"}]})
    assert "not yet" in model.challengers({"challengers": [{**tree, "halted": None}]})


def test_each_feature_shows_what_was_missing_refused_or_new() -> None:
    counted = {"seen": 200, "missing": 30, "refused": 3, "new": 2, "out_of_range": 2, "wrong_type": 0, "not_allowed": 1}
    html = model.features({"features": {"price": "a <number>", "hour": "a number"}, "quality": {"price": counted}})
    assert "a &lt;number&gt;" in html
    assert "15.0 %" in html
    assert "2 out of range, 1 not allowed" in html
    assert html.count(">–</td>") == 4
    assert "declares" in model.features({"features": {"price": "number"}, "quality": {}})


def test_labels_say_what_is_asked_for_and_whether_the_foreseen_accuracy_can_be_believed() -> None:
    counts = {"pending": 25, "labelled": 75}
    assert "no label is asked for" in model.labels({"counts": counts})
    foreseen = {"accuracy": 0.87, "predictions": 500, "gap": -0.02, "labels": 75, "calibrated": False}
    wanted = {"budget": 0.1, "predictions": 400, "wanted": 20}
    html = model.labels({"counts": counts, "labels_wanted": wanted, "estimated": foreseen})
    assert [words in html for words in ("25 (25.0 %)", "20 of 400", "5.0 % of 10.0 %", "−2.0 % over 75")] == [True] * 4
    assert "not to be believed" in html
    unknown_yet = foreseen | {"accuracy": None, "gap": None, "calibrated": None}
    assert "foreseen" not in model.labels({"counts": counts, "estimated": unknown_yet})


def test_a_gain_of_nothing_but_rounding_reads_as_nothing() -> None:
    gain = {"value": 1.8e-15, "interval": [1.8e-15, 1.8e-15]}
    compared = {"role": "baseline", "policy": "rule", "unit": "episode", "agreement": 0.9, "said": "no", "report": {}}
    report = {"decisions": 9, "comparisons": [compared | {"report": {"verdict": "better", "gain": gain}}]}
    assert "0 <small>(0 … 0)</small>" in point.evidence(report)


def test_what_was_answered_is_drawn_beside_what_the_learner_knew() -> None:
    bucket = {"at": 0.0, "labels": 2, "error": {"mid": 0.5, "low": None, "high": None}, "served": None}
    (own,) = figures.error_chart({"buckets": [bucket], "width": 10}, []).lines
    assert own.y == [0.5]
    asked = bucket | {"at": 10.0, "served": {"mid": 0.75, "low": 0.5, "high": 1.0}}
    chart = figures.error_chart({"buckets": [bucket, asked], "width": 10}, [])
    assert [(line.name, line.y) for line in chart.lines] == [
        ("learner's own", [0.5, 0.5]),
        ("as answered", [None, 0.75]),
    ]


def test_a_rejected_entry_comes_back_as_it_was_or_mended() -> None:
    order = replay("churn", {"entry": "1-0", "id": "a", "event": {"features": {"x": "one"}, "at": 5.0}})
    assert order.path == "/v1/models/churn/rejects/1-0/replay"
    written = order.texts["event"]
    assert order.body({"event": written}) == {}
    assert order.body({"event": written.replace('"one"', "1")}) == {"event": {"features": {"x": 1}}}
    with pytest.raises(ValueError, match="no JSON"):
        order.body({"event": "{"})
    assert replay("churn", {"entry": "1-0", "id": "a", "event": None}).texts == {}


def test_a_share_of_the_optimum_is_read_between_the_cells_of_the_grid() -> None:
    worth = {
        "axes": [{"name": "k", "values": [1.0, 2.0, 4.0]}],
        "values": {"optimum": [10.0, 20.0, 40.0], "x": [5.0, 20.0, 10.0]},
    }

    def share(at: float) -> float | None:
        return figures.share_now({"parameters": [{"name": "k", "mid": at}]}, worth, "x")

    assert [share(at) for at in (0.5, 1.0, 1.5, 2.0, 3.0, 9.0)] == pytest.approx([0.5, 0.5, 12.5 / 15, 1.0, 0.5, 0.25])
    assert figures.share_now({"parameters": []}, worth, "x") is None
    assert figures.share_now({"parameters": []}, worth, "unknown") is None


def test_regret_is_a_line_over_one_parameter_and_a_map_over_two() -> None:
    beliefs = {"parameters": [{"name": "k", "mid": 1.5, "trained": [1.0, 2.0]}]}
    line = {
        "axes": [{"name": "k", "values": [1.0, 2.0]}],
        "values": {"optimum": [10.0, 20.0], "x": [9.0, 20.0]},
        "said": "",
    }
    chart = figures.regret(line, {"x": "mine"}, beliefs)
    assert chart.lines[0].y == [10.0, 0.01]  # type: ignore[union-attr]
    square = line | {"axes": [{"name": "a", "values": [1.0]}, {"name": "b", "values": [1.0, 2.0]}]}
    assert figures.regret(square, {"x": "mine"}, beliefs).cells == [[10.0, 0.0]]  # type: ignore[union-attr]
    large = {"axes": [], "values": {}, "said": "too large"}
    assert "too large" in draw(figures.regret(large, {"x": "mine"}, beliefs))


def test_everything_of_others_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    troubled = system(models=[], feed=[{"at": 1.0, "kind": "error", "text": evil, "source": "x"}])
    troubled["points"][0] |= {"name": evil, "error": evil}
    for html in (
        overview.attention(troubled, unknown),
        overview.points(troubled, lambda *_: None),
        overview.feed(troubled["feed"]),
    ):
        assert "<script>" not in html
    assert "javascript:" not in link("x", "javascript:alert(1)")


def test_values_read_well() -> None:
    assert [plain(value) for value in (None, True, 1234, 0.12345, ["a", 1])] == ["–", "yes", "1,234", "0.1235", "a, 1"]
    assert (seconds(None), seconds(0.25), seconds(3 * 86_400)) == ("–", "250 ms", "3 d")
    assert (short("a" * 64), short("best-fixed-price")) == ("a" * 10, "best-fixed-price")


def test_a_report_is_one_page_without_outside_parts(service) -> None:
    for i in range(12):
        service.post("/v1/decisions/price", {"id": f"d{i}", "context": {"stock": 3, "period": 1}})
        service.post("/v1/decisions/price/outcomes", {"id": f"d{i}", "fields": {"sold": i % 2}})
    service.settle()
    where, policies = "/v1/points/price", "/v1/policies/price"
    parts = {name: f"{where}/{name}" for name in ("series", "beliefs", "worth", "adaptation")}
    parts |= {"system": "/v1/system", "point": where, "report": "/v1/decisions/price/report"}
    parts |= {"policies": policies, "releases": f"{policies}/releases"}
    html = report_page({name: service.get(path) for name, path in parts.items()})
    assert "Share of the optimum" in html
    assert "src=" not in html
    assert "@import" not in html
