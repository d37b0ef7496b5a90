"""Rows from outside, in each form that can be read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from service.outside import rows
from service.outside.rows import RowError

ROWS = [{"price": 2.5, "kind": "red", "sold": 1}, {"price": 3, "kind": None, "sold": 0}]


def test_each_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("price,kind,sold\n2.5,red,1\n3,,0\n", encoding="utf-8-sig")
    text = '{"price": 2.5, "kind": "red", "sold": 1}\n\n{"price": 3, "kind": null, "sold": 0}\n'
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "a.ndjson").write_text(text)
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.ndjson", "a.parquet"):
        assert list(rows.read(tmp_path / name)) == ROWS, name


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "a,b\n1,2\n3\n", "line 3"),
        ("a.csv", "a,b\n1,2,3\n", "line 2"),
        ("a.csv", "a;b\n1;2\n", "commas between the columns"),
        ("a.csv", "a,b,a\n1,2,3\n", "more than one column of the name 'a'"),
        ("a.csv", f"a,b\n1,{'x' * 200_000}\n", "field larger than field limit"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "line 2 is no JSON object"),
        ("a.jsonl", '{"a": NaN}\n', "line 1 is no JSON object"),
        ("a.xls", "", r"\.csv, \.jsonl, \.ndjson and \.parquet"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RowError, match=told):
        list(rows.read(tmp_path / name))


def test_a_file_of_another_alphabet_is_refused_in_words(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "a.csv").write_text("n\u00e4me,b\n1,2\n", encoding=encoding)
        with pytest.raises(RowError, match="UTF-8"):
            list(rows.read(tmp_path / "a.csv"))


def test_cells_of_a_column_of_names_stay_as_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("code,n\n01234,1\nTRUE,2\n,3\n")
    assert list(rows.read(tmp_path / "a.csv", {"code"})) == [
        {"code": "01234", "n": 1},
        {"code": "TRUE", "n": 2},
        {"code": None, "n": 3},
    ]
    parquet.write_table(pa.Table.from_pylist([{"code": 7}, {"code": None}]), tmp_path / "a.parquet")
    assert list(rows.read(tmp_path / "a.parquet", {"code"})) == [{"code": "7"}, {"code": None}]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="no file"):
        rows.read(tmp_path / "missing.csv")


def test_a_row_that_is_an_event_already_stays_as_it_is() -> None:
    event = {"id": "7", "features": {"a": 1}, "label": True}
    assert rows.event(event, None) == event


def test_a_row_without_a_named_label_is_all_features() -> None:
    assert rows.event({"a": 1, "label": 2}, None) == {"features": {"a": 1, "label": 2}}


def test_a_label_that_no_column_has_is_refused() -> None:
    with pytest.raises(RowError, match="no column 'sold'; it has: price"):
        rows.event({"price": 1}, "sold")
