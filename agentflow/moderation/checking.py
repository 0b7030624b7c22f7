"""Asks the operator's moderator whether texts are allowed: an HTTP service, a list of words, or a Python function.

AGENTFLOW_MODERATION names it:

    https://…                   a service: POST {type, content, metadata} → {allowed, categories?, reason?}
    words:FILE                  a word or phrase a line; whole words, in any case; # begins a comment. Characters that
                                nobody sees within a word, and an underscore beside it, hide nothing
    python:MODULE:FUNCTION      called with (type, content, metadata); returns a `Verdict`, or whether it is allowed

A service that does not answer in time lets the text pass, so that it cannot stop all work; any other failure refuses
it, unless AGENTFLOW_MODERATION_FAILURE says `pass`.
"""

import importlib
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError

from agentflow.errors import EngineError
from agentflow.settings import settings

logger = logging.getLogger(__name__)

Kind = Literal["inputs", "output"]
Metadata = Mapping[str, str]

PATIENCE: Final = 30.0
"""Seconds in which a service must answer."""

PIECE: Final = 100_000
"""Characters that are asked about at once; a longer text is cut, with an overlap."""

OVERLAP: Final = 1_000
"""Characters that two pieces share, so that a phrase is whole in one of them."""


class Verdict(NamedTuple):
    """Whether a text is allowed; if not, what it is about and why, as far as the moderator says."""

    allowed: bool
    categories: Sequence[str] = ()
    reason: str | None = None


ALLOWED: Final = Verdict(True)

_UNSEEN_CATEGORIES: Final = frozenset({"Cf", "Cc"})
_BREAKS: Final = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
_UNSEEN_ASCII: Final = frozenset(number for number in (*range(32), 127) if chr(number) not in _BREAKS)
_FILLERS: Final = frozenset(
    "\u034f\u0334\u0335\u0336\u0337\u0338\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters of other categories that show nothing: the combining joiner, fillers, and variation selectors."""

Moderator = Callable[[Kind, str, Metadata], Verdict]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    allowed: StrictBool
    categories: list[str] = []
    reason: str | None = None


def is_on() -> bool:
    """Whether anything is checked."""
    return settings().moderation is not None


def check(kind: Kind, value: Any, metadata: Metadata) -> Verdict:
    """Whether the moderator allows all text in a JSON value."""
    where = settings().moderation or ""
    moderator = _moderator(where)
    whole = text_of(value)
    # A list is looked up in all of it: what stands within a phrase and nobody sees may be as long as a piece.
    for piece in [whole] if where.startswith("words:") else _pieces(whole):
        try:
            verdict = moderator(kind, piece, metadata)
        except httpx.TimeoutException as error:
            logger.warning("moderation_timed_out", extra={"error": repr(error), **metadata})
            continue
        except Exception as error:
            logger.exception("moderation_failed", extra=dict(metadata))
            if settings().moderation_failure == "pass":
                continue
            return Verdict(False, (), f"the moderator failed: {type(error).__name__}")
        if not verdict.allowed:
            return verdict
    return ALLOWED


def check_setting() -> None:
    """See to it that the moderator that the settings name can be used.

    Raises:
        EngineError: it cannot; says why.
    """
    if is_on():
        _moderator(settings().moderation)


def text_of(value: Any) -> str:
    """All text in a JSON value, keys too, a piece a line; numbers and booleans as JSON writes them."""
    return "\n".join(_texts(value))


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            for key, inner in reversed(list(one.items())):
                todo += (inner, key)
        elif isinstance(one, list | tuple):
            todo += reversed(one)
        elif one is not None:
            yield json.dumps(one)


def _pieces(text: str) -> Iterator[str]:
    for begin in range(0, max(len(text) - OVERLAP, 1), PIECE - OVERLAP):
        if piece := text[begin : begin + PIECE]:
            yield piece


@cache
def _moderator(where: str | None) -> Moderator:
    kind, _, rest = (where or "").partition(":")
    try:
        if kind == "words":
            return _of_words(Path(rest))
        if kind == "python":
            return _of_function(rest)
        if kind in ("http", "https"):
            return _of_service(where or "")
    except (OSError, ValueError, ImportError, AttributeError) as error:
        raise EngineError(f"AGENTFLOW_MODERATION={where} cannot be used: {error}") from None
    raise EngineError(f"AGENTFLOW_MODERATION={where} is none of https://…, words:FILE and python:MODULE:FUNCTION")


def _of_words(path: Path) -> Moderator:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    words = [line for line in lines if _plain(line).strip()]
    if not words:
        raise ValueError(f"{path} holds no word")
    find = _finder(words)

    def moderate(_kind: Kind, content: str, _metadata: Metadata) -> Verdict:
        if find(content):
            return Verdict(False, ("words",), "it holds a word that is not allowed here")
        return ALLOWED

    return moderate


def _finder(words: Sequence[str]) -> Callable[[str], bool]:
    """Tells whether a text has one of these words or phrases. An underscore is no part of a word: `_word_` is one."""
    longest = sorted(map(_plain, words), key=len, reverse=True)
    any_of = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest)
    found = re.compile(rf"(?<![^\W_])(?:{any_of})(?![^\W_])")
    # What nobody sees may stand within a word, or between two.
    return lambda text: any(found.search(_plain(text, instead)) for instead in ("", " "))


def _plain(text: str, instead: str = "") -> str:
    """`text` as it is compared: without case, and with `instead` for the characters that nobody sees."""
    if text.isascii():
        return text.translate(dict.fromkeys(_UNSEEN_ASCII, instead)).casefold()
    seen = _seen(unicodedata.normalize("NFKC", text), instead)  # what stood between a letter and its accent goes first
    return _seen(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold()), instead)


def _seen(text: str, instead: str) -> str:
    return "".join(instead if _is_unseen(one) else one for one in text)


def _is_unseen(one: str) -> bool:
    """Whether it shows nothing of its own: it formats (a soft hyphen, a joiner), chooses a form, or strikes through."""
    return (unicodedata.category(one) in _UNSEEN_CATEGORIES and one not in _BREAKS) or one in _FILLERS


def _of_function(name: str) -> Moderator:
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)

    def moderate(kind: Kind, content: str, metadata: Metadata) -> Verdict:
        said = function(kind, content, metadata)
        if isinstance(said, Verdict):
            return said
        if isinstance(said, bool):
            return Verdict(said)
        raise TypeError(f"{name} returned {type(said).__name__}, neither a Verdict nor whether the text is allowed")

    return moderate


def _of_service(url: str) -> Moderator:
    httpx.URL(url)

    def moderate(kind: Kind, content: str, metadata: Metadata) -> Verdict:
        body = {"type": kind, "content": content, "metadata": dict(metadata)}
        reply = httpx.post(url, json=body, timeout=PATIENCE, headers=_authorization())
        reply.raise_for_status()
        try:
            answer = _Answer.model_validate_json(reply.content)
        except ValidationError as error:
            raise ValueError(f"the moderation service answers what it should not: {error}") from None
        return Verdict(answer.allowed, answer.categories, answer.reason)

    return moderate


def _authorization() -> dict[str, str]:
    token = settings().moderation_token
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token is not None else {}
