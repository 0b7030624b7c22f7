"""Parses a feed with feedparser, in a child process that is killed if it takes too long.

Some of feedparser's patterns take quadratic time in the length of an author's name, and a running pattern cannot be
interrupted; a stranger's feed must not hold a worker. `read` is called by the worker. `main` is the child process: it
reads a line of JSON, {header: value}, and the feed, and writes a JSON list of entries.

Needs the extra `web` (feedparser), in the child process only.
"""

import calendar
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from agentflow.errors import BadInput, Transient
from agentflow.extras import install_command

MAX_ENTRIES: Final = 1000
"""Entries of a feed that are read: the first ones."""

NAME_LENGTH: Final = 16
"""Characters of the name that identifies an entry within its feed."""

SECONDS: Final = 20.0
"""Time limit for reading a feed. One of a megabyte takes a second or two."""

_MEMORY: Final = 512 * 1024 * 1024
_PROGRAM: Final = "from agentflow.blocks.web.feed_reading import main; main()"
_TYPE: Final = "application/xml; charset=utf-8"  # overrides the XML declaration
_NO_FEED: Final = 3  # exit status
_EXTRA: Final = "reading feeds needs the extra `web`; the operator installs it so: "


def read(text: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """The entries of a feed: {name, time (seconds or None), title, link, description, author, categories}.

    Args:
        text: the feed.
        headers: headers of its reply, without its type, because the text is already decoded.

    Raises:
        BadInput: it is no feed, or reading it takes too much; or feedparser is not installed.
        Transient: the child process ended unexpectedly.
    """
    if importlib.util.find_spec("feedparser") is None:
        raise BadInput(_EXTRA + install_command("web", for_users=True))
    try:
        done = subprocess.run(  # noqa: S603 our own interpreter and program
            [sys.executable, "-P", "-s", "-c", _PROGRAM],
            input=json.dumps({**headers, "content-type": _TYPE}).encode() + b"\n" + text.encode("utf-8", "replace"),
            capture_output=True,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANG": "C.UTF-8"},
            cwd="/",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"the feed cannot be read within {SECONDS:g} s") from None
    if done.returncode == _NO_FEED:
        raise BadInput("what is at this address is not a feed")
    if done.returncode == 1 and b"MemoryError" in done.stderr:
        raise BadInput("reading the feed takes too much memory")
    if done.returncode != 0:
        raise Transient(f"the feed could not be read (the reader ended with status {done.returncode})")
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    return entries


def main() -> None:
    """Runs the child process."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS)))
    feedparser: Any = importlib.import_module("feedparser")
    headers = json.loads(sys.stdin.buffer.readline())
    warnings.simplefilter("ignore")  # feedparser warns of its own future changes
    feed = feedparser.parse(sys.stdin.buffer.read(), response_headers=headers)
    if not feed.get("version"):
        sys.exit(_NO_FEED)
    json.dump(_entries(feed["entries"][:MAX_ENTRIES]), sys.stdout)


def _entries(items: list[Any]) -> list[dict[str, Any]]:
    """Converts all entries. If several share an id, their other content tells them apart, so that none is lost."""
    alike = Counter(str(item.get("id") or item.get("link") or "") for item in items)
    return [_entry(item, alike[str(item.get("id") or item.get("link") or "")] == 1) for item in items]


def _entry(item: Any, id_tells: bool) -> dict[str, Any]:
    labels = [tag.get("term") or tag.get("label") for tag in item.get("tags") or []]
    entry = {
        "title": item.get("title") or "",
        "link": item.get("link") or "",
        "description": item.get("summary") or _content(item),
        "author": item.get("author") or "",
        "categories": [label for label in labels if label],
    }
    named = str(item.get("id") or entry["link"])
    if not (named and id_tells):
        said = (named, entry["title"], entry["description"])
        named = "\n".join(str(part) for part in said if part)
    name = sha256(named.encode("utf-8", "replace")).hexdigest()[:NAME_LENGTH]
    return {**entry, "name": name, "time": _time(item)}


def _content(item: Any) -> str:
    return next((part["value"] for part in item.get("content") or [] if part.get("value")), "")


def _time(item: Any) -> float | None:
    for field in ("published_parsed", "updated_parsed", "created_parsed"):
        if parts := item.get(field):
            try:
                return datetime.fromtimestamp(calendar.timegm(parts), UTC).timestamp()
            except (ValueError, OverflowError, OSError):
                return None
    return None
