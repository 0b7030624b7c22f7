"""`agentflow doctor` says what is wrong, what to do, and no secrets."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg
import pytest
from click.testing import CliRunner
from fleet import until
from sqlalchemy import make_url, select
from sqlalchemy.orm import Session

from agentflow.accounts import store as accounts
from agentflow.accounts.keys import ensure_first_key
from agentflow.accounts.tables import User
from agentflow.blocks import registry
from agentflow.cli.main import agentflow
from agentflow.credentials import service
from agentflow.credentials.kinds import ApiKeySecret
from agentflow.credentials.service import New
from agentflow.embedded.private import free_port
from agentflow.services import submissions
from agentflow.services.submissions import Wanted
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage.connect import engine


@pytest.fixture
def configured(monkeypatch):
    """Sets the two addresses for the time of the test."""

    def _set(database: str, broker: str) -> None:
        monkeypatch.setenv("AGENTFLOW_DATABASE_URL", database)
        monkeypatch.setenv("AGENTFLOW_BROKER_URL", broker)
        monkeypatch.setenv("AGENTFLOW_URL", "http://127.0.0.1:9")
        settings.cache_clear()

    yield _set
    monkeypatch.undo()
    settings.cache_clear()


class _Other(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def _examine():
    result = CliRunner().invoke(agentflow, ["doctor", "--json"])
    report = json.loads(result.output)
    return result, {finding["name"]: finding for finding in report["findings"]}, report["ok"]


def test_servers_that_are_well_are_well(configured, database_url, broker_url):
    configured(database_url, broker_url)

    result, found, well = _examine()

    assert result.exit_code == 0, result.output
    assert well
    levels = {name: finding["level"] for name, finding in found.items()}
    assert levels["database"] == levels["schema"] == levels["clock"] == "ok"
    assert levels["broker"] == levels["broker version"] == "ok"
    assert levels["workers"] == levels["API"] == "warn"
    assert all(finding["remedy"] for finding in found.values() if finding["level"] != "ok")


def test_stored_credentials_that_no_key_reads_are_named(configured, database_url, broker_url, monkeypatch):
    old, new = (letter * 43 + "=" for letter in "ac")
    monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", old)
    configured(database_url, broker_url)
    with Session(engine(database_url)) as session:
        owner = accounts.add_user(session, "owner")
        secret = ApiKeySecret(type="api_key", api_key="sk-x")
        made = service.create(session, owner, New("openai", None, secret)).id
        session.commit()
    levels = []
    for keys in (old, f"{new},{old}", new, ""):
        monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", keys)
        settings.cache_clear()
        finding = _examine()[1]["key ring"]
        levels.append(finding["level"])
        assert (str(made) in finding["message"]) == (finding["level"] == "fail")
    assert levels == ["ok", "warn", "fail", "fail"]


def test_a_queue_in_which_work_waits_for_a_worker_is_named(configured, database_url, broker_url):
    configured(database_url, broker_url)
    assert _examine()[1]["queues"]["level"] == "ok"
    block = registry.by_name("StoreValue").id
    nodes = [{"id": "n", "block_id": block, "input_default": {"input": 1}, "settings": {"queue": "gpu"}}]
    with transaction() as session:
        ensure_first_key(session)
        owner = session.scalars(select(User.id)).one()
        submissions.submit(session, owner, {"name": "g", "nodes": nodes, "links": []}, Wanted())
    dsn = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute("UPDATE node_executions SET queued_at = queued_at - interval '1 minute'")

    _, found, _ = _examine()

    assert found["queues"]["level"] == "warn"
    assert "the queue 'gpu', which no worker serves" in found["queues"]["message"]
    assert found["queues"]["remedy"] == "start one: agentflow worker -Q gpu"


def test_a_variable_that_is_no_setting_is_told_with_the_one_that_is_meant(
    configured, database_url, broker_url, monkeypatch
):
    configured(database_url, broker_url)
    monkeypatch.delenv("AGENTFLOW_TEST_WORKERS", raising=False)
    assert "settings" not in _examine()[1]
    monkeypatch.setenv("AGENTFLOW_NODE_TIMOUT", "5")

    _, found, well = _examine()

    assert well
    assert found["settings"]["message"] == "AGENTFLOW_NODE_TIMOUT is no setting, and has no effect"
    assert found["settings"]["remedy"] == "did you mean AGENTFLOW_NODE_TIMEOUT?"


@pytest.mark.parametrize(
    ("moderation", "level"), [("words:/nowhere", "fail"), ("word:list", "fail"), ("https://moderator.example", "ok")]
)
def test_a_moderator_that_cannot_be_used_is_told(configured, database_url, broker_url, monkeypatch, moderation, level):
    monkeypatch.setenv("AGENTFLOW_MODERATION", moderation)
    configured(database_url, broker_url)
    assert _examine()[1]["moderation"]["level"] == level


def test_no_password_is_told(configured, database_url, broker_url):
    configured(database_url, broker_url)

    result, _, _ = _examine()

    for url in (database_url, broker_url):
        password = url.partition("//")[2].partition("@")[0].partition(":")[2]
        assert len(password) > 20
        assert password not in result.output


def test_an_empty_database_needs_its_schema(configured, empty_database_url, broker_url):
    configured(empty_database_url, broker_url)

    result, found, well = _examine()

    assert result.exit_code == 1
    assert not well
    assert "db upgrade" in found["database"]["message"] + found["database"]["remedy"]


def test_servers_that_are_away_fail_and_nothing_hangs(configured):
    configured("postgresql://agentflow:secret@127.0.0.1:9/none", "redis://:secret@127.0.0.1:9/0")

    result, found, _ = _examine()

    assert result.exit_code == 1
    assert {found[name]["level"] for name in ("database", "broker", "workers")} == {"fail"}
    assert "secret" not in result.output


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_takes_connections_and_says_nothing_is_not_waited_for(configured, database_url, scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configured(database_url, f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()

        _, found, well = _examine()

    assert not well
    assert found["broker"]["level"] == found["workers"]["level"] == "fail"
    assert found["API"]["level"] == "warn"  # what comes after it is looked at
    assert time.monotonic() - began < 60


def test_a_live_process_is_asked_whether_it_is_one(configured, database_url, broker_url, tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv("AGENTFLOW_LIVE_URL", f"http://127.0.0.1:{port}")
    configured(database_url, broker_url)

    assert _examine()[1]["live updates"]["level"] == "warn"

    environment = {**os.environ, "AGENTFLOW_LIVE_PORT": str(port)}
    with (tmp_path / "live.log").open("wb") as log:
        live = subprocess.Popen([sys.executable, "-m", "agentflow.live"], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: _examine()[1]["live updates"]["level"] == "ok", "the live process answers")
    finally:
        live.terminate()
        live.wait(timeout=15)

    with HTTPServer(("127.0.0.1", port), _Other) as other:
        threading.Thread(target=other.handle_request).start()
        finding = _examine()[1]["live updates"]
    assert (finding["level"], "no live process" in finding["message"]) == ("fail", True)


def test_with_nothing_set_up_it_says_how_to_begin():
    settings.cache_clear()
    result = CliRunner().invoke(agentflow, ["doctor"])

    assert result.exit_code == 1
    assert "start `agentflow up`" in result.output
