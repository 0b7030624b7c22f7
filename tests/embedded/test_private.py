"""What we make on a shared machine is for its owner alone."""

import os
import socket
import stat
import tempfile

import pytest

from agentflow.embedded import private
from agentflow.embedded.private import free_port, is_free, private_folder, socket_folder, write_private


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_for_its_owner_only_from_the_first_byte(tmp_path):
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, "new")

    assert path.read_text() == "new"
    assert _mode(path) == 0o600
    assert os.listdir(tmp_path) == ["key"]


def test_a_folder_that_was_open_is_closed(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)

    assert _mode(private_folder(folder)) == 0o700
    assert _mode(private_folder(tmp_path / "new" / "deep")) == 0o700


def test_the_socket_folder_is_short_private_and_the_same_each_time(tmp_path, monkeypatch):
    deep = tmp_path / ("long " * 40) / ("name" * 30)
    deep.mkdir(parents=True)

    folder = socket_folder(deep, os.geteuid())

    assert len(os.fsencode(folder / ".s.PGSQL.5432.lock")) < 103
    assert _mode(folder) == 0o700
    assert socket_folder(deep, os.geteuid()) == folder
    folder.rmdir()


@pytest.mark.parametrize("squat", ["open folder", "link", "file"])
def test_what_somebody_else_put_in_the_place_of_the_socket_folder_is_not_used(tmp_path, monkeypatch, squat):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(private, "_LONGEST_SOCKET_FOLDER", 1000)
    expected = socket_folder(tmp_path / "data", os.geteuid())
    expected.rmdir()
    if squat == "open folder":
        expected.mkdir()
        expected.chmod(0o777)
    elif squat == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        expected.symlink_to(tmp_path / "theirs")
    else:
        expected.write_text("")

    folder = socket_folder(tmp_path / "data", os.geteuid())

    assert folder != expected
    assert _mode(folder) == 0o700


def test_a_taken_port_is_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        assert free_port(taken) != taken
    assert free_port(taken) == taken
