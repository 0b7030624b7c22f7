"""Whatever is sent to a webhook is refused in words or taken, and never breaks anything."""

import gzip
import hashlib
import hmac
import json
import socket
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from senders import SECRET, Sent, github, slack, standard
from serving import serve, start_serving  # noqa: F401

from agentflow.api.payloads import MAX_PAYLOAD
from agentflow.api.requests import MAX_DEPTH
from agentflow.graph.json_values import MAX_NESTING
from agentflow.triggers.senders import MAX_SAID

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
SMUGGLED = [b'{"a":1}', b"a=1&b=2", b"[1]", b'"x"', b"", b"\0", b"\xff", b"{", b"payload=%7B%7D"]


def payload_of(api, made):
    (line,) = api.get(f"/api/v1/triggers/{made['id']}/deliveries?limit=1").json["items"]
    return api.get(f"/api/v1/triggers/{made['id']}/deliveries/{line['id']}").json["payload"]


@pytest.mark.parametrize(
    ("body", "kind", "payload"),
    [
        (b'{"a": 1}', JSON, {"a": 1}),
        (b'{"a": 1}', "application/json; charset=UTF-8", {"a": 1}),
        (b'{"a": 1}', "application/cloudevents+json", {"a": 1}),
        (b'{"a": 1}', None, {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', JSON, {"a": 1}),
        (b"[1, 2]", JSON, {"body": [1, 2]}),
        (b'"x"', JSON, {"body": "x"}),
        (b"null", JSON, {"body": None}),
        (b'{"a": "\\u0000"}', JSON, {"a": "\0"}),
        (b'{"a\\u0000b": 1}', JSON, {"a\0b": 1}),
        (b'{"a": "\\ud800"}', JSON, {"a": "\ud800"}),
        (b"a=1&b=x+y%21&a=2&empty=", FORM, {"a": ["1", "2"], "b": "x y!", "empty": ""}),
        (b"a=1&a=2&a=3", FORM, {"a": ["1", "2", "3"]}),
        (b"payload=%7B%22a%22%3A+1%7D", FORM, {"a": 1}),
        (b"payload=%7B%7D&more=1", FORM, {"payload": "{}", "more": "1"}),
        (b"", FORM, {}),
        (b"a=%00", FORM, {"a": "\0"}),
        (b'{"deep": ' + b"[" * (MAX_NESTING - 1) + b"]" * (MAX_NESTING - 1) + b"}", JSON, ...),
    ],
)  # fmt: skip
def test_what_can_be_read_becomes_a_payload(api, trigger, call, work, body, kind, payload):
    made = trigger()
    reply = call(made, data=body, content_type=kind)
    assert reply.status_code == 202, reply.json
    if payload is not ...:
        assert payload_of(api, made) == payload


@pytest.mark.parametrize(
    ("body", "kind", "status", "detail"),
    [
        (b"{", JSON, 400, "line 1, column 2"),
        (b"", JSON, 400, "no body"),
        (b"\0", JSON, 400, "not JSON"),
        (b'{"a": 1, "a": 2}', JSON, 400, "occurs twice"),
        (b'{"deep": ' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}", JSON, 400, "nested deeper"),
        (b"[" * MAX_NESTING + b"]" * MAX_NESTING, JSON, 400, "nested deeper"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), JSON, 400, "nested deeper"),
        (b'{"a":' * 150_000, JSON, 400, "nested too deep"),
        (b"9" * 5_000, JSON, 400, "cannot be read"),
        (b'{"a": NaN}', JSON, 400, "NaN is no number"),
        (b"[-Infinity]", JSON, 400, "-Infinity is no number"),
        (b'{"a": 1e400}', JSON, 400, "too large"),
        (b"payload=%7B%22a%22%3A-1e999%7D", FORM, 400, "too large"),
        (b'{"\\ud800": 1}', JSON, 400, "surrogate"),
        ('{"a": "ä"}'.encode("latin-1"), JSON, 400, "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), JSON, 400, "not UTF-8"),
        (b'{"a": 1}', "application/json; charset=utf-16", 415, "UTF-8"),
        (b'{"a": 1}', "application/json; charset=" + "x" * 1000, 415, "UTF-8"),
        (b"a=%FF", FORM, 400, "not UTF-8"),
        (b"a=\xff", FORM, 400, "not UTF-8"),
        (b'{"a": 1}', FORM, 400, "looks like JSON"),
        (b"&".join([b"a=1"] * 10_001), FORM, 400, "no form"),
        (b"payload=%7B", FORM, 400, "not JSON"),
        (b"x", "text/plain", 415, "JSON or a form"),
        (b"x", "multipart/form-data; boundary=x", 415, "JSON or a form"),
        (b"<a/>", "application/xml", 415, "JSON or a form"),
        (b"x", "\xff", 415, "JSON or a form"),
    ],
)
def test_what_cannot_be_read_is_refused_and_counted(api, trigger, call, rows, body, kind, status, detail):
    made = trigger()
    before = rows()
    reply = call(made, data=body, content_type=kind)
    assert (reply.status_code, reply.mimetype) == (status, "application/problem+json"), reply.data
    assert detail in reply.json["detail"]
    assert rows() == before
    seen = api.get(f"/api/v1/triggers/{made['id']}").json["rejected"]
    assert (seen["count"], seen["last_reason"]) == (1, reply.json["detail"])


@pytest.mark.parametrize(("wanted", "kind"), [("json", FORM), ("form", JSON)])
def test_what_is_not_of_the_wanted_kind_is_refused(trigger, call, wanted, kind):
    reply = call(trigger(body=wanted), data=b"a=1", content_type=kind)
    assert (reply.status_code, reply.json["type"]) == (415, "urn:agentflow:problem:unsupported-media-type")


def test_a_body_that_is_encoded_is_refused(trigger, call):
    packed = gzip.compress(b'{"a": 1}')
    reply = call(trigger(), data=packed, content_type=JSON, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 415


@pytest.mark.parametrize(
    ("id", "status"),
    [("x" * MAX_SAID, 202), ("x" * (MAX_SAID + 1), 400), ("a\0b", 400), ("a\nb", 400), ("\ud800", 400), (" ", 202),
     (10**300, 400), ("", 202), (None, 202), ([], 202), ({}, 202), (True, 202), (1.5, 202), ("' OR 1=1 --", 202)],
)  # fmt: skip
def test_an_odd_id_is_refused_or_is_none(trigger, call, listed, id, status):
    made = trigger(delivery_id={"path": "$.id"}, filter={"event": {"path": "$.type"}})
    assert call(made, json={"id": id}).status_code == status
    assert call(made, json={"type": id}).status_code == status


def test_sizes_are_bounded_by_the_byte(trigger, call):
    made = trigger()
    fits = b'{"a":"' + b"x" * (MAX_PAYLOAD - 8) + b'"}'
    assert len(fits) == MAX_PAYLOAD
    assert call(made, data=fits, content_type=JSON).status_code == 202
    reply = call(made, data=fits + b" ", content_type=JSON)
    assert (reply.status_code, str(MAX_PAYLOAD) in reply.json["detail"]) == (413, True)
    escaped = json.dumps({"a": "\x01" * (MAX_PAYLOAD // 6 - 10)}).encode()
    assert call(made, data=escaped, content_type=JSON).status_code == 202


@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.sampled_from(SMUGGLED) | st.binary(max_size=50),
    kind=st.sampled_from([JSON, FORM, None, "text/plain", "a/b+json"]),
    headers=st.dictionaries(
        st.sampled_from(["webhook-id", "Idempotency-Key", "X-Event-Type", "Prefer", "Content-Encoding", "Accept"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=300),
    ),
)  # fmt: skip
def test_no_bytes_and_no_headers_break_it(made_once, call, body, kind, headers):
    reply = call(made_once, data=body, content_type=kind, headers=headers)
    assert reply.status_code in (202, 400, 415), reply.data


@pytest.fixture
def made_once(trigger):
    return trigger(wait=0)


@examples(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    payload=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_is_taken_through_every_place_that_reads_it(picky, call, payload):
    for sent in (standard(payload), github(payload), github(payload, form=True), slack(payload)):
        for made in picky:
            reply = call(made, data=sent.body, headers={"Content-Type": sent.headers["Content-Type"]})
            assert reply.status_code in (202, 400, 409), reply.data


@pytest.fixture
def picky(trigger):
    """Triggers that read a payload at many places."""
    every = ["equals", "not_equals", "contains", "above", "below"]
    conditions = [{"path": "$.body", "operator": one, "value": value} for one in every for value in (1, "x", None, [1])]
    source = {"path": "$.body"}
    return [
        trigger(filter={"event": source, "conditions": conditions}, delivery_id=source),
        trigger(delivery_id=source),
        trigger(signal={"name_path": "$.body", "run": "$.body"}),
        trigger(signal={"name": "x", "labels": {"a": "$.body"}}),
    ]


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"a=1&", {"a": "1"}),
        (b"&a=1&&b=2", {"a": "1", "b": "2"}),
        (b"flag", {"flag": ""}),
        (b"flag&a=1", {"flag": "", "a": "1"}),
        (b"a=1=2", {"a": "1=2"}),
    ],
)
def test_a_form_is_read_as_browsers_write_them(api, trigger, call, body, payload):
    made = trigger(scheme="none")
    assert call(made, Sent(body, {"Content-Type": FORM})).json["outcome"] == "run"
    assert payload_of(api, made) == payload


def test_a_slash_command_is_a_form(api, trigger, call):
    made = trigger(scheme="slack")
    reply = call(made, slack(form="token=gIkuvaNzQIHg97ATvDxqgjtO&command=%2Fweather&text=94070"))
    assert reply.json["outcome"] == "run"
    assert payload_of(api, made)["command"] == "/weather"


def ask(url: str, head: str, body: bytes = b"") -> bytes:
    """What the server answers to a request as it stands here, however long that is."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        answer = b""
        with suppress(OSError):  # it closes before it has read all
            connection.sendall(f"{head}\r\nHost: x\r\n\r\n".encode() + body)
        with suppress(OSError):
            while part := connection.recv(65_536):
                answer += part
        return answer


def test_a_large_body_is_refused_before_it_is_read_and_so_are_huge_headers(serve, trigger):  # noqa: F811
    _, url = serve()
    made = trigger()
    where = f"/hooks/{made['token']}"
    said = ask(url, f"POST {where} HTTP/1.1\r\nContent-Length: {10 * 1024 * 1024}")  # and sends none of it
    assert said.startswith(b"HTTP/1.1 413"), said
    assert str(MAX_PAYLOAD).encode() in said
    said = ask(url, f"POST {where.replace('hooks', '%68ooks')} HTTP/1.1\r\nContent-Length: {MAX_PAYLOAD + 1}")
    assert said.startswith(b"HTTP/1.1 413"), said
    chunk = b"%x\r\n%s\r\n" % (65_536, b"x" * 65_536)
    said = ask(url, f"POST {where} HTTP/1.1\r\nTransfer-Encoding: chunked", chunk * 17)
    assert said.startswith(b"HTTP/1.1 413"), said
    said = ask(url, f"POST {where} HTTP/1.1\r\nConnection: close\r\nX-Hub-Signature-256: {'x' * 100_000}")
    assert said.split()[1] == b"431", said
    body = b'{"a":"' + b"x" * (MAX_PAYLOAD - 8) + b'"}'
    whole = f"POST {where} HTTP/1.1\r\nConnection: close\r\nContent-Type: {JSON}"
    assert ask(url, f"{whole}\r\nContent-Length: {MAX_PAYLOAD}", body).startswith(b"HTTP/1.1 202")
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:500_000], body[500_000:])) + b"0\r\n\r\n"
    assert ask(url, f"{whole}\r\nTransfer-Encoding: chunked", parts).startswith(b"HTTP/1.1 202")


def test_a_hook_is_not_a_way_around_other_limits(trigger, call, environment, monkeypatch):
    made = trigger()
    monkeypatch.setattr(environment, "max_value_bytes", 100)
    reply = call(made, json={"a": "x" * 200})
    assert (reply.status_code, reply.json["type"]) == (413, "urn:agentflow:problem:too-large")


def test_a_signed_body_of_any_bytes_is_verified_as_it_was_sent(trigger, call):
    made = trigger(scheme="github")
    for body in (b"\xff\xfe", b"", b"\0", b" {} "):
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        reply = call(made, Sent(body, {"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": JSON}))
        assert reply.status_code == (202 if body == b" {} " else 400)
