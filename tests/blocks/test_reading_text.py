"""Escape sequences, fenced code and tags: what is written comes back, and long texts take no longer than they must."""

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput


def run(block: str, /, **inputs: Any) -> dict[str, Any]:
    return dict(collect(registry.by_name(block), inputs))


@given(st.text())
def test_what_is_encoded_is_decoded_again(text: str) -> None:
    encoded = run("TextEncoder", text=text)["encoded_text"]
    assert encoded.isascii()
    assert "\n" not in encoded
    assert run("TextDecoder", text=encoded) == {"decoded_text": text}


@given(st.text(st.characters(exclude_characters="\\")))
def test_a_text_without_backslashes_has_nothing_to_decode(text: str) -> None:
    assert run("TextDecoder", text=text) == {"decoded_text": text}


code = st.text("ab \n=", min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.sampled_from(["python", "py", "sql", "JSON"]), code), max_size=5))
def test_every_fenced_piece_of_code_is_found(pieces: list[tuple[str, str]]) -> None:
    text = "\n".join(f"Piece:\n```{name}\n{piece}\n```" for name, piece in pieces)
    outputs = run("CodeExtraction", text=text)
    pins = {"python": "python", "py": "python", "sql": "sql", "JSON": "json_code"}
    for pin in ("python", "sql", "json_code"):
        expected = "\n\n".join(piece for name, piece in pieces if pins[name] == pin)
        assert outputs.pop(pin, "") == expected
    assert outputs == ({"remaining_text": "\n".join(["Piece:"] * len(pieces))} if pieces else {})


def test_code_keeps_the_paragraphs_around_it_apart() -> None:
    text = "One.\n\nTwo.\n\n```css\na {}\n```\n\nThree."
    assert run("CodeExtraction", text=text) == {"css": "a {}", "remaining_text": "One.\n\nTwo.\n\n\nThree."}


names = st.sampled_from(["a", "b", "c_d"])
trees: st.SearchStrategy[Any] = st.recursive(
    st.text("xyz &;'", max_size=5).map(str.strip),
    lambda inner: st.lists(st.tuples(names, inner), min_size=1, max_size=4),
)


def written(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    return " ".join(f"<{name}>\n{written(inner)}</{name} >" for name, inner in tree)


def meant(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree
    names = [name for name, _ in tree]
    entries = [{name: meant(inner)} for name, inner in tree]
    if len(set(names)) < len(names):
        return entries
    return {name: value for entry in entries for name, value in entry.items()}


@given(st.lists(st.tuples(names, trees), min_size=1, max_size=4))
def test_tags_become_what_they_hold(tree: Any) -> None:
    assert run("XMLParser", input_xml=written(tree)) == {"parsed_xml": meant(tree)}


@given(st.text("<>/!?-[]a= \n"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadInput):
        assert run("XMLParser", input_xml=text)["parsed_xml"]


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
REACH = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


@pytest.mark.parametrize("text", [BOMB, REACH])
def test_a_document_that_defines_entities_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="line 1: document types are not read"):
        run("XMLParser", input_xml=text)


LONG = 300_000


@pytest.mark.parametrize(
    ("block", "pin", "text"),
    [
        ("XMLParser", "input_xml", "<a>" + "<a" * LONG + "</a>"),
        ("XMLParser", "input_xml", "<a>" + "< " * LONG + "</a>"),
        ("XMLParser", "input_xml", "<a>" + "<b>" * 50 + " x" * LONG + "</b>" * 50 + "</a>"),
        ("XMLParser", "input_xml", "<a " + " " * LONG + "></a>"),
        ("XMLParser", "input_xml", "<a>" + "<b></b>" * (LONG // 10) + "</a>"),
        ("CodeExtraction", "text", "```" * LONG),
        ("CodeExtraction", "text", "\n```py\nx\n```" * (LONG // 4)),
        ("TextDecoder", "text", r"\N{" + "A" * LONG),
        ("TextDecoder", "text", "\\\\" * LONG),
    ],
)
def test_a_long_text_is_read_in_time(block: str, pin: str, text: str) -> None:
    """Quadratic reading would take minutes."""
    started = time.process_time()
    with suppress(BadInput):
        run(block, **{pin: text})
    assert time.process_time() - started < 10
