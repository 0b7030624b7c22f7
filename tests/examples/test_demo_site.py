"""The demo's site answers as its graphs expect it, on loopback, and ends."""

from collections.abc import Iterator

import httpx
import pytest

from agentflow.cli.demo_site import CUSTOMERS, GONE, PAGES, DemoSite


@pytest.fixture
def site() -> Iterator[DemoSite]:
    with DemoSite(slowest=0.0) as running:
        yield running


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def test_it_listens_on_loopback_only(site: DemoSite) -> None:
    assert site.authority.startswith("127.0.0.1:")
    assert site.url == f"http://{site.authority}"


def test_the_feed_lists_every_page_in_order_and_each_can_be_fetched_but_the_one_that_has_gone(site: DemoSite) -> None:
    items = get(f"{site.url}/feed.json").json()["items"]
    assert [item["id"] for item in items] == list(range(1, len(PAGES) + 1))
    for item, page in zip(items, PAGES, strict=True):
        reply = get(item["url"])
        if item["id"] == GONE:
            assert reply.status_code == 404
            assert reply.json() == {"error": "this page has gone"}
        else:
            assert reply.json() == page


@pytest.mark.parametrize("path", ["/", "/pages/0.json", "/pages/99.json", "/pages/x.json", "/customers/bob.json"])
def test_what_is_not_there_is_a_404(site: DemoSite, path: str) -> None:
    assert get(site.url + path).status_code == 404


@pytest.mark.parametrize(("name", "discount"), CUSTOMERS.items())
def test_a_customer_has_a_discount(site: DemoSite, name: str, discount: int) -> None:
    assert get(f"{site.url}/customers/{name}.json").json()["discount"] == discount


def test_the_broken_part_hangs_up_without_an_answer(site: DemoSite) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        get(f"{site.url}/broken/anything.json")


def test_nothing_answers_once_it_has_ended() -> None:
    with DemoSite() as site:
        pass
    with pytest.raises(httpx.ConnectError):
        get(f"{site.url}/feed.json")
