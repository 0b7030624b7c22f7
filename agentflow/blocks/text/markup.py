"""Parses tags written by language models: XML without its dangerous parts.

Document types, entities (`&amp;` is kept as it is) and namespaces are not supported, so a text cannot grow when it is
parsed, and cannot refer to files. Tag names are converted to lower case, with `_` for spaces; attributes are dropped.

An element becomes {name: content}. The content is its text, stripped of surrounding white space; if it has elements,
only those count: as one dictionary, or as a list of dictionaries if a name occurs twice. Several elements at the top
are treated like those within one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.texts import without_mark

MAX_DEPTH: Final = 100
"""Nested elements."""

_SHOWN_NAME: Final = 60
"""Characters of a tag's name in a message. A name can be as long as the text."""

_SPACE: Final = re.compile(r"\s+")
_OPENS: Final = re.compile(r"<(?:!--|!\[CDATA\[|!|\?|(/?)\s*(?=[^\W\d]))")
_ATTRIBUTES: Final = re.compile(r"\s[^\s=]+\s*=")


class XMLParser(Block):
    id = "286380af-9529-4b55-8be0-1d7c854abdb5"
    name = "XMLParser"
    description = "Reads a text with tags, as language models write them, into dictionaries and lists."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        input_xml: str = Field(description="The text, such as <a><b>1</b></a>.")

    class Output(BlockOutput):
        parsed_xml: dict[str, Any] | list[Any] = Field(description='What it says, such as {"a": {"b": "1"}}.')

    vectors = (
        TestVector({"input_xml": "<tag1><tag2>content</tag2></tag1>"}, [("parsed_xml", {"tag1": {"tag2": "content"}})]),
        TestVector({"input_xml": "<a>\n <b>1</b> <b> 2 </b>\n</a>"}, [("parsed_xml", {"a": [{"b": "1"}, {"b": "2"}]})]),
        TestVector(
            {"input_xml": "<a><b>1</b><c><d/></c>lost</a>"}, [("parsed_xml", {"a": {"b": "1", "c": {"d": ""}}})]
        ),
        TestVector({"input_xml": "<A One>x <!-- <y> --> z</a one>"}, [("parsed_xml", {"a_one": "xz"})]),
        TestVector({"input_xml": "<a>1</a><b>2</b>"}, [("parsed_xml", {"a": "1", "b": "2"})]),
        TestVector({"input_xml": "<a>1</a><a>2</a>"}, [("parsed_xml", [{"a": "1"}, {"a": "2"}])]),
        TestVector({"input_xml": "<a>1 < 2 &amp; 3 > 2</a>"}, [("parsed_xml", {"a": "1 < 2 &amp; 3 > 2"})]),
        TestVector({"input_xml": '<?xml version="1.0"?><a k="1" l = "2">x</a>'}, [("parsed_xml", {"a": "x"})]),
        TestVector({"input_xml": "<a><![CDATA[<b>]]></a>"}, [("parsed_xml", {"a": "<b>"})]),
        TestVector({"input_xml": " "}, fails="there is no tag"),
        TestVector({"input_xml": "hello <a>1</a>"}, fails="line 1: there is text outside of the tags"),
        TestVector({"input_xml": "<a>\n<b>1</a></b>"}, fails="line 2: </a> closes <b>"),
        TestVector({"input_xml": "</a>"}, fails="line 1: </a> closes nothing"),
        TestVector({"input_xml": f"<{'x' * 99}></a>"}, fails=f"line 1: </a> closes <{'x' * 60}…>"),
        TestVector({"input_xml": "<a>\n<b>1</b>"}, fails="<a> is not closed"),
        TestVector({"input_xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"}, fails="document types are not read"),
        TestVector({"input_xml": "<a>" * 101 + "</a>" * 101}, fails="nested deeper than 100"),
        TestVector({"input_xml": "<a><!-- "}, fails="line 1: what begins with <!-- has no end"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "parsed_xml", _Reader(without_mark(inputs.input_xml)).read()


@dataclass(slots=True)
class _Element:
    """The text and elements within an element, or at the top."""

    name: str = ""
    text: list[str] = field(default_factory=list)
    elements: list["_Element"] = field(default_factory=list)

    def content(self) -> Any:
        if not self.elements:
            return "".join(self.text)
        entries = [{element.name: element.content()} for element in self.elements]
        if len({element.name for element in self.elements}) < len(entries):
            return entries
        return {name: content for entry in entries for name, content in entry.items()}


class _Reader:
    """Parses one text from start to end, in linear time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._open = [_Element()]

    def read(self) -> Any:
        """The content of the whole text.

        Raises:
            BadInput: the text is malformed; the message names the line.
        """
        at = 0
        for tag in _OPENS.finditer(self._text):
            if tag.start() < at:  # inside a comment or tag that was already read
                continue
            end = self._read_tag(tag, at)
            at = end if end is not None else at
        self._take_text(at, len(self._text))
        if len(self._open) > 1:
            raise BadInput(f"<{_shown(self._open[-1].name)}> is not closed")
        if not self._open[0].elements:
            raise BadInput("there is no tag in the text")
        return self._open[0].content()

    def _read_tag(self, tag: re.Match[str], text_from: int) -> int | None:
        """The position after this tag, comment or the like; None if it is ordinary text."""
        opening, start = tag[0], tag.start()
        if opening == "<!":
            raise self._wrong(start, "document types are not read")
        if opening == "<!--":
            self._take_text(text_from, start)
            return self._end(tag, "-->")
        if opening == "<![CDATA[":
            self._take_text(text_from, start)
            end = self._end(tag, "]]>")
            self._take_text(tag.end(), end - 3)
            return end
        if opening == "<?":
            self._take_text(text_from, start)
            return self._end(tag, "?>")
        other = self._text.find("<", tag.end())
        close = self._text.find(">", tag.end(), other if other >= 0 else None)
        if close < 0:
            return None
        self._take_text(text_from, start)
        inside = self._text[tag.end() : close]
        if tag[1]:
            self._close(start, _name(inside))
        else:
            self._enter(start, _name(inside.rstrip().removesuffix("/")), closed=inside.rstrip().endswith("/"))
        return close + 1

    def _enter(self, at: int, name: str, *, closed: bool) -> None:
        if len(self._open) > MAX_DEPTH:
            raise self._wrong(at, f"the tags are nested deeper than {MAX_DEPTH}")
        element = _Element(name)
        self._open[-1].elements.append(element)
        if not closed:
            self._open.append(element)

    def _close(self, at: int, name: str) -> None:
        if len(self._open) == 1:
            raise self._wrong(at, f"</{_shown(name)}> closes nothing")
        if self._open[-1].name != name:
            raise self._wrong(at, f"</{_shown(name)}> closes <{_shown(self._open[-1].name)}>")
        self._open.pop()

    def _take_text(self, start: int, end: int) -> None:
        text = self._text[start:end].strip()
        if text and len(self._open) == 1:
            raise self._wrong(start, "there is text outside of the tags")
        if text:
            self._open[-1].text.append(text)

    def _end(self, tag: re.Match[str], closing: str) -> int:
        end = self._text.find(closing, tag.end())
        if end < 0:
            raise self._wrong(tag.start(), f"what begins with {tag[0]} has no end")
        return end + len(closing)

    def _wrong(self, at: int, problem: str) -> BadInput:
        return BadInput(f"line {self._text.count(chr(10), 0, at) + 1}: {problem}")


def _name(inside: str) -> str:
    """`Tag One` → tag_one; `tag key="value"` → tag."""
    attributes = _ATTRIBUTES.search(inside)
    return _SPACE.sub("_", inside[: attributes.start()].strip() if attributes else inside.strip()).lower()


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}…"
