"""Words an exception for users: what happened, without anything that they must not see.

Our own errors are worded where they are raised. The text of any other exception was written for a log: it may hold SQL
with its parameters, paths of this machine or another's values. Known kinds get a text by kind; the rest is a block's
own, and is shown without what looks like a path of this installation. The worker's log has the whole text.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agentflow.errors import AgentFlowError, Interrupted

MOST_PLACES: Final = 20
"""Faults of one value that a message names."""

_LIBRARIES: Final = {
    "sqlalchemy": "a database refused it",
    "psycopg": "a database refused it",
    "psycopg2": "a database refused it",
    "redis": "the broker refused it",
    "kombu": "the broker refused it",
    "celery": "the broker refused it",
    "billiard": "the worker refused it",
}
"""Whose messages hold statements, parameters and addresses: what is said in their place."""

_ROOTS: Final = tuple(
    sorted(
        {
            str(Path(root).resolve())
            for root in (
                sys.prefix,
                sys.base_prefix,
                Path(__file__).parents[2],
                Path.home(),
                tempfile.gettempdir(),
                Path.cwd(),
            )
        }
        - {os.sep},
        key=len,
        reverse=True,
    )
)
_PATH: Final = re.compile(r"(?<![\w.:/-])(?:" + "|".join(map(re.escape, _ROOTS)) + r")(?:/[^\s'\"<>|:,;)\]}]*)?(?!\w)")


def words(error: BaseException) -> str:
    """What a user is told of `error`, one raised by a block or by what it uses; never empty."""
    if isinstance(error, AgentFlowError):
        return spoken(error) or type(error).__name__
    name = type(error).__name__
    if (told := _LIBRARIES.get(type(error).__module__.partition(".")[0])) is not None:
        return f"{told} ({name})"
    if isinstance(error, ValidationError):
        return f"{name}: {validation_words(error)}"
    if isinstance(error, MemoryError):
        return "the block used more memory than a worker process may have"
    text = error.strerror or "" if isinstance(error, OSError) and error.filename is not None else spoken(error)
    text = without_paths(text)
    return f"{name}: {text}" if text else name


def fault_words(error: BaseException) -> str:
    """What a user is told of an error of the engine itself: its own words if it has any, else only what kind it is."""
    return words(error) if isinstance(error, AgentFlowError) else type(error).__name__


def validation_words(error: ValidationError) -> str:
    """Where a value does not fit, and why, without the value."""
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, entry['loc'])) or 'value'}: {entry['msg']}" for entry in entries[:MOST_PLACES]]
    return "; ".join(told)


def without_paths(text: str) -> str:
    """`text` with the paths of this installation taken out."""
    return _PATH.sub("…", text)


def spoken(thing: Any) -> str:
    """`thing` as text, whatever its class does when it is asked for one."""
    try:
        return str.strip(str(thing))  # a text of the block's own class may have a strip of its own
    except Interrupted:
        raise
    except BaseException as error:  # the block's own __str__
        return f"(its text cannot be had: {type(error).__name__})"
