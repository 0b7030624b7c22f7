"""One request on behalf of a user: redirects give nothing away, and neither size nor time runs off."""

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from agentflow.errors import BadInput, Transient
from agentflow.net.fetching import Body, Limits, Reply, fetch

if TYPE_CHECKING:
    from web_site import Site

SECRETS = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "session=s3cret"}


def get(url: str, *allow: str, method: str = "GET", headers: dict[str, str] | None = None, **more: Any) -> Reply:
    limits = Limits(allow, more.pop("seconds", 20.0), more.pop("max_bytes", 10_000))
    return asyncio.run(fetch(method, url, headers or {}, Body(**more), limits))


def to(site: "Site", url: str, status: int = 302) -> str:
    return site.url(f"/to?url={quote(url, safe='')}&status={status}")


def test_a_loopback_server_is_reached_only_where_its_port_is_allowed(site: "Site", other_site: "Site") -> None:
    assert get(site.url(), site.pair).status == 200
    with pytest.raises(BadInput, match="may not be reached"):
        get(other_site.url(), site.pair)
    assert other_site.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_forbidden_address_is_refused(site: "Site", other_site: "Site", status: int) -> None:
    with pytest.raises(BadInput, match="may not be reached"):
        get(to(site, other_site.url("/echo"), status), site.pair)
    assert len(site.seen) == 1
    assert other_site.seen == []


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/",
        "http://localhost:1/",
        "file:///etc/passwd",
        "ftp://8.8.8.8/",
        "http://[",
    ],
)
def test_a_redirect_out_of_the_web_is_refused(site: "Site", target: str) -> None:
    with pytest.raises(BadInput):
        get(to(site, target), site.pair)


METHODS = [
    # status, method, the method it becomes, whether the body goes along
    (301, "POST", "GET", False),
    (302, "POST", "GET", False),
    (303, "POST", "GET", False),
    (303, "PUT", "GET", False),
    (301, "PUT", "PUT", True),
    (307, "POST", "POST", True),
    (308, "POST", "POST", True),
    (302, "GET", "GET", False),
    (303, "HEAD", "HEAD", False),
]


@pytest.mark.parametrize(("status", "method", "becomes", "keeps_body"), METHODS)
def test_within_a_site_a_redirect_works_as_in_browsers(
    site: "Site", status: int, method: str, becomes: str, keeps_body: bool
) -> None:
    body = {} if method in ("GET", "HEAD") else {"content": "data", "media_type": "text/x-test"}
    get(to(site, "/echo", status), site.pair, method=method, headers=SECRETS, **body)
    last = site.seen[-1]
    assert (last.method, last.body) == (becomes, b"data" if keeps_body else b"")
    assert last.headers.get("content-type") == ("text/x-test" if keeps_body else None)
    assert all(last.headers[name.lower()] == value for name, value in SECRETS.items())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_to_another_site_neither_secrets_nor_body_go_along(site: "Site", other_site: "Site", status: int) -> None:
    headers = {**SECRETS, "Accept-Language": "it"}
    get(to(site, other_site.url(), status), site.pair, other_site.pair, method="PUT", headers=headers, content="s3cret")
    [seen] = other_site.seen
    assert "s3cret" not in json.dumps(seen.headers)
    assert seen.body == b""
    assert seen.headers["accept-language"] == "it"
    assert seen.headers["host"] == other_site.pair


def test_secrets_do_not_come_back_by_way_of_another_site(site: "Site", other_site: "Site") -> None:
    get(to(site, to(other_site, site.url("/echo"))), site.pair, other_site.pair, headers=SECRETS)
    assert "s3cret" not in json.dumps(site.seen[-1].headers)


def test_cookies_of_a_redirect_go_along_within_the_site(site: "Site") -> None:
    get(to(site, "/echo"), site.pair)
    assert site.seen[-1].headers["cookie"] == "hop=1"


def test_redirects_without_end_are_given_up(site: "Site") -> None:
    with pytest.raises(BadInput, match="redirects more than 10 times"):
        get(site.url("/loop"), site.pair)
    assert len(site.seen) == 11


def test_a_redirect_to_nowhere_is_a_reply(site: "Site") -> None:
    assert get(site.url("/status/302"), site.pair).status == 302


