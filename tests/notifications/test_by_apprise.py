"""What goes through apprise reaches public addresses only, whatever server a user names."""

import pytest
import requests

from agentflow.errors import BadInput, Transient
from agentflow.notifications import by_apprise
from agentflow.notifications.message import Message

MESSAGE = Message("id", "test", "now", "subject", "text", "<p>html</p>")


def test_a_service_that_its_owner_hosts_on_a_private_address_is_refused_at_delivery(reachable):
    for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"):
        with pytest.raises(BadInput, match="not a public address"):
            by_apprise.send(f"gotifys://{host}/token1234567890", MESSAGE, 2)


def test_every_connection_of_requests_is_guarded_while_something_is_sent_and_none_after(reachable, hook):
    with by_apprise._guarded() as refused, pytest.raises(requests.ConnectionError):
        requests.post("http://127.0.0.1:9/x", timeout=1)
    assert refused == ["127.0.0.1 may not be reached from here: it is not a public address"]
    with by_apprise._guarded() as refused:
        assert requests.post(hook.url, timeout=5, data="{}").status_code == 204  # AGENTFLOW_HTTP_ALLOW names it
    assert refused == []
    from urllib3.util import connection

    assert connection.create_connection.__module__ == "urllib3.util.connection"


def test_a_redirect_does_not_lead_to_a_private_address(reachable, hook):
    hook.turns = lambda number: 307
    with by_apprise._guarded() as refused:
        assert requests.post(hook.url, timeout=5).status_code == 307  # without a location
    assert refused == []


def test_what_is_sent_arrives(reachable, monkeypatch, hook):
    """A plugin of the library that speaks to any address stands for a service."""
    monkeypatch.setattr(by_apprise, "SERVICES", frozenset({"json"}))
    by_apprise.send(f"json://{hook.pair}/x", MESSAGE, 2)
    (body,) = hook.bodies()
    assert (body["title"], body["message"]) == ("subject", "text")
    hook.turns = lambda number: 500
    with pytest.raises(Transient, match="json did not take it"):
        by_apprise.send(f"json://{hook.pair}/x", MESSAGE, 2)


def test_a_service_that_hangs_ends(reachable, monkeypatch, hook):
    monkeypatch.setattr(by_apprise, "SERVICES", frozenset({"json"}))
    hook.turns = lambda number: None
    with pytest.raises(Transient):
        by_apprise.send(f"json://{hook.pair}/x", MESSAGE, 0.5)


def test_every_service_that_is_allowed_exists(reachable):
    found = {
        schema
        for one in by_apprise._library().Apprise().details()["schemas"]
        for schema in [*(one["protocols"] or ()), *(one["secure_protocols"] or ())]
    }
    assert found >= by_apprise.SERVICES
