"""A credential's headers go to its own site, and nowhere else."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site


@pytest.fixture(autouse=True)
def _allowed(site: "Site", other_site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", f"{site.pair},{other_site.pair}")
    settings.cache_clear()
    yield
    settings.cache_clear()


def kept(**credentials: dict[str, Any]) -> Callable[[str], Credential]:
    """What an operator has set; in names, `__` stands for `:`."""

    def credential(provider: str) -> Credential:
        fields = {name.replace("__", ":"): values for name, values in credentials.items()}.get(provider)
        if fields is None:
            raise BadInput(f"there is no credential for {provider}")
        return Credential(provider, **fields)

    return credential


def send(url: str, credential: Callable[[str], Credential], **inputs: Any) -> list[tuple[str, Any]]:
    block = registry.by_name("SendAuthenticatedWebRequest")
    return collect(block, {"url": url, "method": "GET", **inputs}, trial_context(credential=credential))


@pytest.mark.parametrize("pin", [None, {"provider": "http", "type": "host_scoped"}, {"provider": "host_scoped"}])
def test_the_headers_of_the_sites_credential_go_along(site: "Site", pin: Any) -> None:
    mine = kept(host_scoped={"base_url": site.url(), "headers": {"X-Key": "k"}, "api_key": "t"})
    [(where, _)] = send(site.url("/echo"), mine, credentials=pin, headers={"x-key": "user's", "X-Other": "o"})
    [seen] = site.seen
    assert where == "response"
    assert (seen.headers["x-key"], seen.headers["authorization"], seen.headers["x-other"]) == ("k", "Bearer t", "o")


def test_a_credential_may_be_named_for_its_host(site: "Site") -> None:
    mine = kept(**{"host_scoped__127.0.0.1": {"base_url": site.url(), "headers": {"X-Key": "k"}}})
    send(site.url("/echo"), mine)
    assert site.seen[0].headers["x-key"] == "k"


def test_a_credential_without_an_address_goes_over_https_on_the_usual_port_only(site: "Site") -> None:
    mine = kept(**{"host_scoped__127.0.0.1": {"headers": {"X-Key": "k"}}})
    with pytest.raises(BadInput, match=r"is for https://127\.0\.0\.1:443, and goes nowhere else"):
        send(site.url("/echo"), mine)
    assert site.seen == []


def test_a_pin_may_name_the_credential(site: "Site") -> None:
    mine = kept(shop={"base_url": site.url("/any"), "headers": {"X-Key": "k"}})
    send(site.url("/echo"), mine, credentials={"provider": "Shop"})
    assert site.seen[0].headers["x-key"] == "k"


@pytest.mark.parametrize(
    ("name", "message"), [("shop", "is for http://127.0.0.1:.*nowhere else"), ("http", "no credential for the host")]
)
def test_a_credential_of_another_site_is_not_sent(site: "Site", other_site: "Site", name: str, message: str) -> None:
    fields = {"base_url": other_site.url(), "headers": {"X-Key": "k"}}
    with pytest.raises(BadInput, match=message):
        send(site.url("/echo"), kept(shop=fields, host_scoped=fields), credentials={"provider": name})
    assert site.seen == other_site.seen == []


def test_a_key_that_was_set_for_something_else_cannot_be_named(site: "Site") -> None:
    with pytest.raises(BadInput, match="does not say for which site"):
        send(site.url("/echo"), kept(openai={"api_key": "secret"}), credentials={"provider": "openai"})
    assert site.seen == []


@pytest.mark.parametrize(
    "fields", [{"api_key": "secret"}, {"username": "u", "password": "secret"}, {"type": "api_key"}]
)
def test_a_providers_key_goes_out_by_no_other_block(site: "Site", fields: dict[str, Any]) -> None:
    mine = kept(openai={"base_url": site.url(), "headers": {"X-Key": "k"}, **fields})
    with pytest.raises(BadInput, match="is none for a host"):
        send(site.url("/echo"), mine, credentials={"provider": "openai"})
    assert site.seen == []


def test_a_key_whose_operator_says_it_is_a_hosts_goes_there(site: "Site") -> None:
    mine = kept(shop={"base_url": site.url(), "api_key": "t", "type": "host_scoped"})
    send(site.url("/echo"), mine, credentials={"provider": "shop"})
    assert site.seen[0].headers["authorization"] == "Bearer t"


def test_nothing_follows_a_redirect_to_another_site(site: "Site", other_site: "Site") -> None:
    mine = kept(host_scoped={"base_url": site.url(), "headers": {"X-Key": "k"}, "api_key": "t"})
    send(site.url(f"/to?url={quote(other_site.url('/echo'))}"), mine)
    assert site.seen[0].headers["x-key"] == "k"
    assert not {"x-key", "authorization"} & other_site.seen[0].headers.keys()


def test_without_a_credential_nothing_is_sent(site: "Site") -> None:
    with pytest.raises(BadInput, match=r"have the operator set host_scoped:127\.0\.0\.1"):
        send(site.url("/echo"), kept())
    assert site.seen == []
