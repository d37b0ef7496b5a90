"""The sign of life of a process without a port."""

from service.processes.pulse import Pulse


def test_a_pulse_touches_its_file_at_most_once_a_second(tmp_path):
    now = [10.0]
    pulse = Pulse(tmp_path / "alive", clock=lambda: now[0])
    pulse()
    assert (tmp_path / "alive").stat().st_mode & 0o777 == 0o600
    (tmp_path / "alive").unlink()
    now[0] += 0.9
    pulse()
    assert not (tmp_path / "alive").exists()
    now[0] += 0.1
    pulse()
    assert (tmp_path / "alive").exists()


def test_a_folder_that_is_gone_stops_nobody(tmp_path):
    Pulse(tmp_path / "gone" / "alive")()
    assert not (tmp_path / "gone").exists()
