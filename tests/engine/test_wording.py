"""What a user reads of an exception tells what happened, and nothing that is not theirs to see."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import agentflow
from agentflow.engine.outcome import failure
from agentflow.engine.wording import fault_words, words
from agentflow.errors import BadInput, EngineError

HIDDEN = "hush-4711"


class _Model(BaseModel):
    number: int


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        _Model(number=HIDDEN)  # type: ignore[arg-type]
    return caught.value


def of(module: str, name: str = "Oops") -> Exception:
    """An exception of somebody's library."""
    return type(name, (Exception,), {"__module__": module})(f"INSERT INTO runs VALUES ('{HIDDEN}') on 10.0.0.7")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (invalid(), "ValidationError: number: Input should be a valid integer, unable to parse string as an integer"),
        (of("sqlalchemy.exc", "DataError"), "a database refused it (DataError)"),
        (of("psycopg.errors", "Oops"), "a database refused it (Oops)"),
        (of("redis.exceptions", "ResponseError"), "the broker refused it (ResponseError)"),
        (of("kombu.exceptions"), "the broker refused it (Oops)"),
        (
            FileNotFoundError(2, "No such file or directory", f"/srv/{HIDDEN}"),
            "FileNotFoundError: No such file or directory",
        ),
        (PermissionError(13, "Permission denied", HIDDEN, None, HIDDEN), "PermissionError: Permission denied"),
        (ValueError("must be even"), "ValueError: must be even"),
        (BadInput("the words of who raised it"), "the words of who raised it"),
        (EngineError(), "AgentFlow itself is not in order."),
    ],
    ids=lambda value: type(value).__module__ + "." + type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_told_by_what_it_is(error: Exception, told: str) -> None:
    assert words(error) == told
    assert failure(error).message == told


@pytest.mark.parametrize("root", [sys.prefix, str(Path(agentflow.__file__).parents[1]), "/tmp", str(Path.home())])
def test_paths_of_this_installation_are_left_out(root: str) -> None:
    told = words(RuntimeError(f"cannot read {root}/lib/{HIDDEN}.py: line 3"))
    assert told == "RuntimeError: cannot read …: line 3"


@pytest.mark.parametrize(
    "text", ["https://example.com/tmp/x is not there", "a/tmp/b", "/tmpfoo/x", "5/7 of /etc", "half / half"]
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    assert words(RuntimeError(text)) == f"RuntimeError: {text}"


@given(
    st.text(max_size=50), st.sampled_from([ValueError, KeyError, RuntimeError, OSError, RecursionError, MemoryError])
)
def test_of_the_engines_own_errors_only_the_kind_is_told(text: str, kind: Any) -> None:
    assert fault_words(kind(text)) == kind.__name__
