"""The moderator is asked about all text, whatever its size, and its failures count as the settings say."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import EngineError
from agentflow.moderation import checking
from agentflow.moderation.checking import ALLOWED, OVERLAP, PIECE, Verdict, check, text_of
from agentflow.settings import Settings, settings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def refuse_bad(kind, content, metadata):
    return "bad" not in content


def fail(kind, content, metadata):
    raise RuntimeError("broken")


def answer_nonsense(kind, content, metadata):
    return "yes"


@pytest.fixture
def moderator(monkeypatch):
    def choose(where, **more):
        monkeypatch.setattr(checking, "settings", lambda: Settings(moderation=where, **more))

    yield choose
    checking._moderator.cache_clear()


@pytest.fixture
def words(moderator, tmp_path):
    def choose(*lines):
        path = tmp_path / f"words{len(list(tmp_path.iterdir()))}"
        path.write_text("\n".join(lines))
        moderator(f"words:{path}")

    return choose


def strings_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_of(inner)


@given(JSON)
def test_no_text_is_left_out(value):
    found = text_of(value)
    assert all(one in found for one in strings_of(value))


@given(place=st.integers(0, 3 * PIECE), size=st.integers(0, 3 * PIECE))
def test_a_phrase_is_whole_in_a_piece_wherever_it_stands(place, size):
    phrase = "x" * OVERLAP
    text = "." * place + phrase + "." * size
    pieces = list(checking._pieces(text))
    assert any(phrase in piece for piece in pieces)
    assert max(map(len, pieces)) <= PIECE
    assert len(pieces) <= 1 + len(text) // (PIECE - OVERLAP)


def test_words_are_found_whole_in_any_case_and_form(words):
    words("# a list", "Bad", "very  ugly  # two words")
    for refused in ("so BAD!", "ｂａｄ", "very\n ugly", {"k": ["x", {"bad": 1}]}):
        assert not check("inputs", refused, {}).allowed, refused
    for allowed in ("badly", "a list", "ugly", "", None, 7, "very pretty, not ugly"):
        assert check("inputs", allowed, {}).allowed, allowed


UNSEEN = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u061c\u180e\u180b\u202e\u2066\ufe0f\u3164\U000e0100\U000e0041\x00\x7f"
)
"""Characters that show nothing."""


@given(
    st.lists(st.text(UNSEEN, max_size=4), min_size=7, max_size=7),
    st.sampled_from(["", "_", "__", " ", ".", "\u200b", "-", "\n", "\u3000"]),
    st.sampled_from(["", "_", "_ ", " ", "!", "\u00ad", "\t"]),
    st.booleans(),
)
def test_what_nobody_sees_hides_no_word(unseen, before, behind, loud):
    find = checking._finder(["naughty", "very ugly", "stra\u00dfe"])
    word = "".join(one + hidden for one, hidden in zip("naughty", unseen, strict=True))
    assert find(before + (word.upper() if loud else word) + behind)
    assert find(f"{before}ve{unseen[0]}ry {unseen[1]} u{unseen[2]}gly{behind}")
    assert find(f"STRA{unseen[3]}SSE")
    assert not find(f"a{word}"), "a part of a longer word is none"
    assert not find(f"{word}{unseen[4]}ness")


@given(st.text(max_size=30))
def test_a_text_means_what_it_does_without_what_nobody_sees(text):
    plain = checking._plain(text)
    assert checking._plain(plain) == plain
    assert checking._plain("\u200b".join(text)) == plain


def test_a_word_that_is_longer_than_a_piece_is_found(words):
    words("very ugly")
    for filler in ("\u200b", "\u034f", "\x00", "\u00ad"):
        text = "." * (PIECE - 10) + "ve" + filler * PIECE + "ry" + " " * PIECE + "ugly"
        assert not check("inputs", text, {}).allowed


@given(unseen=st.sampled_from(UNSEEN), behind=st.sampled_from(UNSEEN))
def test_what_nobody_sees_parts_words_too(unseen, behind):
    assert checking._finder(["bad"])(f"so{unseen}bad{behind}it is")


def test_a_text_of_many_pieces_is_read_to_its_end(words):
    words("bad")
    assert check("inputs", "good " * PIECE, {}).allowed
    assert not check("inputs", "good " * PIECE + "bad", {}).allowed


def test_a_function_is_asked(moderator):
    moderator(f"python:{__name__}:refuse_bad")
    assert check("output", "fine", {}) == ALLOWED
    assert check("output", "bad", {}) == Verdict(False)


@pytest.mark.parametrize("function", ["fail", "answer_nonsense"])
def test_a_moderator_that_fails_refuses_unless_it_is_to_pass(moderator, function):
    moderator(f"python:{__name__}:{function}")
    verdict = check("output", "fine", {})
    assert (verdict.allowed, "the moderator failed" in verdict.reason) == (False, True)
    moderator(f"python:{__name__}:{function}", moderation_failure="pass")
    assert check("output", "fine", {}).allowed


@pytest.mark.parametrize(
    "where", ["words:/nowhere", "python:nowhere:f", "python:json:nothing", "ftp://x", "bad", "words:/dev/null"]
)
def test_one_that_cannot_be_used_is_named(moderator, where):
    moderator(where)
    with pytest.raises(EngineError, match="AGENTFLOW_MODERATION"):
        checking.check_setting()


class _Service(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((asked, self.headers.get("Authorization")))
        status, body = self.server.answer(asked)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def service(moderator):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    moderator(f"http://127.0.0.1:{server.server_port}/", moderation_token="t0ken")
    yield server
    server.shutdown()
    server.server_close()


def test_a_service_is_asked_with_all_it_needs(service):
    service.answer = lambda asked: (200, b'{"allowed": false, "categories": ["spam"], "reason": "ads", "more": 1}')
    assert check("output", {"a": "b"}, {"run_id": "r"}) == Verdict(False, ["spam"], "ads")
    ((asked, authorization),) = service.asked
    assert asked == {"type": "output", "content": "a\nb", "metadata": {"run_id": "r"}}
    assert authorization == "Bearer t0ken"


@pytest.mark.parametrize(
    "reply", [(500, b""), (200, b"{}"), (200, b'{"allowed": "yes"}'), (200, b"no JSON"), (302, b"")]
)
def test_a_service_that_answers_what_it_should_not_refuses(service, reply):
    service.answer = lambda asked: reply
    assert not check("output", "fine", {}).allowed


def test_a_service_that_is_late_lets_it_pass(service, monkeypatch):
    late = threading.Event()
    monkeypatch.setattr(checking, "PATIENCE", 0.2)
    service.answer = lambda asked: (late.wait(10), (200, b'{"allowed": false}'))[1]
    try:
        assert check("output", "fine", {}).allowed
    finally:
        late.set()


def test_it_is_off_unless_it_is_named():
    assert settings().moderation is None
    assert not checking.is_on()
