"""The notebook: it was executed as it stands, and still runs from the first cell to the last."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "own_data.ipynb"


def cells(notebook: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [output for cell in cells(notebook) for output in cell["outputs"]]


def test_the_notebook_was_executed_in_order_and_shows_what_it_found() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert [cell["execution_count"] for cell in cells(notebook)] == list(range(1, len(cells(notebook)) + 1))
    assert not [output for output in outputs(notebook) if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 3
    assert "stopped with status 0" in outputs(notebook)[-1]["text"][-1]


@pytest.mark.long
def test_the_notebook_takes_a_file_to_a_served_model_and_a_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TRIMTAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOK, 4)
    before = [output.get("text") for output in outputs(notebook)]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    after = [output.get("text") for output in outputs(notebook)]
    assert before[-1] == after[-1] == "stopped with status 0\n"
    # What the file says of the model and of the world does not depend on the machine.
    assert [text for text in before if text and "sensitivity =" in text] == [
        text for text in after if text and "sensitivity =" in text
    ]
    assert "of oracle" in "".join(text for text in after if text)
    assert (tmp_path / "report.html").stat().st_size > 10_000
