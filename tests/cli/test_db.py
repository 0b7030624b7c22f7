"""`agentflow db` brings the schema up to date, and says whether it is."""

import pytest
from click.testing import CliRunner

from agentflow.cli.main import agentflow
from agentflow.errors import EngineError, WrongSchema
from agentflow.settings import settings


@pytest.fixture
def empty(monkeypatch, empty_database_url):
    """The configured database is an empty one."""
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", empty_database_url)
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def _call(*arguments):
    return CliRunner().invoke(agentflow, ["db", *arguments])


def test_an_empty_database_is_told_from_an_upgraded_one(empty):
    before = _call("check")
    assert before.exit_code == 1
    assert isinstance(before.exception, WrongSchema)

    assert _call("upgrade").exit_code == 0
    assert _call("upgrade").exit_code == 0  # twice is fine
    assert _call("check").exit_code == 0


def test_with_no_database_the_message_says_what_to_set():
    settings.cache_clear()
    result = _call("check")

    assert isinstance(result.exception, EngineError)
    assert "AGENTFLOW_DATABASE_URL" in result.exception.message


def test_the_migrations_give_what_the_tables_say():
    result = _call("drift")

    assert result.exit_code == 0, result.output
