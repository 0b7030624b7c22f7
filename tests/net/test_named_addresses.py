"""Whatever address a user names, on whatever pin of whatever block, must be public, or one that the operator allows.

How an address is judged stands in `test_ssrf`; that no block gets round that is the matter here. A listener on
loopback stands for all that only our own network can reach: nobody may so much as connect to it.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput, NodeFailure
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site

Inputs = Callable[[str, int], dict[str, Any]]


def _asks(**inputs: Any) -> Inputs:
    """An AI block with these inputs, whose model runs where the user says."""
    return lambda host, port: {"model": "llama3.2", "ollama_host": f"{host}:{port}", **inputs}


def _url(pin: str, **inputs: Any) -> Inputs:
    return lambda host, port: {pin: f"http://{host}:{port}/x", **inputs}


def _mail(host: str, port: int) -> dict[str, Any]:
    server = {"smtp_server": host, "smtp_port": port, "security": "none", "from_email": "a@b.test"}
    return {"to_email": "c@d.test", "subject": "s", "body": "b", "config": server}


def _upload(host: str, port: int) -> dict[str, Any]:
    """The file is fetched before anything is sent to the public address."""
    return {"url": "http://8.8.8.8/", "files": [f"http://{host}:{port}/x"]}


def _query(host: str, port: int) -> dict[str, Any]:
    return {"query": "SELECT 1 AS a", "host": host, "port": port, "database": "x"}


NAMED: dict[str, tuple[str, Inputs]] = {
    "SendWebRequest": ("SendWebRequest", _url("url")),
    "SendWebRequest, files": ("SendWebRequest", _upload),
    "SendAuthenticatedWebRequest": ("SendAuthenticatedWebRequest", _url("url")),
    "ReadRSSFeed": ("ReadRSSFeed", _url("rss_url")),
    "FileRead": ("FileRead", _url("file_input")),
    "FileStore": ("FileStore", _url("file_in")),
    "ReadSpreadsheet": ("ReadSpreadsheet", _url("file_input")),
    "AgentFileInput": ("AgentFileInput", _url("value", name="file", base_64=True)),
    "ExtractWebsiteContent, raw": ("ExtractWebsiteContent", _url("url", raw_content=True)),
    "ExtractWebsiteContent": ("ExtractWebsiteContent", _url("url")),
    "SendEmail": ("SendEmail", _mail),
    "SQLQuery": ("SQLQuery", _query),
    "AITextGenerator": ("AITextGenerator", _asks(prompt="Hi")),
    "AIConversation": ("AIConversation", _asks(messages=[], prompt="Hi")),
    "AICondition": ("AICondition", _asks(input_value=1, condition="is odd")),
    "AIStructuredResponseGenerator": ("AIStructuredResponseGenerator", _asks(prompt="Hi", expected_format={"a": "b"})),
    "AIListGenerator": ("AIListGenerator", _asks(focus="planets")),
    "AITextSummarizer": ("AITextSummarizer", _asks(text="Long.")),
    "Orchestrator": ("Orchestrator", _asks(prompt="Go.")),
}
"""Every pin on which a user names a server: the block, and its inputs for a host and a port."""

READER = "ExtractWebsiteContent"
"""Sends nothing to the address itself: the reader does, once the address has passed."""

FETCHED = [name for name, (_, inputs) in NAMED.items() if inputs.__qualname__.startswith("_url") and name != READER]

TARGETS = ["http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://169.254.169.254/", "http://2130706433:{port}/",
           "http://private.test:{port}/", "file:///etc/passwd"]  # fmt: skip

SPELT = ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "localhost", "2130706433", "0x7f000001",
         "0177.0.0.1", "127.1", "0", "private.test", "mixed.test"]  # fmt: skip

NAMES = {"private.test": ["10.0.0.5"], "mixed.test": ["8.8.8.8", "127.0.0.1"]}
"""What two names resolve to, as if their owner's name server said so."""


@dataclass
class Door:
    """A listener on loopback; `open()` takes connections, counts them and closes them at once."""

    listener: socket.socket
    visits: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has connected: a connection would wait to be accepted."""
        self.listener.setblocking(False)
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def open(self) -> None:
        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, (host, *_) = self.listener.accept()
                    self.visits.append(host)
                    connection.close()

        Thread(target=serve, daemon=True).start()


@pytest.fixture
def door() -> Iterator[Door]:
    # On both families at once, so that ::1 leads here too.
    with closing(socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)) as listener:
        yield Door(listener)
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def _name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def answer(host: Any, *args: Any, **more: Any) -> Any:
        found = [resolve(address, *args, **more) for address in NAMES.get(host, [host])]
        return [entry for entries in found for entry in entries]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the setting, as an operator would."""
    monkeypatch.setattr(settings(), "http_allow", ())
    return lambda *pairs: monkeypatch.setattr(settings(), "http_allow", pairs)


