"""Pickles that give objects their attributes one by one: the same values, and the speed of new objects."""

import pickle
from typing import Any

import pytest
from river import compose, drift, linear_model, metrics, preprocessing, tree
from river.datasets import synth

from online import pickling


class Guarded:
    """Keeps an attribute under the name of a property that cannot be set so."""

    def __init__(self) -> None:
        self.__dict__["size"] = 3

    @property
    def size(self) -> int:
        return int(self.__dict__["size"]) + 1

    @size.setter
    def size(self, value: int) -> None:
        raise AttributeError(f"size is {value}")


class Slotted:
    __slots__ = ("value",)


class Counted(dict[str, int]):
    """A mapping with an attribute of its own."""


def test_a_model_goes_on_as_if_it_had_never_been_dumped() -> None:
    def make() -> list[Any]:
        model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
        return [model, tree.HoeffdingTreeClassifier(grace_period=50), metrics.Accuracy(), drift.ADWIN()]

    unbroken, dumped = make(), make()
    for row, (x, y) in enumerate(synth.Agrawal(seed=3).take(1_500)):
        if row % 97 == 0:
            dumped = pickling.loads(pickling.dumps(dumped))
        for linear, grown, accuracy, adwin in (unbroken, dumped):
            accuracy.update(y, grown.predict_one(x))
            adwin.update(float(grown.predict_one(x) != y))
            linear.learn_one(x, y)
            grown.learn_one(x, y)
        assert unbroken[0].predict_proba_one(x) == dumped[0].predict_proba_one(x)
        assert unbroken[1].predict_proba_one(x) == dumped[1].predict_proba_one(x)
    assert unbroken[2].get() == dumped[2].get()
    assert unbroken[3].width == dumped[3].width


def test_it_can_be_read_without_this_module() -> None:
    model = linear_model.LinearRegression()
    model.learn_one({"a": 1.0}, 2.0)
    assert pickle.loads(pickling.dumps(model)).weights == model.weights


@pytest.mark.parametrize("kind", [Guarded, Slotted, Counted])
def test_objects_that_are_more_than_their_attributes_come_back_too(kind: type) -> None:
    value = kind()
    if isinstance(value, Counted):
        value["a"], value.__dict__["unit"] = 1, "K"
        found = pickling.loads(pickling.dumps(value))
        assert (found, found.unit) == ({"a": 1}, "K")
    elif isinstance(value, Guarded):
        assert pickling.loads(pickling.dumps(value)).size == 4
    else:
        value.value = [value]
        found = pickling.loads(pickling.dumps(value))
        assert found.value == [found]
