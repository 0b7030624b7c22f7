"""What libraries say of the requests that they send is not in our logs: keys are in addresses and headers."""

import logging

import httpx
import pytest

from agentflow.logs import HTTP_LIBRARIES
from agentflow.worker.signals import _show_fields


@pytest.fixture
def at_debug():
    """The process logs everything; the libraries' own levels are as they were afterwards."""
    root, before = logging.getLogger(), {name: logging.getLogger(name).level for name in HTTP_LIBRARIES}
    level = root.level
    root.setLevel(logging.DEBUG)
    for name in HTTP_LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield root
    root.setLevel(level)
    for name, was in before.items():
        logging.getLogger(name).setLevel(was)


def test_no_address_of_a_request_is_logged_by_a_worker_whatever_its_level(at_debug, caplog):
    def ask():
        with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as client:
            client.get("https://api.test/?key=hush", headers={"Authorization": "Bearer hush"})

    ask()
    assert "hush" in caplog.text, "httpx says so at INFO"
    caplog.clear()
    _show_fields(at_debug)
    ask()
    assert "hush" not in caplog.text
    for name in HTTP_LIBRARIES:
        assert not logging.getLogger(f"{name}._client").isEnabledFor(logging.INFO)
