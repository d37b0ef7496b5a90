"""Reports and exports over HTTP: the same figures whichever way the log is read back."""

import io

import numpy as np
import pandas as pd
import pytest

PRICE = "/v1/decisions/price"
FARE = "/v1/decisions/fare"
CONTEXT = {"stock": 3, "period": 2}


@pytest.fixture
def played(service):
    """Sixty decisions, two thirds with an outcome worth twice the price, a third left to default."""
    rng = np.random.default_rng(1)
    for i in range(60):
        context = {"stock": int(rng.integers(1, 6)), "period": int(rng.integers(0, 10))}
        answer = service.post(PRICE, {"id": f"d{i}", "context": context})
        if i % 3:
            service.clock.now += 2
            service.post(f"{PRICE}/outcomes", {"id": f"d{i}", "value": 2.0 * answer["action"]})
    service.settle()
    service.clock.now += 3700
    service.settle()
    return service


def exported(service, kind, query=""):
    response = service.client.get(f"{PRICE}/export?format={kind}{query}")
    assert response.is_success
    assert f'filename="price.{kind}"' in response.headers["content-disposition"]
    read = pd.read_parquet if kind == "parquet" else pd.read_csv
    return read(io.BytesIO(response.content))


def test_the_report_counts_states_and_values(played):
    report = played.get(f"{PRICE}/report")
    assert report["decisions"] == 60
    assert report["states"] == {"defaulted": 20, "rewarded": 40}
    assert report["defaulted_share"] == pytest.approx(1 / 3)
    assert report["outcome_delay"]["p50"] == 2.0
    (value,) = report["policies"]
    assert (value["decisions"], value["rewarded"], value["defaulted"]) == (60, 40, 20)
    assert value["value"]["low"] < value["value"]["mean"] < value["value"]["high"]
    assert sum(value["actions"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_export_gives_the_same_figures_to_pandas(played, kind):
    frame = exported(played, kind)
    value = played.get(f"{PRICE}/report")["policies"][0]["value"]
    assert frame["reward"].mean() == pytest.approx(value["mean"], abs=1e-12)
    half = 1.959963984540054 * frame["reward"].std() / 60**0.5
    assert frame["reward"].mean() + half == pytest.approx(value["high"], abs=1e-9)
    assert (frame["state"] == "defaulted").sum() == 20
    rewarded = frame[frame["state"] == "rewarded"]
    assert np.allclose(rewarded["reward"], 2 * rewarded["action"])
    assert frame["context.stock"].between(1, 5).all()
    trace = played.get(f"{PRICE}/{frame['id'][7]}")
    assert frame["propensity"][7] == pytest.approx(trace["propensity"])
    assert frame["entry"][7] == trace["entry"]


def test_the_export_can_be_cut_to_the_last_decisions(played):
    assert exported(played, "parquet", "&last=5")["id"].tolist() == [f"d{i}" for i in range(55, 60)]
    assert played.get(f"{PRICE}/report?last=5")["decisions"] == 5
    for query in ("last=0", "last=x", "last=-1", "last=99999999999999999999"):
        assert played.refused(f"{PRICE}/report?{query}", None, method="GET")["errors"][0]["field"] == "last"
    assert played.refused(f"{PRICE}/export?format=xls", None, method="GET")["errors"][0]["field"] == "format"


def test_what_others_would_have_earned_is_estimated_with_its_verdict(service, make_bundle):
    """Rewards are the price itself: a policy that always asks for the most is worth 0.8 · 2.5 + 0.2 · 1.75 = 2.35."""
    explored = make_bundle(np.zeros((4, 3)))
    best = make_bundle([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 50]])
    logging, candidate = (
        service.client.post("/v1/policies/price", content=data).json()["digest"] for data in (explored, best)
    )
    service.post("/v1/policies/price/promote", {"digest": logging, "reason": "explore"})
    service.post("/v1/policies/price/mode", {"mode": "shadow", "digest": candidate, "reason": "trial"})
    outcomes = []
    for i in range(600):
        answer = service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
        outcomes.append({"id": f"d{i}", "value": answer["action"]})
    service.lines(f"{PRICE}/outcomes", outcomes)
    service.settle()
    report = service.get(f"{PRICE}/report")
    roles = {comparison["role"]: comparison for comparison in report["comparisons"]}
    assert set(roles) == {"baseline", "incumbent", "candidate"}
    found = roles["candidate"]["report"]
    low, high = found["estimates"]["snips"]["interval"]
    assert low <= 2.35 <= high
    assert found["verdict"] == "better"
    assert found["diagnostics"]["effective"] < 600
    assert roles["incumbent"]["report"]["verdict"] == "not enough evidence"
    assert roles["incumbent"]["agreement"] == pytest.approx(0.25)


def test_a_canary_reports_each_arm(service, make_bundle):
    incumbent, candidate = (
        service.client.post("/v1/policies/price", content=make_bundle(note=note)).json()["digest"]
        for note in ("a", "b")
    )
    service.post("/v1/policies/price/promote", {"digest": incumbent, "reason": "first"})
    trial = {"mode": "canary", "digest": candidate, "share": 0.5, "reason": "trial"}
    service.post("/v1/policies/price/mode", trial)
    for i in range(40):
        service.post(PRICE, {"id": f"d{i}", "context": CONTEXT})
    service.settle()
    arms = {value["arm"]: value["policy"] for value in service.get(f"{PRICE}/report")["policies"]}
    assert arms == {"incumbent": incumbent, "candidate": candidate}


def test_episodes_are_evaluated_as_wholes(service):
    for episode in range(30):
        for step in range(3):
            name = f"{episode}-{step}"
            service.post(PRICE, {"id": name, "episode": f"e{episode}", "context": CONTEXT})
            service.post(f"{PRICE}/outcomes", {"id": name, "value": 1.0})
    service.settle()
    (baseline,) = service.get(f"{PRICE}/report")["comparisons"]
    assert baseline["unit"] == "episode"
    assert baseline["report"]["logged"]["value"] == pytest.approx(3.0)
    assert baseline["report"]["diagnostics"]["n"] == 30


def test_a_point_without_decisions_reports_nothing_and_exports_an_empty_table(service):
    report = service.get(f"{PRICE}/report")
    assert (report["decisions"], report["policies"], report["comparisons"]) == (0, [], [])
    assert len(exported(service, "parquet")) == 0
    assert "context.stock" in exported(service, "csv").columns


def test_a_deferred_decision_that_was_never_used_is_worth_nothing(service):
    service.post(PRICE, {"id": "d1", "context": CONTEXT, "deferred": True})
    service.settle()
    service.clock.now += 3700
    service.settle()
    report = service.get(f"{PRICE}/report")
    assert report["states"] == {"inactive": 1}
    assert report["policies"][0]["value"] is None
