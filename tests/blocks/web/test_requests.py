"""SendWebRequest against a real server: what it sends, and where it goes on."""

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from agentflow.blocks import registry
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput, NodeFailure, Transient
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site


@pytest.fixture(autouse=True)
def _allowed(site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The setting, as an operator would make it."""
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", f"{site.pair}, elsewhere:80")
    monkeypatch.setenv("AGENTFLOW_HTTP_MAX_BYTES", "5000")
    settings.cache_clear()
    yield
    settings.cache_clear()


def send(url: str, **inputs: Any) -> list[tuple[str, Any]]:
    return collect(registry.by_name("SendWebRequest"), {"url": url, **inputs}, trial_context(idempotency_key="key-7"))


@pytest.mark.parametrize(
    ("status", "pin"),
    [(200, "response"), (201, "response"), (299, "response"), (302, "server_error"), (304, "server_error"),
     (400, "client_error"), (404, "client_error"), (429, "client_error"), (500, "server_error"), (503, "server_error")],
)  # fmt: skip
def test_the_status_chooses_the_output(site: "Site", status: int, pin: str) -> None:
    [(chosen, value)] = send(site.url(f"/status/{status}"), method="GET")
    assert chosen == pin
    assert status == 304 or value == {"status": status}


def send_unlinked(url: str, linked: set[str], **inputs: Any) -> list[tuple[str, Any]]:
    context = trial_context(linked=frozenset(linked))
    return collect(registry.by_name("SendWebRequest"), {"url": url, "method": "GET", **inputs}, context)


@pytest.mark.parametrize("linked", [{"response"}, set(), {"response", "error"}])
@pytest.mark.parametrize("status", [400, 401, 404, 408, 410, 422, 425, 429, 500, 502, 503, 599])
def test_a_failed_status_that_nobody_takes_fails(site: "Site", status: int, linked: set[str]) -> None:
    passes = status in (408, 425, 429) or status >= 500
    with pytest.raises(Transient if passes else BadInput, match=rf"127\.0\.0\.1 .*\(status {status}\)"):
        send_unlinked(site.url(f"/status/{status}"), linked)


@pytest.mark.parametrize("status", [404, 503])
def test_a_failed_status_is_left_to_whoever_takes_it(site: "Site", status: int) -> None:
    pin = "client_error" if status == 404 else "server_error"
    assert send_unlinked(site.url(f"/status/{status}"), {pin}) == [(pin, {"status": status})]
    other = "client_error" if status == 503 else "server_error"
    with pytest.raises(NodeFailure):
        send_unlinked(site.url(f"/status/{status}"), {other})


def test_a_success_that_nobody_takes_is_one(site: "Site") -> None:
    assert send_unlinked(site.url("/status/204"), set())[0][0] == "response"


BROKEN = [
    ('{"a": 1,}', "line 1, column"),
    ('{"a": "x"\n "b": 2}', "line 2, column 2"),
    ('{"name": "Ann "the" Smith"}', "line 1, column 16"),
    ('{"text": "two\nlines"}', "line 1, column 14"),
    ("[1, 2", "line 1, column"),
    ("  {a: 1}", "line 1, column 4"),
    ('{"a": NaN}', "no NaN"),
    ('{"a": 1} {"b": 2}', "Extra data at line 1, column 10"),
    ("[" * 100_000, "nested too deep"),
]


@pytest.mark.parametrize(("body", "place"), BROKEN)
@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json; charset=utf-8"}])
def test_broken_json_is_not_sent(site: "Site", body: str, place: str, headers: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=f"body: this is not JSON: .*{place}"):
        send(site.url("/echo"), body=body, headers=headers)
    assert site.seen == []


def test_a_body_that_says_it_is_json_must_be(site: "Site") -> None:
    with pytest.raises(BadInput, match="this is not JSON"):
        send(site.url("/echo"), body="plain", headers={" Content-Type": "application/problem+JSON"})


@pytest.mark.parametrize(
    "inputs",
    [{"json_format": False}, {"headers": {"Content-Type": "text/plain"}}, {"headers": {"CONTENT-TYPE": "x/y"}}],
)
def test_a_text_that_is_not_meant_as_json_goes_out_as_it_is(site: "Site", inputs: dict[str, Any]) -> None:
    send(site.url("/echo"), body='{"a": 1,}', **inputs)
    assert site.seen[0].body == b'{"a": 1,}'


@pytest.mark.parametrize(
    ("inputs", "media_type", "body"),
    [
        ({"body": {"a": [1, "ü"]}}, "application/json", '{"a":[1,"ü"]}'),
        ({"body": [1, 2]}, "application/json", "[1,2]"),
        ({"body": '{"as": "it stands"}'}, "application/json", '{"as": "it stands"}'),
        ({"body": "plain"}, "text/plain; charset=utf-8", "plain"),
        ({"body": "a=1&b=2", "json_format": False}, "text/plain; charset=utf-8", "a=1&b=2"),
        ({"body": "<a/>", "headers": {"Content-Type": "text/xml"}}, "text/xml", "<a/>"),
        (
            {"body": {"a": "x y", "b": 2, "c": [1, True], "d": None}, "json_format": False},
            "application/x-www-form-urlencoded",
            "a=x+y&b=2&c=1&c=true",
        ),
        ({"body": float("nan")}, "application/json", '"NaN"'),
        ({}, None, ""),
    ],
)
def test_the_body_is_sent_in_the_form_that_fits_it(
    site: "Site", inputs: dict[str, Any], media_type: str | None, body: str
) -> None:
    send(site.url(), **inputs)
    [seen] = site.seen
    assert seen.method == "POST"
    assert (seen.headers.get("content-type"), seen.body.decode()) == (media_type, body)


def test_files_go_as_a_form(site: "Site") -> None:
    file = "data:text/csv;name=a.csv;base64," + base64.b64encode(b"1,2").decode()
    send(site.url(), files=[file, "data:,plain%20one"], files_name="upload", body={"note": "two"})
    [seen] = site.seen
    assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")
    for part in (b'name="note"', b"two", b'name="upload"; filename="a.csv"', b"text/csv", b"1,2", b"plain one"):
        assert part in seen.body


def test_a_file_may_be_an_address_that_is_fetched_first(site: "Site") -> None:
    send(site.url("/echo"), files=[site.url("/as?type=text/csv&body=1%2C2")])
    fetched, sent = site.seen
    assert (fetched.method, fetched.path.partition("?")[0]) == ("GET", "/as")
    for part in (b'name="file"; filename="as"', b"text/csv", b"1,2"):
        assert part in sent.body


@pytest.mark.parametrize("file", ["/etc/passwd", "file:///etc/passwd", "data:text/plain", "data:;base64,?", "a,b"])
def test_a_file_that_is_no_address_is_refused(site: "Site", file: str) -> None:
    with pytest.raises(BadInput, match="file"):
        send(site.url(), files=[file])
    assert site.seen == []


@pytest.mark.parametrize(
    ("media_type", "body", "json_format", "value"),
    [
        ("application/json", '{"a": 1}', True, {"a": 1}),
        ("application/problem+json; charset=utf-8", '{"a": 1}', True, {"a": 1}),
        ("application/json", "", True, None),
        ("application/json", "{broken", True, "{broken"),
        ("application/json", "[" * 4000, True, "[" * 4000),
        ("application/json", '{"a": 1}', False, '{"a": 1}'),
        ("text/plain", '{"a": 1}', True, '{"a": 1}'),
        ("text/plain", "", True, ""),
    ],
)
def test_a_json_reply_is_read_where_asked_for(
    site: "Site", media_type: str, body: str, json_format: bool, value: Any
) -> None:
    url = site.url(f"/as?type={quote(media_type)}&body={quote(body)}")
    assert send(url, method="GET", json_format=json_format) == [("response", value)]


def test_a_write_carries_the_idempotency_key(site: "Site") -> None:
    send(site.url())
    send(site.url(), headers={"idempotency-key": "mine"})
    send(site.url(), method="GET")
    assert [seen.headers.get("idempotency-key") for seen in site.seen] == ["key-7", "mine", None]


def test_the_settings_limit_holds(site: "Site") -> None:
    with pytest.raises(BadInput, match="more than 5000 bytes"):
        send(site.url("/zeros/5001"), method="GET")
