"""The terminal tells each note once, progress now and then, and a guest's lines as they come."""

from pathlib import Path

import pytest

from online.memory_log import MemoryBlob, MemoryLog
from service.deciding import feed
from service.deciding.feed import Note
from service.processes import narration
from service.processes.narration import Errors, Narrator, Tail


class Recorder:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def say(self, source: str, text: str) -> None:
        self.lines.append(("say", source, text))

    def warn(self, source: str, text: str) -> None:
        self.lines.append(("warn", source, text))


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narration, "_LOOK_EVERY_S", 0.0)


def note(text: str, kind: str = "training", subject: str = "point:price") -> Note:
    return Note(at=1.0, source="adapter", kind=kind, text=text, subject=subject)


def test_what_was_told_before_is_not_told_again_and_what_comes_is_told_once() -> None:
    log, terminal = MemoryLog(), Recorder()
    feed.tell(log, note("yesterday"))
    narrator = Narrator(log, terminal)
    feed.tell(log, note("now"))
    narrator()
    narrator()
    assert terminal.lines == [("say", "adapter", "now")]


def test_drift_and_errors_stand_out() -> None:
    log, terminal = MemoryLog(), Recorder()
    narrator = Narrator(log, terminal)
    feed.tell(log, note("changed", "drift"))
    feed.tell(log, note("failed", "error"))
    narrator()
    assert [line[0] for line in terminal.lines] == ["warn", "warn"]


def test_a_note_with_the_id_of_its_cause_is_there_once_however_often_it_is_told() -> None:
    log = MemoryLog()
    for _ in range(3):
        feed.tell(log, note("drift"), "0:5-1:drift")
    assert log.length(feed.FEED) == 1


def test_heartbeats_name_the_process_and_what_it_does() -> None:
    blob = MemoryBlob()
    feed.beat(blob, "learner", started=5.0, detail={"learned": 7})
    feed.beat(blob, "adapter", started=6.0)
    feed.beat(blob, "learner", started=5.0, detail={"learned": 8})
    found = {beat.process: beat for beat in feed.heartbeats(blob)}
    assert found.keys() == {"adapter", "learner"}
    assert found["learner"].detail["learned"] == 8
    assert found["learner"].started == 5.0


def test_a_tail_tells_whole_new_lines_of_a_file_that_may_come_later(tmp_path: Path) -> None:
    path, terminal = tmp_path / "shop.log", Recorder()
    tail = Tail(path, "shop", terminal)
    tail()
    path.write_text("one\ntw")
    tail()
    with path.open("a") as file:
        file.write("o\n\nthree\n")
    tail()
    assert [line[2] for line in terminal.lines] == ["one", "two", "three"]


def test_a_tail_follows_a_file_that_was_replaced(tmp_path: Path) -> None:
    path, terminal = tmp_path / "shop.log", Recorder()
    tail = Tail(path, "shop", terminal)
    path.write_text("a long line of the first file\n")
    tail()
    path.rename(tmp_path / "shop.log.old")
    path.write_text("new\n")
    tail()
    assert [line[2] for line in terminal.lines] == ["a long line of the first file", "new"]


def test_a_tail_leaves_out_what_was_there_before(tmp_path: Path) -> None:
    path, terminal = tmp_path / "shop.log", Recorder()
    path.write_text("yesterday\n")
    tail = Tail(path, "shop", terminal)
    with path.open("a") as file:
        file.write("today\n")
    tail()
    assert [line[2] for line in terminal.lines] == ["today"]


def test_errors_in_a_log_are_told_once_in_a_while_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, terminal = tmp_path / "api.log", Recorder()
    path.write_text("2026 ERROR yesterday\n")
    errors = Errors(path, "api", terminal)
    with path.open("a") as file:
        file.write("2026 INFO fine, no MIRRORS here\n2026 ERROR service: first\n2026 ERROR service: second\n")
    errors()
    assert terminal.lines == [("warn", "api", f"2026 ERROR service: second and 1 more; its log is {path}")]
    with path.open("a") as file:
        file.write("2026 CRITICAL third\n")
    errors()
    assert len(terminal.lines) == 1, "too soon"
    monkeypatch.setattr(errors, "_say_at", 0.0)
    errors()
    assert terminal.lines[1:] == [("warn", "api", f"2026 CRITICAL third; its log is {path}")]
