"""River's published progressive figures through the log and the learner, equal to a bare loop to the last bit.

Source: River's benchmark tables for binary and multiclass classification and regression. Where River 0.26.1 itself
gives another figure than its own table, that one is asserted. Sorting keys changes float sums, so that against file
order the printed digits are compared, and against key order every bit.
"""

from collections.abc import Callable
from typing import Any

import pytest
from river import datasets, metrics

from online.backtest import Row, backtest
from online.log import Log
from online.specs import ModelSpec, build, model_spec

SS = {"use": "preprocessing.StandardScaler"}
HT = {"use": "tree.HoeffdingTreeClassifier"}
CLASSIFIERS: dict[str, list[dict[str, Any]]] = {
    "LR": [SS, {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 0.005}}],
    "ALMA": [SS, {"use": "linear_model.ALMAClassifier"}],
    "HT": [HT],
    "HAT": [{"use": "tree.HoeffdingAdaptiveTreeClassifier", "seed": 42}],
    "NB": [{"use": "naive_bayes.GaussianNB"}],
    "BAG": [{"use": "ensemble.ADWINBaggingClassifier", "model": HT, "seed": 42}],
    "NC": [{"use": "dummy.NoChangeClassifier"}],
}
REGRESSORS: dict[str, list[dict[str, Any]]] = {
    "LR": [SS, {"use": "linear_model.LinearRegression"}],
    "HTR": [SS, {"use": "tree.HoeffdingTreeRegressor"}],
    "MEAN": [{"use": "dummy.StatisticRegressor", "statistic": {"use": "stats.Mean"}}],
    "PAR": [SS, {"use": "linear_model.PARegressor", "mode": 1}],
}
ACCURACY = {
    "Phishing": {
        "LR": 0.8872,
        "ALMA": 0.8256,
        "HT": 0.879904,
        "HAT": 0.874299,
        "NB": 0.884708,
        "BAG": 0.893515,
        "NC": 0.515612,
    },
    "Bananas": {
        "LR": 0.543208,
        "ALMA": 0.506415,
        "HT": 0.6431,  # the table has .642197
        "HAT": 0.616531,
        "NB": 0.6154,  # the table has .61521
        "BAG": 0.6184,  # the table has .625967
        "NC": 0.50953,
    },
    "ImageSegments": {
        "HT": 0.778259,  # the table has .776094
        # The table has .774361. Its splits on text labels follow hash order: under other seeds .77696 comes out.
        "HAT": 0.777393,
        "NB": 0.733651,  # the table has .731919
        "NC": 0.148116,
    },
}
MAE = {
    "ChickWeights": {"LR": 23.7587, "HTR": 23.1619, "MEAN": 50.2509, "PAR": 24.3423},
    "TrumpApproval": {"LR": 1.31455, "HTR": 0.956103, "MEAN": 1.56755, "PAR": 4.98403},
}
FIGURES = [("Accuracy", data, name, figure) for data, row in ACCURACY.items() for name, figure in row.items()]
FIGURES += [("MAE", data, name, figure) for data, row in MAE.items() for name, figure in row.items()]
CELLS = [
    # Ten trees take as long as all the others together.
    pytest.param(*cell, id=f"{cell[1]}-{cell[2]}", marks=[pytest.mark.long] if cell[2] == "BAG" else [])
    for cell in FIGURES
]


def declared(metric: str, data: str, name: str) -> ModelSpec:
    if metric == "MAE":
        return model_spec(data.lower(), {"task": "regression", "pipeline": REGRESSORS[name], "metrics": [metric]})
    task = "multiclass" if data == "ImageSegments" else "binary"
    return model_spec(data.lower(), {"task": task, "pipeline": CLASSIFIERS[name], "metrics": [metric]})


def bare_loop(spec: ModelSpec, metric: Any, stream: Any, order: Callable[[Any], Any]) -> float:
    model = build(spec)
    for x, y in stream:
        features = {name: x[name] for name in order(x)}
        predicted = model.predict_one(features)
        if predicted is not None:
            metric.update(y, predicted)
        model.learn_one(features, y)
    return float(metric.get())


def digits(figure: float) -> int:
    return len(str(figure).partition(".")[2])


@pytest.mark.parametrize(("metric", "data", "name", "figure"), CELLS)
def test_the_learner_gives_the_published_figure(metric: str, data: str, name: str, figure: float, log: Log) -> None:
    spec = declared(metric, data, name)
    stream = list(getattr(datasets, data)())
    rows = [Row(x, y) for x, y in stream]
    found = backtest(spec, rows, log, restart_at=len(rows) // 2)
    assert found.metrics[metric] == bare_loop(spec, getattr(metrics, metric)(), stream, sorted)
    in_file_order = round(bare_loop(spec, getattr(metrics, metric)(), stream, list), digits(figure))
    assert in_file_order == figure or (data, name, in_file_order) == ("ImageSegments", "HAT", 0.77696)
    assert found.counts["learned"] == len(rows)
    assert found.counts["rejected"] == 0
