"""Searches texts with regular expressions that users write.

The expressions are Python's `re`, as in existing graphs. A pattern can backtrack practically forever, so these blocks
have a short timeout. `re` checks for signals every few thousand steps, so the worker's alarm can end it; if single
steps are long, on a text of megabytes, that happens some seconds late.
"""

import re
import warnings
from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.graph.coercion import coerce

SECONDS: Final = 5.0
"""Timeout of one search, in seconds."""

MAX_PATTERN: Final = 10_000
"""Characters of a pattern."""

MAX_MATCHES: Final = 10_000
"""Matches of one execution; each is an output."""

MAX_MATCHED: Final = 4_000_000
"""Characters of all matches together: a short pattern can match every suffix of a text."""


class MatchTextPattern(Block):
    id = "3060088f-6ed9-4928-9ba7-9c92823a7ccd"
    name = "MatchTextPattern"
    description = "Goes on along `positive` if a regular expression is found in a text, else along `negative`."
    categories = ("TEXT",)
    timeout = SECONDS

    class Input(BlockInput):
        text: Any = Field(description="The text to search; what is no text is searched as JSON.")
        match: str = Field(description="The regular expression; it may be found anywhere in the text.")
        data: Any = Field(None, description="What to give out; left out: the text.")
        case_sensitive: bool = Field(True, description="Tell capital and small letters apart.")
        dot_all: bool = Field(True, description="A dot stands for line ends too.")

    class Output(BlockOutput):
        positive: Any = Field(description="The data, if the pattern was found.")
        negative: Any = Field(description="The data, if it was not.")

    vectors = (
        TestVector({"text": "Hello, World!", "match": "W.rld", "data": 7}, [("positive", 7)]),
        TestVector({"text": "Hello, World!", "match": "^World", "data": 7}, [("negative", 7)]),
        TestVector({"text": "Hello", "match": "hello"}, [("negative", "Hello")]),
        TestVector({"text": "Hello", "match": "hello", "case_sensitive": False}, [("positive", "Hello")]),
        TestVector({"text": "a\nb", "match": "a.b"}, [("positive", "a\nb")]),
        TestVector({"text": "a\nb", "match": "a.b", "dot_all": False}, [("negative", "a\nb")]),
        TestVector({"text": {"a": [1]}, "match": r'"a": \[1\]'}, [("positive", {"a": [1]})]),
        TestVector({"text": "a", "match": "a", "data": 0}, [("positive", "a")]),
        TestVector({"text": "a", "match": "(a"}, fails="not a regular expression: missing )"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        pattern = _compiled(inputs.match, inputs.case_sensitive, inputs.dot_all)
        found = pattern.search(coerce(inputs.text, str) or "")
        yield "positive" if found else "negative", inputs.data or inputs.text


class ExtractTextInformation(Block):
    id = "3146e4fe-2cdd-4f29-bd12-0c9d5bb4deb0"
    name = "ExtractTextInformation"
    description = "Takes out of a text what a regular expression, or one group of it, matches: the first time, or each."
    categories = ("TEXT",)
    timeout = SECONDS

    class Input(BlockInput):
        text: Any = Field(description="The text to search; what is no text is searched as JSON.")
        pattern: str = Field(description="The regular expression.")
        group: int = Field(0, description="The group to take, from 1; 0: all that the expression matches.")
        case_sensitive: bool = Field(True, description="Tell capital and small letters apart.")
        dot_all: bool = Field(True, description="A dot stands for line ends too.")
        find_all: bool = Field(False, description="Take every match, not only the first.")

    class Output(BlockOutput):
        positive: str = Field(description="What was taken; once a match.")
        negative: str = Field(description="The text, if nothing was found.")
        matched_results: list[str] = Field(description="All that was taken.")
        matched_count: int = Field(description="Number of matches.")

    vectors = (
        TestVector(
            {"text": "Hello, World!", "pattern": "Hello, (.+)", "group": 1},
            [("positive", "World!"), ("matched_results", ["World!"]), ("matched_count", 1)],
        ),
        TestVector(
            {"text": "a1 b2 c3", "pattern": "[a-z]([0-9])"},
            [("positive", "a1"), ("matched_results", ["a1"]), ("matched_count", 1)],
        ),
        TestVector(
            {"text": "a1 b2", "pattern": "[a-z]([0-9])", "group": 1, "find_all": True},
            [("positive", "1"), ("positive", "2"), ("matched_results", ["1", "2"]), ("matched_count", 2)],
        ),
        TestVector(
            {"text": "Hello", "pattern": "Hello(, .+)?", "group": 1},
            [("negative", "Hello"), ("matched_results", []), ("matched_count", 0)],
        ),
        TestVector(
            {"text": "Hello", "pattern": "Hello", "group": 2},
            [("negative", "Hello"), ("matched_results", []), ("matched_count", 0)],
        ),
        TestVector(
            {"text": ["X"], "pattern": "x", "case_sensitive": False},
            [("positive", "X"), ("matched_results", ["X"]), ("matched_count", 1)],
        ),
        TestVector(
            {"text": "a\nb", "pattern": "a.b", "dot_all": False},
            [("negative", "a\nb"), ("matched_results", []), ("matched_count", 0)],
        ),
        TestVector(
            {"text": "a1 b", "pattern": "([a-z])([0-9])?", "group": 2, "find_all": True},
            [("positive", "1"), ("matched_results", ["1"]), ("matched_count", 1)],
        ),
        TestVector({"text": "a" * (MAX_MATCHES + 1), "pattern": "a", "find_all": True}, fails="more than 10000 times"),
        TestVector({"text": "a" * 9_000, "pattern": "(?=(.*))", "group": 1, "find_all": True}, fails="characters"),
        TestVector({"text": "a", "pattern": "*"}, fails="not a regular expression: nothing to repeat at position 0"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        pattern = _compiled(inputs.pattern, inputs.case_sensitive, inputs.dot_all)
        text = coerce(inputs.text, str) or ""
        found = list(_found(pattern, text, inputs.group, inputs.find_all, context))
        for match in found:
            yield "positive", match
        if not found:
            yield "negative", text
        yield "matched_results", found
        yield "matched_count", len(found)


def _compiled(pattern: str, case_sensitive: bool, dot_all: bool) -> re.Pattern[str]:
    if len(pattern) > MAX_PATTERN:
        raise BadInput(f"the pattern has more than {MAX_PATTERN} characters")
    flags = (re.NOFLAG if case_sensitive else re.IGNORECASE) | (re.DOTALL if dot_all else re.NOFLAG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about patterns that a future version may read differently
            return re.compile(pattern, flags)
    except re.error as error:
        raise BadInput(f"the pattern is not a regular expression: {error}") from None
    except (OverflowError, RecursionError):
        raise BadInput("the pattern is not a regular expression: it repeats too often, or is nested too deep") from None


def _found(pattern: re.Pattern[str], text: str, group: int, find_all: bool, context: Context) -> Iterator[str]:
    """The text of group `group` in each match, or only in the first. Matches without that group do not count."""
    if not 0 <= group <= pattern.groups:
        return
    number = size = 0
    for match in pattern.finditer(text):
        context.stop_if_cancelled()
        taken = match.group(group)
        if taken is None:
            continue
        number, size = number + 1, size + len(taken)
        if number > MAX_MATCHES:
            raise BadInput(f"the pattern matches more than {MAX_MATCHES} times")
        if size > MAX_MATCHED:
            raise BadInput(f"what the pattern matches has more than {MAX_MATCHED} characters in all")
        yield taken
        if not find_all:
            return
