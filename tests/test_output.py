"""What commands print of other people's text: a terminal must not obey it."""

import pytest

from service.commands.output import console, results, table
from service.commands.up import Screen

HOSTILE = "eve\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e\n7  forged"


def harmless(printed: str) -> bool:
    return all(one.isprintable() for one in printed.replace("\n", ""))


def test_a_cell_of_a_table_is_one_line_without_a_control_character(capsys):
    results().print(table(("number", "reason"), [(1, HOSTILE), (2, "été – fine")]))
    printed = capsys.readouterr().out
    assert harmless(printed)
    assert [line.split()[0] for line in printed.splitlines()] == ["number", "1", "2"]
    assert "été – fine" in printed


@pytest.mark.parametrize("terminal", [console, results])
def test_a_line_of_text_keeps_its_breaks_and_loses_its_controls(capsys, terminal):
    terminal().print(f"first\n{HOSTILE}")
    printed = "".join(capsys.readouterr())
    assert harmless(printed)
    assert printed.splitlines()[:2] == ["first", r"eve\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e"]


def test_a_note_on_the_screen_of_up_is_one_line(capsys):
    Screen().say("loop", f"price: {HOSTILE} stops the loop")
    printed = capsys.readouterr().out
    assert harmless(printed)
    assert len(printed.splitlines()) == 1
