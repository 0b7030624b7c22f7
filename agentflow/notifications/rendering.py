"""Writes the texts of messages from templates: a folder for each type, with `subject.txt`, `body.txt` and `body.html`.

An operator's folder (AGENTFLOW_NOTIFICATION_TEMPLATES) replaces any of these files. Templates are Jinja2, sandboxed;
HTML is escaped, and in plain texts every value is one line: what users write starts no line, link or tag of its own. A
template of the operator's that fails is logged, and ours is used.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PackageLoader, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from agentflow.notifications.kinds import Kind
from agentflow.settings import settings

logger = logging.getLogger(__name__)

DIGEST: Final = "digest"
"""The type of a message of several notifications."""

TEST: Final = "test"

TYPES: Final = (*Kind, DIGEST, TEST)
"""All types; each has a folder."""

FILES: Final = ("subject.txt", "body.txt", "body.html")

MOST_SUBJECT: Final = 200
"""Characters; a longer subject is cut."""

_MOST_VALUE: Final = 2_000
"""Characters of one value in a plain text."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The texts of a message; the subject is one line."""

    subject: str
    text: str
    html: str


def render(kind: str, data: Mapping[str, Any]) -> Rendered:
    """The texts of a message of one type, with its data."""
    subject = one_line(_filled(f"{kind}/subject.txt", data))[:MOST_SUBJECT]
    more = {**data, "subject": subject}
    return Rendered(subject, _tidy(_filled(f"{kind}/body.txt", more)), _filled(f"{kind}/body.html", more))


def subject(kind: str, data: Mapping[str, Any]) -> str:
    """The subject alone."""
    return one_line(_filled(f"{kind}/subject.txt", data))[:MOST_SUBJECT]


def one_line(text: str) -> str:
    """The text on one line: whatever ends or moves a line, or cannot be seen, becomes a space."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def faults(folder: Path | None) -> Iterator[str]:
    """What is wrong with an operator's templates; nothing if there are none."""
    if folder is None:
        return
    if not folder.is_dir():
        yield f"{folder} is no folder"
        return
    for name in (f"{kind}/{file}" for kind in TYPES for file in FILES):
        if (folder / name).is_file():
            try:
                _environment(folder).get_template(name).render(_EXAMPLE)
            except Exception as error:  # whatever a template raises
                yield f"{name}: {one_line(str(error)) or type(error).__name__}"


_EXAMPLE: Final[Mapping[str, Any]] = {"items": [], "kinds": [], "outputs": [], "graphs": [], "channel": "mail"}


def _filled(name: str, data: Mapping[str, Any]) -> str:
    folder = settings().notification_templates
    if folder is not None:
        try:
            return _environment(folder).get_template(name).render(data)
        except Exception as error:  # whatever a template raises
            logger.warning("template_failed", extra={"template": name, "error": one_line(str(error))})
    return _environment(None).get_template(name).render(data)


@cache
def _environment(folder: Path | None) -> ImmutableSandboxedEnvironment:
    ours: BaseLoader = PackageLoader("agentflow.notifications", "templates")
    loader = ours if folder is None else ChoiceLoader([FileSystemLoader(folder), ours])
    made = ImmutableSandboxedEnvironment(
        loader=loader,
        autoescape=lambda name: name is None or not name.endswith(".txt"),
        finalize=_shown,
        keep_trailing_newline=True,
    )
    made.globals.clear()  # no `range` to grow a text with
    return made


def _shown(value: Any) -> Any:
    """A value as it is written: nothing for None, a text or a container on one line and cut."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float | Undefined | Markup):  # Markup: HTML, by a template's own filter
        return value
    line = one_line(str(value))
    return line if len(line) <= _MOST_VALUE else f"{line[:_MOST_VALUE]}…"


def _tidy(text: str) -> str:
    """Without empty lines in a row."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).strip("\n") + "\n"
