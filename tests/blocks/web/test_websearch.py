"""Search and page reading, against servers that stand where the settings say."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput, Transient
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site


@pytest.fixture(autouse=True)
def _services(site: "Site", other_site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One server is search and reader, the other holds the pages."""
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", f"{site.pair},{other_site.pair}")
    monkeypatch.setenv("AGENTFLOW_SEARCH_URL", site.url("/search/"))
    monkeypatch.setenv("AGENTFLOW_READER_URL", site.url("/read"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def run(block: str, key: str = "", **inputs: Any) -> str:
    context = trial_context()
    if key:
        context = trial_context(credential=lambda provider: Credential(provider, api_key=key))
    [(_, text)] = collect(registry.by_name(block), inputs, context)
    assert isinstance(text, str)
    return text


def test_a_search_asks_the_service_for_the_query_as_it_stands(site: "Site") -> None:
    told = json.loads(run("SearchTheWeb", query=" cats & dogs?/ü#1 "))
    [seen] = site.seen
    assert (seen.method, seen.path) == ("GET", "/search/" + quote("cats & dogs?/ü#1", safe=""))
    assert seen.headers["accept"] == "text/plain"
    assert "authorization" not in seen.headers
    assert told["method"] == "GET"


def test_the_key_goes_along_where_there_is_one(site: "Site", other_site: "Site") -> None:
    run("SearchTheWeb", key="k-1", query="cats")
    run("ExtractWebsiteContent", key="k-1", url=other_site.url("/page"))
    assert [seen.headers["authorization"] for seen in site.seen] == ["Bearer k-1", "Bearer k-1"]


def test_the_key_does_not_follow_a_redirect_to_another_site(
    site: "Site", other_site: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_SEARCH_URL", site.url(f"/to?url={quote(other_site.url('/echo'))}&query="))
    settings.cache_clear()
    run("SearchTheWeb", key="k-1", query="cats")
    assert "authorization" in site.seen[0].headers
    assert "authorization" not in other_site.seen[0].headers


def test_the_reader_is_asked_for_the_page_and_the_page_is_not_fetched_from_here(
    site: "Site", other_site: "Site"
) -> None:
    run("ExtractWebsiteContent", url=other_site.url("/a/../b%20c?d=1&e=%26#part"))
    [seen] = site.seen
    assert seen.path == "/read/" + other_site.url("/b%20c?d=1&e=%26")
    assert other_site.seen == []


def test_raw_content_comes_from_the_page_itself_and_without_the_key(site: "Site", other_site: "Site") -> None:
    address = other_site.url(f"/as?type=text/html&body={quote('<p>hello')}")
    assert run("ExtractWebsiteContent", key="k-1", url=address, raw_content=True) == "<p>hello"
    assert site.seen == []
    assert "authorization" not in other_site.seen[0].headers


@pytest.mark.parametrize("raw", [False, True])
def test_a_page_in_our_own_network_is_neither_fetched_nor_asked_for(site: "Site", raw: bool) -> None:
    with pytest.raises(BadInput, match="may not be reached"):
        run("ExtractWebsiteContent", url="http://127.0.0.1:9/secret", raw_content=raw)
    assert site.seen == []


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, BadInput, "refuses this request"),
        (401, BadInput, "does not let this request in"),
        (402, BadInput, "does not let this request in"),
        (404, BadInput, "refuses this request"),
        (408, Transient, "cannot answer now"),
        (429, Transient, "cannot answer now"),
        (500, Transient, "cannot answer now"),
        (503, Transient, "cannot answer now"),
        (304, BadInput, "refuses this request"),
    ],
)
def test_the_status_says_whether_it_may_work_later(
    site: "Site", monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception], message: str
) -> None:
    monkeypatch.setenv("AGENTFLOW_SEARCH_URL", site.url(f"/status/{status}?q="))
    settings.cache_clear()
    with pytest.raises(error, match=f"the search service {message} .status {status}"):
        run("SearchTheWeb", query="cats")


def test_a_page_that_is_not_there_is_told(site: "Site", other_site: "Site") -> None:
    with pytest.raises(BadInput, match="there is no such page"):
        run("ExtractWebsiteContent", url=other_site.url("/status/404"), raw_content=True)