def go(name: str, host: str, port: int) -> None:
    """Run the block, with a credential that leads to the very server that the user names."""
    block, inputs = NAMED[name]
    schemes = {"smtp": "smtp", "database": "postgresql"}

    def credential(provider: str) -> Credential:
        if provider == "ollama" or provider.startswith("host_scoped:"):
            raise BadInput(f"there is no credential for {provider}")
        base_url = f"{schemes.get(provider, 'http')}://{host}:{port}"
        return Credential(provider, "key", "user", "" if provider == "smtp" else "password", base_url)

    given = inputs(host.strip("[]") if inputs in (_mail, _query) else host, port)
    collect(registry.by_name(block), given, trial_context(credential=credential))


@pytest.mark.usefixtures("allow")
@pytest.mark.parametrize("host", SPELT)
@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_public_is_refused_before_anybody_connects(name: str, host: str, door: Door) -> None:
    with pytest.raises(BadInput, match=r"may not be reached from here|is not a host name|not an address"):
        go(name, host, door.port)
    assert door.is_untouched


@pytest.mark.parametrize("name", [name for name in NAMED if name != READER])
def test_what_the_operator_allows_is_reached(name: str, door: Door, allow: Callable[..., None]) -> None:
    allow(f"127.0.0.1:{door.port}")
    door.open()
    with pytest.raises(NodeFailure):  # it hangs up at once
        go(name, "127.0.0.1", door.port)
    assert door.visits


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FETCHED)
def test_no_redirect_leads_there_either(
    name: str, target: str, site: "Site", door: Door, allow: Callable[..., None]
) -> None:
    allow(site.pair)
    block, inputs = NAMED[name]
    address = site.url(f"/to?url={quote(target.format(port=door.port), safe='')}")
    [pin] = [pin for pin, value in inputs("h", 1).items() if str(value).startswith("http:")]
    own = Credential("host_scoped", "key", base_url=site.url())
    context = trial_context(credential=lambda provider: own)
    with pytest.raises(BadInput, match=r"may not be reached from here|only http and https"):
        collect(registry.by_name(block), {**inputs("h", 1), pin: address}, context)
    assert len(site.seen) == 1
    assert door.is_untouched


@pytest.mark.usefixtures("allow")
@pytest.mark.parametrize(
    ("setting", "block", "inputs"),
    [
        ("search_url", "SearchTheWeb", {"query": "x"}),
        ("reader_url", "ExtractWebsiteContent", {"url": "http://8.8.8.8/"}),
        ("wikipedia_url", "GetWikipediaSummary", {"topic": "x"}),
    ],
)
def test_a_service_that_the_operator_chose_must_be_allowed_as_well(
    setting: str, block: str, inputs: dict[str, Any], door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), setting, f"http://127.0.0.1:{door.port}")
    with pytest.raises(BadInput, match="may not be reached from here"):
        collect(registry.by_name(block), inputs)
    assert door.is_untouched


@pytest.mark.parametrize("model", ["gpt-4o", "claude-next"])
def test_an_address_on_the_credentials_pin_leads_nowhere(model: str, door: Door) -> None:
    pin = {"provider": "ollama", "base_url": f"http://127.0.0.1:{door.port}", "api_key": "k"}
    given = {"prompt": "Hi", "model": model, "credentials": {**pin, "provider": None}}
    with pytest.raises(BadInput, match="there is no credential for"):
        collect(registry.by_name("AITextGenerator"), given)
    with pytest.raises(BadInput, match="may not be reached from here"):  # where Ollama is on this machine, if anywhere
        collect(registry.by_name("AITextGenerator"), {**given, "credentials": pin})
    assert door.is_untouched


def test_every_block_that_takes_an_address_is_looked_at_here() -> None:
    words = {"url", "host", "server", "config", "file_in", "file_input", "ollama_host", "rss_url"}
    takers = {block.name for block in registry.every() if words & set(block.spec().inputs)}
    assert takers | {"AgentFileInput"} == {block for block, _ in NAMED.values()}
