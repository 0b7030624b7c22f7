"""What processes print is kept, and does not grow for ever."""

import os
import stat

from agentflow.embedded import process_log
from agentflow.embedded.process_log import KEPT, ProcessLog, rotate


def test_a_long_log_is_rotated_and_a_few_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(process_log, "BYTES", 1000)
    log = ProcessLog(tmp_path / "worker.1.log")
    for number in range(2000):
        log.write(f"line {number}\n".encode())
    log.write(b"\xff not text, no end")
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        "worker.1.log",
        *(f"worker.1.log.{number}" for number in range(1, KEPT + 1)),
    ]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert all(file.stat().st_size <= 1100 for file in files)
    kept = "".join(file.read_text() for file in reversed(files[1:])) + files[0].read_text()
    assert kept.endswith("line 1999\n\ufffd not text, no end\n")


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch):
    log = ProcessLog(tmp_path / "web.1.log")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(log._handler, "shouldRollover", full)
    log.write(b"lost\n")
    monkeypatch.undo()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "web.1.log").read_text() == "kept\n"


def test_the_log_of_a_server_is_rotated_while_it_writes(tmp_path):
    path = tmp_path / "postgres.log"
    writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(writer, b"old " * 100)
    rotate(path, most=100)
    os.write(writer, b"new")
    os.close(writer)
    assert path.read_bytes() == b"new"
    assert (tmp_path / "postgres.log.1").read_bytes() == b"old " * 100
    rotate(tmp_path / "none.log")
