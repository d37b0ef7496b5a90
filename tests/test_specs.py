"""Declared models: what can be named, what cannot, and where an error points."""

import inspect
import pickle
from typing import Any

import pytest
import river
from river import api, base, linear_model, metrics, optim, preprocessing, tree

from online.components import MODULES, REFUSED, ComponentError, component, construct, hash_seeded, resolve
from online.reading import SpecError
from online.specs import METRICS, TASKS, build, model_spec

SGD = {"use": "optim.SGD", "lr": 0.005}
LOGISTIC = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression", "optimizer": SGD}]

LINEAR = {"use": "linear_model.LinearRegression"}


def binary(**changes: Any) -> dict[str, Any]:
    return {"task": "binary", "pipeline": LOGISTIC} | changes


def test_a_spec_builds_what_one_would_write_by_hand() -> None:
    by_hand = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    assert repr(build(model_spec("churn", binary()))) == repr(by_hand)


def test_every_build_is_new() -> None:
    spec = model_spec("churn", binary())
    first, second = build(spec), build(spec)
    first.learn_one({"x": 1.0}, True)
    assert second.predict_proba_one({"x": 1.0}) == {False: 0.5, True: 0.5}


def test_a_spec_has_sensible_defaults_for_each_task() -> None:
    spec = model_spec("churn", binary())
    assert [item.use for item in spec.metrics] == [f"metrics.{name}" for name in METRICS["binary"]]
    assert spec.detectors["error"].use == "drift.ADWIN"
    assert spec.label_wait is None
    assert set(METRICS) == set(TASKS)


