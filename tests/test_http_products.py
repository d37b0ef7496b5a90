"""Over HTTP: a point whose action is a product of lists, a price for each of three products that share two legs."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from online.events import decode
from online.log import START, Partition

FARES = "/v1/decisions/fares"
LADDER = [0.5, 1.0, 1.5, 2.0]
CONTEXT = {"capacity[0]": 5, "capacity[1]": 3, "period": 2}
MANIFEST = {
    "points": {
        "fares": {
            "world": "pricing-network",
            "params": {"prices": LADDER},
            "mode": "live",
            "exploration": {"share": 0.4, "over": "neighbours"},
        }
    }
}


@pytest.fixture
def service(start_service):
    return start_service(MANIFEST)


def test_a_point_says_what_each_factor_can_be(service):
    described = service.get("/v1/points/fares")
    assert (described["actions"], described["factors"]) == (LADDER, 3)


def test_a_decision_its_outcome_and_its_trace(service):
    answer = service.post(FARES, {"id": "d1", "context": CONTEXT, "allowed": [LADDER, [1.0, 1.5], LADDER]})
    assert answer["action"] == [LADDER[i] for i in answer["index"]]
    lists = np.array(answer["probabilities"]).reshape(3, 4)
    assert lists.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
    assert lists[1, [0, 3]].tolist() == [0.0, 0.0]
    assert answer["propensity"] == pytest.approx(np.prod(lists[np.arange(3), answer["index"]]), rel=1e-12)
    sold = {"sold[0]": 0, "sold[1]": 1, "sold[2]": 0}
    service.post(f"{FARES}/outcomes", {"id": "d1", "fields": sold})
    service.settle()
    trace = service.get(f"{FARES}/d1")
    assert trace["reward"] == answer["action"][1]
    assert trace["index"] == answer["index"]
    assert len(trace["draw"]) == 3
    assert trace["allowed"] == [True] * 4 + [False, True, True, False] + [True] * 4
    assert service.post(FARES, {"id": "d1", "context": CONTEXT, "allowed": [LADDER, [1.0, 1.5], LADDER]}) == answer


def test_prices_come_as_often_as_the_log_says(service):
    for number in range(1500):
        service.post(FARES, {"id": f"d{number}", "context": CONTEXT})
    events = [decode(entry.payload) for entry in service.make_log().read(Partition("point:fares"), START, 2000)]
    lists = np.array(events[0].probabilities).reshape(3, 4)
    wanted = np.einsum("i,j,k->ijk", *lists) * len(events)
    seen = np.zeros((4, 4, 4))
    for event in events:
        seen[tuple(event.index)] += 1
        assert event.propensity == pytest.approx(wanted[tuple(event.index)] / len(events), rel=1e-12)
    possible = wanted > 0
    assert seen[~possible].sum() == 0
    # Cells that expect few are put together.
    often = wanted >= 10
    cells = [(seen[often], wanted[often]), (seen[possible & ~often].sum(), wanted[possible & ~often].sum())]
    statistic = sum(float(((s - w) ** 2 / w).sum()) for s, w in cells if np.sum(w) > 0)
    assert stats.chi2.sf(statistic, int(often.sum())) > 1e-6


def test_the_report_and_the_export_know_products(service):
    total = 0.0
    for number in range(120):
        answer = service.post(FARES, {"id": f"d{number}", "context": CONTEXT, "baseline": [1.0, 1.0, 1.0]})
        total += answer["action"][0]
        service.post(f"{FARES}/outcomes", {"id": f"d{number}", "value": answer["action"][0]})
    service.settle()
    report = service.get(f"{FARES}/report")
    (policy,) = report["policies"]
    assert policy["value"]["mean"] == pytest.approx(total / 120)
    # Each factor's shares sum to 1.
    assert sum(policy["actions"].values()) == pytest.approx(3.0)
    assert all(name.startswith("prices[") for name in policy["actions"])
    assert report["comparisons"][0]["policy"] == policy["policy"]
    table = pd.read_parquet(io.BytesIO(service.client.get(f"{FARES}/export").content))
    assert table["reward"].sum() == pytest.approx(total)
    assert [list(one) for one in table["baseline"]] == [[1, 1, 1]] * 120
