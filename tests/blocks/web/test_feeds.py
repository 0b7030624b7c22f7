"""News feeds from a real server: what an entry is, which are new, and how looks follow each other."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from agentflow.blocks import registry
from agentflow.blocks.trial import trial_context
from agentflow.blocks.web import feed_reading, feeds
from agentflow.engine.codec import dumps, loads
from agentflow.engine.waits import Resumed, Timer
from agentflow.errors import BadInput, Transient
from agentflow.settings import settings


class Paper:
    """A server with one feed, which tests change as they go."""

    def __init__(self) -> None:
        self.status = 200
        self.retry_after = ""
        self.body = b""
        self.media_type = "application/rss+xml"
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/feed"

    def print_rss(self, *items: str) -> None:
        self.body = f'<rss version="2.0"><channel><title>t</title>{"".join(items)}</channel></rss>'.encode()


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Paper]:
    paper = Paper()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(paper.status)
            self.send_header("content-type", paper.media_type)
            self.send_header("retry-after", paper.retry_after)
            self.send_header("content-length", str(len(paper.body)))
            self.end_headers()
            self.wfile.write(paper.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    paper.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", f"127.0.0.1:{paper.port}")
    settings.cache_clear()
    yield paper
    server.shutdown()
    server.server_close()
    thread.join(10)
    settings.cache_clear()


def ago(minutes: float) -> str:
    return format_datetime(datetime.now(UTC) - timedelta(minutes=minutes))


def item(name: str, minutes: float | None = 5) -> str:
    date = "" if minutes is None else f"<pubDate>{ago(minutes)}</pubDate>"
    return f"<item><title>{name}</title><link>http://news.test/{name}</link>{date}</item>"


def look(paper: Paper, resumed: Resumed | None = None, **inputs: Any) -> tuple[list[str], list[Any], Timer | None]:
    """One look: the titles given out one by one, the lists given out, and the wait."""
    block = registry.by_name("ReadRSSFeed")
    given = {"rss_url": paper.url, "time_period": 60, "polling_rate": 30, **inputs}
    entries, lists, wait = [], [], None
    for what in _drain(block.run(block.parse(given), trial_context(resumed=resumed))):
        if isinstance(what, Timer):
            wait = what
        elif what[0] == "entry":
            entries.append(what[1]["title"])
        else:
            lists.append([entry["title"] for entry in what[1]])
    return entries, lists, wait


def _drain(running: Any) -> list[Any]:
    import asyncio

    async def collect() -> list[Any]:
        return [what async for what in running]

    return asyncio.run(collect())


def later(wait: Timer | None) -> Resumed:
    """The block is called again, with its state as it comes from the database."""
    assert wait is not None
    return Resumed("timer", state=loads(dumps(wait.state)))


def test_entries_of_one_id_are_told_apart_by_what_they_say(paper: Paper) -> None:
    def one(title: str) -> str:
        return f"<item><title>{title}</title><guid>same</guid><pubDate>{ago(5)}</pubDate></item>"

    paper.print_rss(one("a"), one("b"), one("a"))
    entries, _, wait = look(paper)
    assert entries == ["a", "b"]
    paper.print_rss(one("c"), one("a"), one("b"))
    assert look(paper, later(wait))[0] == ["c"]


@pytest.mark.parametrize("written", ["windows-1251", "utf-8-sig", "utf-16"])
def test_a_feed_is_read_in_what_it_is_written_in(paper: Paper, written: str) -> None:
    said = "windows-1251" if written == "windows-1251" else "utf-8"
    rss = f'<rss version="2.0"><channel><title>t</title>{item("Привет")}</channel></rss>'
    paper.body = f'<?xml version="1.0" encoding="{said}"?>{rss}'.encode(written)
    assert look(paper)[0] == ["Привет"]


def test_an_entry_has_all_that_the_feed_tells(paper: Paper) -> None:
    paper.body = b"""<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>t</title><item>
        <title>A &amp; B</title><link>http://news.test/1</link><guid>1</guid><author>ann@news.test (Ann)</author>
        <description>&lt;p onclick="x()"&gt;Hi &lt;script&gt;evil()&lt;/script&gt;\xc3\xbc&lt;/p&gt;</description>
        <pubDate>Tue, 24 Nov 2015 10:30:00 +0100</pubDate><category>one</category><category>two</category>
        </item></channel></rss>"""
    block = registry.by_name("ReadRSSFeed")
    inputs = block.parse({"rss_url": paper.url, "time_period": 10 * 366 * 24 * 60, "run_continuously": False})
    old = _drain(block.run(inputs, trial_context()))
    assert old == [("entries", [])]
    paper.body = paper.body.replace(b"2015", b"2025").replace(b"Tue, ", b"Mon, ")
    entry = {
        "title": "A & B",
        "link": "http://news.test/1",
        "description": "<p>Hi ü</p>",
        "pub_date": "2025-11-24T09:30:00Z",
        "author": "ann@news.test (Ann)",
        "categories": ["one", "two"],
    }
    assert _drain(block.run(inputs, trial_context())) == [("entry", entry), ("entries", [entry])]


@pytest.mark.parametrize(
    "body",
    [
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><entry><title>x</title><id>urn:1</id>'
        '<link href="http://news.test/x"/><updated>{iso}</updated><content type="text">words</content></entry></feed>',
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/"><item rdf:about="http://news.test/x"><title>x</title>'
        "<link>http://news.test/x</link><description>words</description><dc:date>{iso}</dc:date></item></rdf:RDF>",
    ],
    ids=["Atom", "RSS 1.0"],
)
def test_other_kinds_of_feeds_are_read_as_well(paper: Paper, body: str) -> None:
    iso = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    paper.body = body.replace("{iso}", iso).encode()
    block = registry.by_name("ReadRSSFeed")
    [(_, entry), _] = _drain(block.run(block.parse({"rss_url": paper.url, "run_continuously": False}), trial_context()))
    found = (entry["title"], entry["link"], entry["description"], entry["pub_date"])
    assert found == ("x", "http://news.test/x", "words", iso)


def test_only_entries_of_the_wanted_time_are_given_out_in_the_feeds_order(paper: Paper) -> None:
    paper.print_rss(item("new", 1), item("edge", 59), item("old", 61), item("undated", None))
    assert look(paper, run_continuously=False) == (["new", "edge", "undated"], [["new", "edge", "undated"]], None)


def test_each_entry_is_given_out_once_over_many_looks(paper: Paper) -> None:
    paper.print_rss(item("a"), item("undated", None), item("old", 90))
    entries, lists, wait = look(paper)
    assert (entries, lists) == (["a", "undated"], [["a", "undated"]])
    assert wait is not None
    assert wait.seconds == 30

    paper.print_rss(item("b", 1), item("late", 30), item("late and old", 80), item("a"), item("undated", None))
    entries, lists, wait = look(paper, later(wait))
    assert (entries, lists) == (["b", "late"], [["b", "late"]])

    entries, lists, wait = look(paper, later(wait))
    assert (entries, lists) == ([], [])  # nothing new, and so nothing at all

    paper.print_rss()  # it is empty for once: what was there is not forgotten
    _, _, wait = look(paper, later(wait))
    paper.print_rss(item("c", 1), item("b", 1), item("undated", None))
    assert look(paper, later(wait))[0] == ["c"]


def test_an_entry_that_the_feed_has_twice_is_one(paper: Paper) -> None:
    paper.print_rss(item("a"), item("a"), item("b"))
    assert look(paper)[0] == ["a", "b"]


def test_the_state_stays_bounded(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_SEEN", 3)
    paper.print_rss(*(item(f"n{number}") for number in range(5)))
    _, _, wait = look(paper)
    assert wait is not None
    assert len(wait.state["seen"]) == 3 * feed_reading.NAME_LENGTH


def test_a_feed_with_many_entries_is_read_to_a_bound(paper: Paper) -> None:
    paper.print_rss(*(item(f"n{number}") for number in range(feed_reading.MAX_ENTRIES + 5)))
    assert len(look(paper, run_continuously=False)[0]) == feed_reading.MAX_ENTRIES


def test_a_feed_that_is_away_for_a_while_is_looked_at_again(paper: Paper, caplog: pytest.LogCaptureFixture) -> None:
    paper.print_rss(item("a"))
    _, _, wait = look(paper)
    paper.status = 503
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            entries, lists, wait = look(paper, later(wait))
            assert (entries, lists) == ([], [])
    assert [record.getMessage() for record in caplog.records].count("feed_unavailable") == 3
    paper.status = 200
    paper.print_rss(item("b"), item("a"))
    entries, _, wait = look(paper, later(wait))
    assert entries == ["b"]
    assert wait is not None
    assert wait.state["failures"] == 0


@pytest.mark.parametrize(("asked", "pause"), [("900", 900), ("5", 30), ("", 30), ("1e12", 366 * 86_400)])
def test_a_feed_that_asks_to_be_left_alone_is_left_alone(paper: Paper, asked: str, pause: float) -> None:
    paper.print_rss(item("a"))
    _, _, wait = look(paper)
    paper.status, paper.retry_after = 429, asked
    _, _, wait = look(paper, later(wait))
    assert wait is not None
    assert wait.seconds == pause


def test_a_feed_that_stays_away_fails_in_the_end(paper: Paper) -> None:
    paper.print_rss(item("a"))
    _, _, wait = look(paper)
    paper.status = 503
    for _ in range(feeds.MAX_FAILURES):
        _, _, wait = look(paper, later(wait))
    with pytest.raises(Transient, match="cannot answer now"):
        look(paper, later(wait))


def test_a_feed_that_is_away_at_the_first_look_fails_at_once(paper: Paper) -> None:
    paper.status = 503
    with pytest.raises(Transient, match="cannot answer now"):
        look(paper)


@pytest.mark.parametrize("body", [b"", b"hello", b"<html><body>hi</body></html>", b"\x00\x01\x02", b'{"a": 1}'])
def test_what_is_no_feed_is_refused(paper: Paper, body: bytes) -> None:
    paper.body = body
    with pytest.raises(BadInput, match="is not a feed"):
        look(paper)


def test_a_missing_feed_and_a_large_one_are_refused(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    paper.print_rss(item("a"))
    monkeypatch.setattr(feeds, "MAX_BYTES", 10)
    with pytest.raises(BadInput, match="more than 10 bytes"):
        look(paper)
    paper.status = 404
    with pytest.raises(BadInput, match="there is no such feed"):
        look(paper)


def test_no_feed_reaches_for_files_or_grows(paper: Paper, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("very secret")
    growing = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(9))
    paper.body = (
        f"<!DOCTYPE r [<!ENTITY f SYSTEM 'file://{secret}'><!ENTITY e0 'aaaaaaaaaa'>{growing}]>"
        "<rss version='2.0'><channel><item><title>x &f; &e9;</title></item></channel></rss>"
    ).encode()
    block = registry.by_name("ReadRSSFeed")
    given = _drain(block.run(block.parse({"rss_url": paper.url, "run_continuously": False}), trial_context()))
    assert "very secret" not in str(given)
    assert len(str(given)) < 2000


def test_a_feed_that_takes_too_long_to_read_is_given_up(
    paper: Paper, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(feed_reading, "SECONDS", 2.0)
    author = f"<item><title>x</title><author>{'a' * 200_000}</author></item>"  # takes minutes
    paper.print_rss(author)
    began = time.monotonic()
    with pytest.raises(BadInput, match="cannot be read within 2 s"):
        look(paper)
    assert time.monotonic() - began < 10
