"""A real PostgreSQL is asked over TCP: what comes back, and who and what is refused."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.embedded.postgres import Postgres
from agentflow.errors import BadInput, Transient
from agentflow.settings import settings

SETUP = """
CREATE TABLE goods (id int PRIMARY KEY, name text, price numeric, made date, raw bytea, tags text[], extra jsonb);
INSERT INTO goods VALUES
    (1, 'cup', 2.50, '2026-01-31', '\\x0aff', '{a,b}', '{"deep": [1, null]}'),
    (2, 'pot', 12345678901234567890.123, NULL, NULL, NULL, NULL),
    (3, 'O''Hara; --', 'NaN', NULL, NULL, '{}', '[]');
"""

ROLES = {
    "reader": "GRANT SELECT ON goods TO reader",
    "writer": "GRANT SELECT, INSERT ON goods TO writer",
    "insider": "GRANT pg_write_all_data TO insider",
    "maker": "ALTER ROLE maker CREATEDB",
}


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def port(postgres: Postgres) -> Iterator[int]:
    """A port of loopback behind which the tests' PostgreSQL is, which listens on a Unix socket only."""
    folder = parse_qs(urlsplit(postgres.superuser_url).query)["host"][0]
    pairs: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    behind = socket.socket(socket.AF_UNIX)
                    behind.connect(f"{folder}/.s.PGSQL.5432")
                    pairs.extend((client, behind))
                    for ends in ((client, behind), (behind, client)):
                        Thread(target=_pipe, args=ends, daemon=True).start()

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for one in pairs:
        one.close()


@pytest.fixture
def shop(postgres: Postgres, empty_database_url: str) -> Iterator[str]:
    """The name of a database with goods in it, and roles that may do this or that there."""
    name = urlsplit(empty_database_url).path[1:]
    url = postgres.superuser_url.replace("/postgres?", f"/{name}?")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(SETUP)
        for role, grant in ROLES.items():
            cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
            cursor.execute(grant)
        yield name
        for role in ROLES:
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


@pytest.fixture
def ask(port: int, shop: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`ask(query, role="reader", **inputs)`: what the block gives, by pin."""
    monkeypatch.setattr(settings(), "http_allow", (f"127.0.0.1:{port}",))

    def send(query: str, role: str = "reader", **inputs: Any) -> dict[str, Any]:
        base_url = f"postgresql://127.0.0.1:{port}"
        secret = Credential("database", username=role, password="hush", base_url=base_url)
        context = trial_context(credential=lambda _: secret)
        given = {"query": query, "host": "127.0.0.1", "port": port, "database": shop, **inputs}
        return dict(collect(registry.by_name("SQLQuery"), given, context))

    return send


def test_rows_come_as_json(ask: Callable[..., dict[str, Any]]) -> None:
    given = ask("SELECT * FROM goods ORDER BY id -- all of them")
    assert given["columns"] == ["id", "name", "price", "made", "raw", "tags", "extra"]
    assert (given["row_count"], given["truncated"]) == (3, False)
    first, second, third = given["results"]
    assert first == {
        "id": 1,
        "name": "cup",
        "price": 2.5,
        "made": "2026-01-31",
        "raw": "0aff",
        "tags": ["a", "b"],
        "extra": {"deep": [1, None]},
    }
    assert second["price"] == "12345678901234567890.123", "a float would alter it"
    assert third["price"] == "NaN"


def test_parameters_are_bound_in_order_and_by_name(ask: Callable[..., dict[str, Any]]) -> None:
    name = "O'Hara; --"
    for query, parameters in (
        ("SELECT id FROM goods WHERE name = %s", [name]),
        ("SELECT id FROM goods WHERE name = %(name)s", {"name": name}),
    ):
        assert ask(query, parameters=parameters)["results"] == [{"id": 3}]
    assert ask("SELECT id FROM goods WHERE name = %s", parameters=["x' OR '1' = '1"])["results"] == []


def test_only_so_many_rows_are_given(ask: Callable[..., dict[str, Any]]) -> None:
    given = ask("SELECT n FROM generate_series(1, 100000000) AS n", max_rows=2)
    assert given["results"] == [{"n": 1}, {"n": 2}]
    assert (given["row_count"], given["truncated"]) == (2, True)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM goods",
        "INSERT INTO goods (id) VALUES (9) RETURNING id",
        "SELECT 1) AS asked; DELETE FROM goods; SELECT * FROM (SELECT 2",
        "SELECT 1; COMMIT; DELETE FROM goods",
        "WITH gone AS (DELETE FROM goods RETURNING *) SELECT * FROM gone",
        "SELECT 1 AS a, 2 AS a",
        "SELECT nothing FROM goods",
        "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    ],
)
def test_whatever_is_no_single_question_is_refused(ask: Callable[..., dict[str, Any]], query: str) -> None:
    with pytest.raises(BadInput, match="query: "):
        ask(query)
    assert ask("SELECT count(*) AS n FROM goods")["results"] == [{"n": 3}]


@pytest.mark.parametrize("role", ["writer", "insider", "maker"])
def test_a_role_that_may_write_is_refused(ask: Callable[..., dict[str, Any]], role: str) -> None:
    with pytest.raises(BadInput, match="may do more than read"):
        ask("SELECT 1 AS a", role)


def test_agentflows_own_database_is_refused_whoever_asks(ask: Callable[..., dict[str, Any]], database_url: str) -> None:
    with pytest.raises(BadInput, match="AgentFlow's own"):
        ask("SELECT 1 AS a", database=urlsplit(database_url).path[1:])


def test_a_query_ends_in_time(ask: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(Transient, match=r"longer than 0\.2 s"):
        ask("SELECT pg_catalog.pg_sleep(30)", timeout=0.2)


def test_who_is_not_let_in_is_told_so_without_the_password(ask: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(BadInput) as refused:
        ask("SELECT 1 AS a", "nobody")
    assert "hush" not in refused.value.message
    with pytest.raises(BadInput, match="lets this role not into"):
        ask("SELECT 1 AS a", database="nowhere")


def test_a_server_that_is_not_public_or_not_the_credentials_is_refused(
    ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="goes nowhere else"):
        ask("SELECT 1 AS a", host="127.0.0.2")
    monkeypatch.setattr(settings(), "http_allow", ())
    with pytest.raises(BadInput, match="not a public address"):
        ask("SELECT 1 AS a")
