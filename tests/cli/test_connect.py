"""Whom the command line talks to, and to whom this folder's key is sent: its own running stack, and nobody else."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from agentflow.cli.connect import Exit
from agentflow.cli.main import agentflow
from agentflow.embedded.lock import Lock
from agentflow.proof import CHALLENGE, PROOF, is_own, prove
from agentflow.settings import settings

KEY = "af_" + "k" * 43


class Listener(ThreadingHTTPServer):
    """A web server that notes the headers it is sent; with a `secret` it proves to be the stack's API."""

    def __init__(self, secret: str | None = None, page: str = '{"items": [], "checks": {}}', status: int = 200) -> None:
        self.seen: list[dict[str, str]] = []
        self.secret = secret
        self.page = page
        self.status = status
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        self.send_response(self.server.status)
        if self.server.secret:
            self.send_header(PROOF, prove(self.server.secret, self.headers.get(CHALLENGE, "")))
        elif self.path == "/healthz":
            self.send_header(PROOF, "0" * 64)
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def listen():
    started = []

    def start(secret=None, **answer):
        server = Listener(secret, **answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data directory with a key, and what `agentflow up` wrote about its stack."""
    for name in ("AGENTFLOW_URL", "AGENTFLOW_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENTFLOW_DATA_DIR", str(tmp_path))
    (tmp_path / "api_key").write_text(KEY)

    def write(**stack):
        content = {"database_url": "", "broker_url": "", "api_key_file": str(tmp_path / "api_key"), **stack}
        (tmp_path / "stack.json").write_text(json.dumps(content))
        return tmp_path

    settings.cache_clear()
    yield write
    settings.cache_clear()


@pytest.fixture
def running(folder):
    """The stack of the folder runs: somebody holds its lock."""
    held = []

    def start(**stack):
        path = folder(**stack)
        held.append(Lock(path))
        held[-1].acquire()

    yield start
    for lock in held:
        lock.release()


def call(*arguments):
    return CliRunner().invoke(agentflow, list(arguments))


def keys_sent(listener):
    return [headers["Authorization"] for headers in listener.seen if "Authorization" in headers]


def test_a_stack_that_was_stopped_is_not_talked_to_whoever_listens_there(folder, listen, monkeypatch):
    other = listen()
    folder(url=other.url)
    monkeypatch.setattr(settings(), "url", other.url)
    settings().model_fields_set.discard("url")
    for arguments in (("runs", "list"), ("graphs", "list"), ("reviews", "list"), ("blocks", "list", "--remote")):
        refused = call(*arguments)
        assert refused.exit_code == Exit.UNREACHABLE
        assert "no stack runs from" in refused.stderr
        assert "agentflow up" in refused.stderr
    assert other.seen == []


def test_a_foreign_listener_on_the_port_of_the_running_stack_is_not_sent_the_key(running, listen):
    other = listen()
    running(url=other.url, stack_secret="ours")
    refused = call("runs", "list")
    assert refused.exit_code == Exit.UNREACHABLE
    assert "not the API of this folder's stack" in refused.stderr
    assert keys_sent(other) == []


def test_the_running_stack_gets_the_key(running, listen):
    own = listen("ours")
    running(url=own.url, stack_secret="ours")
    assert call("runs", "list").exit_code == Exit.OK
    assert keys_sent(own) == [f"Bearer {KEY}"]


@pytest.mark.parametrize("up", [True, False])
def test_an_address_that_is_set_needs_a_key_that_is_set(folder, running, listen, monkeypatch, up):
    other, own = listen(), listen("ours")
    (running if up else folder)(url=own.url, stack_secret="ours")
    monkeypatch.setenv("AGENTFLOW_URL", other.url)
    settings.cache_clear()
    refused = call("runs", "list")
    assert refused.exit_code == Exit.REFUSED
    assert "AGENTFLOW_API_KEY is not set" in refused.stderr
    assert other.seen == []
    monkeypatch.setenv("AGENTFLOW_API_KEY", "af_mine")
    settings.cache_clear()
    assert call("runs", "list").exit_code == Exit.OK
    assert keys_sent(other) == ["Bearer af_mine"]


def test_a_setting_that_is_wrong_is_a_wrong_call_and_not_a_failed_run(folder, monkeypatch):
    monkeypatch.setenv("AGENTFLOW_NODE_TIMEOUT", "soon")
    settings.cache_clear()

    told = CliRunner().invoke(agentflow, ["runs", "list"])

    assert told.exit_code == Exit.REFUSED
    assert "AGENTFLOW_NODE_TIMEOUT" in told.stderr


@pytest.mark.parametrize("status", [200, 404, 501])
def test_what_answers_and_is_not_agentflow_is_told_in_a_line(folder, listen, monkeypatch, status):
    page = f"<!DOCTYPE HTML>\n<html>{'x' * 2000}</html>"
    stranger = listen(page=page, status=status)
    monkeypatch.setenv("AGENTFLOW_URL", stranger.url)
    monkeypatch.setenv("AGENTFLOW_API_KEY", KEY)
    settings.cache_clear()

    told = CliRunner().invoke(agentflow, ["runs", "list"])

    assert told.exit_code == Exit.UNREACHABLE
    assert f"what answers at {stranger.url} is not AgentFlow: HTTP {status}" in told.stderr
    assert "html>" not in told.stderr


def test_doctor_tells_a_foreign_api_from_its_own(running, listen, folder):
    def api():
        report = json.loads(call("doctor", "--json").stdout)
        (found,) = [one for one in report["findings"] if one["name"] == "API"]
        return found["level"], found["message"]

    other, own = listen(), listen("ours")
    running(url=own.url, stack_secret="ours")
    assert api() == ("ok", own.url)
    folder(url=other.url, stack_secret="ours")
    level, message = api()
    assert level == "fail"
    assert "not the API of this folder's stack" in message
    assert keys_sent(other) == []


def test_the_application_proves_that_it_has_the_secret_and_nothing_else(environment, url, monkeypatch):
    assert not is_own(url, "ours")
    monkeypatch.setattr(settings(), "stack_secret", "ours")
    assert is_own(url, "ours")
    assert not is_own(url, "another's")
    assert not is_own("http://127.0.0.1:1", "ours")
