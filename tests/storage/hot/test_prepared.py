"""What goes to PostgreSQL in a prepared statement comes back as it was; what the server says of it is understood."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from agentflow.engine.statuses import RunStatus
from agentflow.errors import EngineError, Unavailable
from agentflow.ids import new_id
from agentflow.storage.hot.prepared import PreparedConnection

KINDS = ("text", "int", "bigint", "float8", "boolean", "uuid", "text[]", "int[]", "boolean[]", "uuid[]")


class Echo(PreparedConnection):
    statements: ClassVar = {
        **{f"echo_{number}": (kind, "SELECT $1, $1 IS NULL") for number, kind in enumerate(KINDS)},
        "words": ("text[]", "SELECT unnest($1)"),
        "divide": ("int", "SELECT 1 / $1"),
        "own": ("int", "SELECT pg_backend_pid() + $1"),
        "wrong": ("int", "SELECT nonsense"),
    }

    def call(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._call(name, *values)

    def echo(self, kind: str, value: Any) -> Any:
        ((given, is_null),) = self._call(f"echo_{KINDS.index(kind)}", value)
        assert is_null == (value is None)
        return given


@pytest.fixture
def echo(database_url: str) -> Iterator[Echo]:
    with closing(Echo(database_url)) as connection:
        yield connection


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
numbers = st.integers(-(2**31), 2**31 - 1)
values = st.one_of(
    st.tuples(st.just("text"), texts),
    st.tuples(st.just("int"), numbers),
    st.tuples(st.just("bigint"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("float8"), st.floats(allow_nan=False)),
    st.tuples(st.just("boolean"), st.booleans()),
    st.tuples(st.just("uuid"), st.uuids()),
    st.tuples(st.just("text[]"), st.lists(texts)),
    st.tuples(st.just("int[]"), st.lists(numbers)),
    st.tuples(st.just("boolean[]"), st.lists(st.booleans())),
    st.tuples(st.just("uuid[]"), st.lists(st.uuids())),
)


@given(values)
@example_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_comes_back_as_it_was(echo: Echo, value: tuple[str, Any]) -> None:
    kind, given = value
    found = echo.echo(kind, given)
    assert found == given
    assert type(found) is type(given)


@pytest.mark.parametrize("word", ["", "NULL", "null", "a,b", "{}", '"', "\\", '\\"', " a ", "\n", "é", "😀", "%s", "'"])
def test_a_word_in_an_array_is_itself(echo: Echo, word: str) -> None:
    assert echo.call("words", [word, "x", word]) == [(word,), ("x",), (word,)]


@pytest.mark.parametrize("kind", KINDS)
def test_none_is_null(echo: Echo, kind: str) -> None:
    assert echo.echo(kind, None) is None


def test_a_value_is_written_like_what_its_type_derives_from(echo: Echo) -> None:
    assert echo.echo("text", RunStatus.FAILED) == "FAILED"
    assert echo.echo("text[]", [RunStatus.FAILED]) == ["FAILED"]
    assert echo.echo("uuid[]", (UUID(int=1),)) == [UUID(int=1)]
    with pytest.raises(TypeError, match="bytearray"):
        echo.echo("text", bytearray())


@pytest.mark.parametrize("value", ["a\x00b", ["a", "\x00"]])
def test_a_nul_character_is_refused_and_not_cut_at(echo: Echo, value: Any) -> None:
    with pytest.raises(ValueError, match="NUL"):
        echo.echo("text[]" if isinstance(value, list) else "text", value)
    assert echo.echo("text", "after") == "after"


def test_what_the_server_refuses_is_an_error_of_the_engine(echo: Echo) -> None:
    for name in ("divide", "wrong", "divide"):
        with pytest.raises(EngineError, match=rf"^PostgreSQL refuses to {name} \(\w{{5}}\)$"):
            echo.call(name, 0)
    assert echo.call("divide", 1) == [(1,)], "on the same connection"


def test_a_connection_that_breaks_is_made_anew(echo: Echo, postgres: Any) -> None:
    ((pid,),) = echo.call("own", 0)
    with closing(psycopg.connect(postgres.superuser_url, autocommit=True)) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(Unavailable, match="PostgreSQL is away"):
        echo.call("own", 0)
    assert echo.call("own", 0) != [(pid,)]


def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="PostgreSQL cannot be reached"):
        Echo("postgresql://nobody@127.0.0.1:1/nothing").call("own", 0)


def test_a_connection_that_was_closed_is_opened_by_the_next_call(echo: Echo) -> None:
    run_id = new_id()
    assert echo.echo("uuid", run_id) == run_id
    echo.close()
    echo.close()
    assert echo.echo("uuid", run_id) == run_id
