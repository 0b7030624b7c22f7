"""Looking up in Wikipedia, against a server that speaks as its REST API does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput, Transient
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site


@pytest.fixture
def api(site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator["Site"]:
    """A server that stands where Wikipedia's API is looked for."""
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", site.pair)
    monkeypatch.setenv("AGENTFLOW_WIKIPEDIA_URL", site.url("/rest"))
    settings.cache_clear()
    yield site
    settings.cache_clear()


def answer(monkeypatch: pytest.MonkeyPatch, site: "Site", body: str, media_type: str = "application/json") -> None:
    """Has the server answer anything with `body`."""
    monkeypatch.setenv("AGENTFLOW_WIKIPEDIA_URL", site.url(f"/as?type={quote(media_type)}&body={quote(body)}&path="))
    settings.cache_clear()


def summary(topic: str) -> str:
    [(pin, text)] = collect(registry.by_name("GetWikipediaSummary"), {"topic": topic})
    assert pin == "summary"
    return str(text)


def test_the_summary_is_the_pages_extract(api: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, api, '{"title": "Zürich", "extract": "A city."}')
    assert summary("Zürich") == "A city."


def test_the_page_is_asked_for_by_its_title(api: "Site") -> None:
    with pytest.raises(BadInput, match="has no summary"):  # the server only tells what it was asked
        summary("  AC/DC   and ü? ")
    [seen] = api.seen
    assert seen.path == "/rest/page/summary/AC%2FDC_and_%C3%BC%3F"


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, BadInput, "Wikipedia has no page on 'Nothing'"),
        (403, BadInput, "does not let this request in"),
        (429, Transient, "cannot answer now"),
        (500, Transient, "cannot answer now"),
        (503, Transient, "cannot answer now"),
    ],
)
def test_the_status_says_what_went_wrong(
    api: "Site", monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception], message: str
) -> None:
    monkeypatch.setenv("AGENTFLOW_WIKIPEDIA_URL", api.url(f"/status/{status}?path="))
    settings.cache_clear()
    with pytest.raises(error, match=message):
        summary("Nothing")


@pytest.mark.parametrize("body", ["<html>log in first", "{", "[" * 5000])
def test_what_is_not_json_may_pass(api: "Site", monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    answer(monkeypatch, api, body)
    with pytest.raises(Transient, match="not JSON"):
        summary("Zürich")


@pytest.mark.parametrize("body", ["[]", "{}", '{"extract": null}', "1"])
def test_a_page_without_a_summary_is_told(api: "Site", monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    answer(monkeypatch, api, body)
    with pytest.raises(BadInput, match="has no summary"):
        summary("Zürich")


def test_the_address_is_the_operators_and_is_guarded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_WIKIPEDIA_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    try:
        with pytest.raises(BadInput, match="may not be reached"):
            summary("Zürich")
    finally:
        settings.cache_clear()
