"""Parameters as people write them."""

from pathlib import Path

import pytest

from service.outside import parameters
from service.outside.parameters import ParameterError


def test_each_form_of_value_becomes_what_it_looks_like() -> None:
    text = 'a=1,b=-2.5,c=1e3,d=true,e=any,f=0.5:4.25:0.25,g=[1, 2.5, -.5],h={"geometric": [0.1, 8, 41]},'
    assert parameters.parse(text) == {
        "a": 1,
        "b": -2.5,
        "c": 1000.0,
        "d": True,
        "e": "any",
        "f": "0.5:4.25:0.25",
        "g": [1, 2.5, -0.5],
        "h": {"geometric": [0.1, 8, 41]},
    }


def test_no_text_means_no_parameters() -> None:
    assert parameters.parse("") == {}


def test_a_file_holds_the_same_parameters(tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"stock": 20, "prices": [1, 2]}')
    assert parameters.parse(f"@{file}") == parameters.parse("stock=20,prices=[1,2]")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stock", "'stock'"),
        ("=3", "'=3'"),
        ("stock=", "'stock' has no value"),
        ("a=1,a=2", "twice"),
        ("a=[1,2", "left open"),
        ("a=nan", "not finite"),
        ("a=1e999", "not finite"),
        ("a=[nan]", "no list"),
        ("@/no/such/file.json", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, named: str) -> None:
    with pytest.raises(ParameterError, match="(?s).*" + named.replace("(", r"\(")):
        parameters.parse(text)


def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text("[1]")
    with pytest.raises(ParameterError, match="one JSON object"):
        parameters.parse(f"@{file}")
    file.write_text("{")
    with pytest.raises(ParameterError, match="not JSON"):
        parameters.parse(f"@{file}")


@pytest.mark.parametrize("text", ["a=1", "a=2:1", "a=1:2:3", "a=x:y"])
def test_a_range_has_a_lower_and_a_higher_end(text: str) -> None:
    with pytest.raises(ParameterError, match="range"):
        parameters.ranges(text)


@pytest.mark.parametrize("text", ["sensitivity=2", "at=2000", "at=-1,a=1", "at=1.5,a=1"])
def test_a_shift_says_when_and_what(text: str) -> None:
    with pytest.raises(ParameterError, match="at=2000,sensitivity=2"):
        parameters.shift(text)