@pytest.mark.parametrize(
    ("task", "pipeline"),
    [
        ("multiclass", [{"use": "naive_bayes.GaussianNB"}]),
        ("regression", [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LinearRegression"}]),
        ("anomaly", [{"use": "preprocessing.MinMaxScaler"}, {"use": "anomaly.HalfSpaceTrees", "seed": 42}]),
        ("anomaly", [{"use": "anomaly.GaussianScorer"}]),
        ("clustering", [{"use": "cluster.KMeans", "n_clusters": 3}]),
        ("forecasting", [{"use": "time_series.SNARIMAX", "p": 1, "d": 0, "q": 1}]),
        ("recommendation", [{"use": "reco.BiasedMF"}]),
        ("binary", [{"use": "multiclass.OneVsRestClassifier", "classifier": {"use": "linear_model.Perceptron"}}]),
        (
            "regression",
            [{"use": "preprocessing.TargetStandardScaler", "regressor": {"use": "linear_model.LinearRegression"}}],
        ),
        (
            "regression",
            [
                {
                    "use": "compose.TargetTransformRegressor",
                    "regressor": LINEAR,
                    "func": "log1p",
                    "inverse_func": "expm1",
                }
            ],
        ),
        (
            "binary",
            [
                {
                    "use": "compose.TransformerUnion",
                    "transformers": [
                        [{"use": "compose.Select", "keys": ["a", "b"]}, {"use": "preprocessing.StandardScaler"}],
                        {"use": "compose.SelectType", "types": ["string"]},
                    ],
                },
                {"use": "ensemble.BaggingClassifier", "model": LOGISTIC, "n_models": 3},
            ],
        ),
    ],
)
def test_every_task_can_be_declared(task: str, pipeline: list[Any]) -> None:
    spec = model_spec("m", {"task": task, "pipeline": pipeline})
    assert pickle.loads(pickle.dumps(build(spec))) is not None


@pytest.mark.parametrize(
    ("table", "path", "said"),
    [
        (binary(task="guessing"), "models.churn.task", "binary, multiclass"),
        (binary(pipeline=[]), "models.churn.pipeline", "a list of tables"),
        (binary(tasks="binary"), "models.churn.tasks", "a field of a model"),
        (
            binary(pipeline=[{"use": "linear_model.LogReg"}]),
            "models.churn.pipeline[0].use",
            "linear_model.LogisticRegression",
        ),
        (binary(pipeline=[{"use": "os.system"}]), "models.churn.pipeline[0].use", "<module>.<class>"),
        (binary(pipeline=[{"kind": "x"}]), "models.churn.pipeline[0]", "a table {use"),
        (
            binary(
                pipeline=[LOGISTIC[0], {"use": "linear_model.LogisticRegression", "optimizer": SGD | {"lr": "fast"}}]
            ),
            "models.churn.pipeline[1].optimizer.lr",
            "a number",
        ),
        (
            binary(pipeline=[LOGISTIC[0], {"use": "linear_model.LogisticRegression", "optimiser": SGD}]),
            "models.churn.pipeline[1].optimiser",
            "optimizer",
        ),
        (
            binary(pipeline=[{"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.losses.Log"}}]),
            "models.churn.pipeline[0].optimizer",
            "Optimizer",
        ),
        (binary(pipeline=[LOGISTIC[1], LOGISTIC[1]]), "models.churn.pipeline[0].use", "a transformer"),
        (binary(pipeline=[{"use": "linear_model.LinearRegression"}]), "models.churn.pipeline[0].use", "Classifier"),
        (binary(task="multiclass"), "models.churn.pipeline", "several classes"),
        (binary(metrics=["MAE"]), "models.churn.metrics[0]", "fits the task 'binary'"),
        (binary(metrics=["Sharpness"]), "models.churn.metrics[0].use", "metrics.ROCAUC"),
        (binary(metrics="ROCAUC"), "models.churn.metrics", "a list"),
        (binary(on_drift="panic"), "models.churn.on_drift", "keep, reset, replace, raise"),
        (binary(label_wait="soon"), "models.churn.label_wait", "24h"),
        (binary(detectors={"error": "optim.SGD"}), "models.churn.detectors.error.use", "drift detector"),
        (binary(features={"a": {"type": "colour"}}), "models.churn.features.a.type", "number, category"),
        (binary(features={"a": {"unti": "K"}}), "models.churn.features.a.unti", "a field of a feature"),
        (binary(features={"a": {"range": [2, 1]}}), "models.churn.features.a.range", "the lower first"),
        (binary(features={"a": {"range": [0, 1], "default": 7}}), "models.churn.features.a.default", "up to 1"),
        (
            binary(features={"a": "number"}, detectors={"b": "ADWIN"}),
            "models.churn.detectors.b",
            "a feature, or one of",
        ),
        (
            {"task": "binary", "pipeline": [{"use": "ensemble.BaggingClassifier"}]},
            "models.churn.pipeline[0].model",
            "cannot do without",
        ),
        (
            {"task": "clustering", "pipeline": [{"use": "cluster.KMeans", "n_clusters": True}]},
            "models.churn.pipeline[0].n_clusters",
            "a number",
        ),
    ],
)
def test_an_error_names_the_path_and_what_is_allowed(table: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        model_spec("churn", table)
    assert caught.value.path == path
    assert said in caught.value.allowed
    assert str(caught.value).startswith(f"{path}: given ")


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ({"use": "forest.ARFClassifier"}, "max_depth = 6"),
        ({"use": "forest.AMFClassifier"}, "allow_unbounded = true"),
        ({"use": "ensemble.SRPClassifier"}, 'model = {use = "tree.HoeffdingTreeClassifier", max_depth = 6}'),
    ],
)
def test_a_forest_without_bound_is_refused_with_the_line_that_bounds_it(step: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        model_spec("m", {"task": "binary", "pipeline": [step]})
    assert line in caught.value.allowed
    model_spec("m", {"task": "binary", "pipeline": [step], "allow_unbounded": True})


def test_the_line_that_bounds_a_forest_is_accepted() -> None:
    model_spec("m", {"task": "binary", "pipeline": [{"use": "forest.ARFClassifier", "max_depth": 6}]})
    tree_model = {"use": "tree.HoeffdingTreeClassifier", "max_depth": 6}
    model_spec("m", {"task": "binary", "pipeline": [{"use": "ensemble.SRPClassifier", "model": tree_model}]})
    bagged = {"use": "ensemble.BaggingClassifier", "model": {"use": "forest.ARFClassifier"}}
    with pytest.raises(SpecError, match=r"pipeline\[0\]\.model\.max_depth"):
        model_spec("m", {"task": "binary", "pipeline": [bagged]})


def test_classes_that_do_not_replay_are_refused_with_the_reason() -> None:
    with pytest.raises(ComponentError, match="object ids"):
        component("feature_extraction.RandomTreesEmbedding", "p")
    assert hash_seeded(component("cluster.KMeans", "p"))
    assert not hash_seeded(component("cluster.DBSTREAM", "p"))


@pytest.mark.parametrize(
    "name",
    [
        "os.path",
        "builtins.eval",
        "linear_model.base.inspect",
        "linear_model.__class__",
        "linear_model.LogisticRegression.__init__",
        "compose.FuncTransformer",
        "compat.SKL2RiverClassifier",
        "datasets.Phishing",
        "stream.iter_csv",
        "stream.TwitterLiveStream",
        "base.Classifier",
        "linear_model",
        "linear_model.",
        ".linear_model",
        "utils.log_method_calls",
        "",
        None,
        7,
        ["linear_model.LogisticRegression"],
    ],
)
def test_nothing_else_can_be_reached(name: Any) -> None:
    with pytest.raises(ComponentError):
        resolve(name, "p")


def test_a_wrong_name_is_told_those_of_its_own_module() -> None:
    with pytest.raises(ComponentError, match=r"drift\.binary\.HDDMA"):
        resolve("drift.binary.HDDM_A", "p")
    with pytest.raises(ComponentError, match=r"drift\.ADWIN"):
        resolve("drift.nothing.ADWIN", "p")


def test_code_cannot_come_as_an_argument() -> None:
    with pytest.raises(ComponentError):
        component({"use": "compose.TargetTransformRegressor", "func": eval, "inverse_func": "exp"}, "p")
    with pytest.raises(ComponentError, match="log1p"):
        component({"use": "compose.TargetTransformRegressor", "regressor": LINEAR, "func": "eval"}, "p")


PREDICTING = base.Classifier | base.Regressor | base.AnomalyDetector | base.Clusterer | base.Transformer
SERVING = base.DriftDetector | base.BinaryDriftDetector | optim.base.Optimizer | optim.base.Loss | metrics.base.Metric


def declarable() -> list[str]:
    names = []
    for module in sorted(MODULES):
        for name in getattr(getattr(api, module), "__all__", []):
            found = getattr(getattr(api, module), name, None)
            if inspect.isclass(found) and issubclass(found, PREDICTING | SERVING) and not inspect.isabstract(found):
                names.append(f"{module}.{name}")
    return [name for name in names if name not in REFUSED]


@pytest.mark.parametrize("name", declarable())
def test_every_class_of_river_can_be_declared_and_pickled_or_says_what_it_needs(name: str) -> None:
    try:
        made = construct(component(name, "p"))
    except ComponentError as error:
        needed = [p for p in inspect.signature(resolve(name, "p")).parameters.values() if p.default is p.empty]
        said = str(error)
        assert needed or "requires Python" in said, said
        return
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_chance_is_settled_by_the_spec() -> None:
    spec = model_spec("m", {"task": "binary", "pipeline": [{"use": "tree.HoeffdingAdaptiveTreeClassifier"}]})
    assert spec.pipeline[0].arguments["seed"] == 1
    assert isinstance(build(spec), tree.HoeffdingAdaptiveTreeClassifier)
    assert build(spec).seed == 1


def test_the_version_of_river_is_the_one_measured() -> None:
    assert tuple(int(part) for part in river.__version__.split(".")[:2]) >= (0, 22)
