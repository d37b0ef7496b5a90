"""`trimtab import` says what could not be checked, and nothing of what it does not know."""

from pathlib import Path
from typing import Any

import pytest

from agents.tabular import write_out
from envs.worlds import make
from service.commands import bring


@pytest.mark.parametrize(("world", "remark"), [("triage", "'triage' is no world"), ("CartPole-v1", "")])
def test_a_card_for_no_known_world_is_taken_at_its_word_which_is_said(
    world: str, remark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = write_out(make("pricing", {"stock": 3, "periods": 4, "prices": "0.5:2:0.5"}), "exact")
    Path("model.onnx").write_bytes(bundle.onnx)
    fields: list[Any] = [
        {"name": field.name, "low": field.low, "high": field.high} for field in bundle.card.observation
    ]
    Path("card.toml").write_text(
        f'world = "{world}"\nparams = {{}}\noutput = "{bundle.card.output}"\nactions = {{name = "a", n = 4}}\n'
        + "".join(f'[[observation]]\nname = "{f["name"]}"\nlow = {f["low"]}\nhigh = {f["high"]}\n' for f in fields)
    )
    bring.run(Path("model.onnx"), Path("card.toml"), None, None, "", as_json=False)
    told = capsys.readouterr()
    assert told.err.startswith(remark)
    assert bool(told.err) == bool(remark)
    assert told.out == "model.trimtab  imported\n"