@pytest.mark.parametrize(
    "path",
    [
        "/zeros/10001",
        "/zeros/5000000",
        "/encoded/identity?size=10001",
        "/encoded/deflate?size=10001",
        "/encoded/gzip?size=10001",
        "/encoded/gzip?size=50000000",
    ],
)
def test_a_reply_that_is_too_large_is_refused(site: "Site", path: str) -> None:
    with pytest.raises(BadInput, match="more than 10000 bytes"):
        get(site.url(path), site.pair)


@pytest.mark.parametrize(
    "path",
    [
        "/zeros/10000",
        "/encoded/gzip?size=10000",
        "/encoded/deflate?size=10000",
        "/encoded/deflate?size=10000&raw=1",
    ],
)
def test_a_reply_that_just_fits_is_read(site: "Site", path: str) -> None:
    assert get(site.url(path), site.pair).body == b"0" * 10_000


def test_a_reply_in_an_encoding_that_was_not_asked_for_is_refused(site: "Site") -> None:
    with pytest.raises(BadInput, match="br"):
        get(site.url("/encoded/br"), site.pair, headers={"Accept-Encoding": "br"})
    assert site.seen[-1].headers["accept-encoding"] == "gzip, deflate"


def test_a_reply_that_trickles_is_given_up_in_time(site: "Site") -> None:
    with pytest.raises(Transient, match=r"within 0\.3 s"):
        get(site.url("/hang"), site.pair, seconds=0.3)


@pytest.mark.parametrize("path", ["/break", "/encoded/gzip?cut=1"])
def test_a_reply_that_breaks_off_may_work_next_time(site: "Site", path: str) -> None:
    with pytest.raises(Transient, match="did not answer as it should"):
        get(site.url(path), site.pair)


def test_a_closed_port_may_be_open_next_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Transient, match="cannot be reached"):
        get(f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}")


def test_the_environments_proxies_are_not_used(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(site.url(), site.pair).status == 200


def test_headers_that_describe_the_message_are_not_the_users_to_set(site: "Site") -> None:
    get(site.url(), site.pair, headers={"Host": "internal", "Content-Length": "5", "Transfer-Encoding": "chunked"})
    headers = site.seen[-1].headers
    assert headers["host"] == site.pair
    assert "transfer-encoding" not in headers
    assert headers.get("content-length", "0") == "0"


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: s3cret"}, {"X A": "s3cret"}, {"X-A": "s3cret \N{SNOWMAN}"}])
def test_headers_that_cannot_be_sent_are_bad_input_and_not_shown(site: "Site", headers: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="header") as caught:
        get(site.url(), site.pair, headers=headers)
    assert "s3cret" not in caught.value.message
    assert site.seen == []


def test_messages_name_the_host_only(site: "Site") -> None:
    with pytest.raises(BadInput) as caught:
        get(site.url("/zeros/20000?token=s3cret"), site.pair)
    assert "127.0.0.1" in caught.value.message
    assert "s3cret" not in caught.value.message


TEXTS = [
    ("text/plain", "gr\u00fc\u00df", "utf-8"),
    ("text/plain; charset=latin-1", "gr\u00fc\u00df", "latin-1"),
    ('text/plain; charset="ISO-8859-1"; x=y', "gr\u00fc\u00df", "latin-1"),
    ("text/plain; charset=no-such-thing", "gr\u00fc\u00df", "utf-8"),
    ("text/plain; charset=idna", "gr\u00fc\u00df", "utf-8"),
    ("text/plain; charset=unicode-escape", "gr\\u00fc\u00df", "utf-8"),
    ("text/plain; charset=raw_unicode_escape", "gr\\u00fc\u00df", "utf-8"),
    ("text/plain; charset=UTF-7", "gr+APw-\u00df", "utf-8"),
    ("text/plain; charset=zlib", "gr\u00fc\u00df", "utf-8"),
]


@pytest.mark.parametrize(("content_type", "text", "encoding"), TEXTS)
def test_text_is_read_in_the_charset_that_the_reply_names(content_type: str, text: str, encoding: str) -> None:
    assert Reply(200, httpx.Headers({"content-type": content_type}), text.encode(encoding)).text == text


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert Reply(200, httpx.Headers({}), b"\xffok").text == "ÿok"
