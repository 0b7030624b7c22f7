"""What goes through apprise reaches public addresses only, whatever server a user names."""

import socket
import threading

import pytest
import requests

from agentflow.clock import monotonic
from agentflow.errors import BadInput, Transient
from agentflow.notifications import by_apprise
from agentflow.notifications.message import Message
from agentflow.settings import settings

MESSAGE = Message("id", "test", "now", "subject", "text", "<p>html</p>")


def test_a_service_that_its_owner_hosts_on_a_private_address_is_refused_at_delivery(reachable):
    for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"):
        with pytest.raises(BadInput, match="not a public address"):
            by_apprise.send(f"gotifys://{host}/token1234567890", MESSAGE, 2)


def test_every_connection_of_requests_is_guarded_while_something_is_sent_and_none_after(reachable, hook):
    with by_apprise._guarded(5) as refused, pytest.raises(requests.ConnectionError):
        requests.post("http://127.0.0.1:9/x", timeout=1)
    assert [one.message for one in refused] == ["127.0.0.1 may not be reached from here: it is not a public address"]
    with by_apprise._guarded(5) as refused:
        assert requests.post(hook.url, timeout=5, data="{}").status_code == 204  # AGENTFLOW_HTTP_ALLOW names it
    assert refused == []
    with pytest.raises(requests.ConnectionError, match="refused"):  # by the host: nobody listens there
        requests.post("http://127.0.0.1:9/x", timeout=1)


def test_a_redirect_does_not_lead_to_a_private_address(reachable, hook):
    hook.turns = lambda number: 307
    with by_apprise._guarded(5) as refused:
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


@pytest.mark.parametrize(
    "address",
    [
        "discord://123/abc?template=/etc/hosts",
        "discord://123/abc#?template=/etc/hosts",
        "discord://123/abc?a=1;template=/etc/hosts",
        "discord://123/abc?%74emplate=/etc/hosts",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ#?template=/etc/hosts",
        "ntfys://ntfy.sh/topic#?attach=/etc/hosts",
        "ntfys://ntfy.sh/topic#?verify=no",
        "ntfys://ntfy.sh/topic?+X-Header=1",
    ],
)
def test_no_parameter_that_reads_files_or_lifts_checks_gets_past_wherever_it_stands(reachable, address):
    with pytest.raises(BadInput, match="may not be given"):
        by_apprise.check(address)


@pytest.fixture
def silent_pair():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_with_very_many_receivers_takes_no_longer_than_one_and_holds_up_nobody(
    reachable, monkeypatch, hook, silent_pair
):
    monkeypatch.setattr(by_apprise, "SERVICES", frozenset({"ntfy", "json"}))
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", f"{hook.pair},{silent_pair}")
    settings.cache_clear()
    topics = "/".join(f"topic{number}" for number in range(300))

    def send_to_all():
        with pytest.raises(Transient):
            by_apprise.send(f"ntfy://{silent_pair}/{topics}", MESSAGE, 1)

    by_apprise.send(f"json://{hook.pair}/x", MESSAGE, 2)  # which loads the library
    began, slow = monotonic(), threading.Thread(target=send_to_all)
    slow.start()
    by_apprise.send(f"json://{hook.pair}/x", MESSAGE, 2)
    assert slow.is_alive()
    slow.join(timeout=30)
    assert not slow.is_alive()
    assert monotonic() - began < 15
