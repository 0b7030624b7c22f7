"""These tests run against AgentFlow in this process, called by the command line over HTTP."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from installation import *  # noqa: F403

from agentflow.cli.main import agentflow
from agentflow.settings import settings


@pytest.fixture
def command(url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line against the application: `command("runs", "list")`."""
    monkeypatch.setattr(settings(), "url", url)  # after which it counts as set
    monkeypatch.setattr(settings(), "api_key", key)
    return lambda *arguments: CliRunner().invoke(agentflow, list(arguments))
