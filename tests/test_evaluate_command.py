"""`trimtab evaluate` says what does not fit before it evaluates, and where a policy never was in training."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.bundle import Bundle, pack
from agents.tabular import write_out
from agents.train import train
from envs.worlds import make
from service.commands import evaluate
from service.commands.output import CommandError, UsageError

SMALL = {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"}


def call(policy: Path | str, **changes: Any) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("world", "draws", "html", "plot"), None)
    given = {"params": "", "ranges": "", "episodes": 100, "seed": 0, "as_json": True}
    evaluate.run(str(policy), **{**nothing, **given, **changes})


def written(path: Path, bundle: Bundle, **changes: Any) -> Path:
    path.write_bytes(pack(msgspec.structs.replace(bundle.card, **changes), bundle.onnx, bundle.weights))
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = train(make("pricing", SMALL), steps=300, ranges={"volume": (1.087, 5.437)})
    return written(tmp_path_factory.mktemp("bundles") / "wide.trimtab", bundle)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, r"the bundle has 4 actions, pricing with these parameters has \d+ actions"),
        ({"prices": [1.0, 2.0, 3.0, 4.0]}, r"stand for 0\.5 to 2\.0, those of .* for 1\.0 to 4\.0"),
    ],
)
def test_a_bundle_whose_actions_are_not_the_worlds_is_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    odd = written(tmp_path / "odd.trimtab", write_out(make("pricing", SMALL), "exact"), params=changes)
    with pytest.raises(UsageError, match=told):
        call(odd)


def test_a_file_that_is_missing_or_altered_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'nope\.trimtab' is no file"):
        call("nope.trimtab")
    with pytest.raises(UsageError, match="--world"):
        call("exact")
    path = written(tmp_path / "flip.trimtab", write_out(make("pricing", SMALL), "exact"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CommandError, match=r"flip\.trimtab: altered"):
        call(path)


def test_draws_without_ranges_are_refused() -> None:
    with pytest.raises(UsageError, match="--draws 5 was given without --ranges"):
        call("exact", world="pricing", draws=5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"params": "volume=50"}, "volume 50 lies outside the trained range 1.087 to 5.437"),
        ({"ranges": "volume=2:50", "draws": 2}, "volume 2 to 50 lies outside the trained range 1.087 to 5.437"),
        ({"ranges": "volume=1.087:5.437", "draws": 2}, ""),
        ({"params": "volume=3"}, ""),
    ],
)
def test_what_lies_outside_the_trained_range_is_said(
    changes: dict[str, Any], told: str, wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(wide, **changes)
    out, err = capsys.readouterr()
    assert json.loads(out)["world"] == "pricing"
    assert told in err
    assert ("outside" in err) == bool(told)


@pytest.mark.parametrize(("draws", "drawn", "white"), [(24, False, False), (40, True, False), (50, True, True)])
def test_gaps_by_pairs_are_drawn_where_worlds_fill_the_map_and_white_cells_are_explained(
    draws: int, drawn: bool, white: bool, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ranges = "volume=1:5,sensitivity=0.5:2"
    call("myopic", world="pricing", params="stock=3,periods=4,prices=0.5:2:0.5", ranges=ranges, draws=draws, html=page)
    assert "by parameter" in page.read_text()
    assert ("by pairs" in page.read_text()) == drawn
    assert ("by pairs (white: no world fell there)" in page.read_text()) == white
