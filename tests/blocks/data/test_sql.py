"""A real PostgreSQL is asked over TCP: what comes back, and who and what is refused."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.embedded.postgres import Postgres
from agentflow.errors import BadInput, Interrupted, Transient
from agentflow.settings import settings

SETUP = """
CREATE TABLE goods (id int PRIMARY KEY, name text, price numeric, made date, raw bytea, tags text[], extra jsonb);
INSERT INTO goods VALUES
    (1, 'cup', 2.50, '2026-01-31', '\\x0aff', '{a,b}', '{"deep": [1, null]}'),
    (2, 'pot', 12345678901234567890.123, NULL, NULL, NULL, NULL),
    (3, 'O''Hara; --', 'NaN', NULL, NULL, '{}', '[]');
CREATE SEQUENCE numbers;
CREATE VIEW cheap AS SELECT * FROM goods WHERE price < 5;
"""

ROLES = {
    "reader": "GRANT SELECT ON goods TO reader",
    "writer": "GRANT SELECT, INSERT ON goods TO writer",
    "insider": "GRANT pg_write_all_data TO insider",
    "maker": "ALTER ROLE maker CREATEDB",
    "column_writer": "GRANT SELECT, UPDATE (name) ON goods TO column_writer",
    "counter": "GRANT USAGE ON SEQUENCE numbers TO counter",
    "builder": "GRANT CREATE ON SCHEMA public TO builder",
    "founder": "GRANT CREATE ON DATABASE {database} TO founder",
    "owner": "ALTER VIEW cheap OWNER TO owner; REVOKE ALL ON cheap FROM owner",
    "changer": "ALTER ROLE changer NOINHERIT; GRANT writer TO changer",
}
"""What each may do; `reader` alone may only read."""


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
    with closing(psycopg.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(SETUP)
        for role, grant in ROLES.items():
            cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
            cursor.execute(grant.format(database=name))
        yield name
        for role in reversed(ROLES):
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


def test_lists_and_dictionaries_are_bound_as_arrays_and_json(ask: Callable[..., dict[str, Any]]) -> None:
    query = "SELECT id FROM goods WHERE id = ANY(%s) AND extra @> %s"
    assert ask(query, parameters=[[1, 2], {"deep": [1]}])["results"] == [{"id": 1}]
    assert ask("SELECT name FROM goods WHERE name LIKE 'c%'")["results"] == [{"name": "cup"}]
    with pytest.raises(BadInput, match="query: "):
        ask("SELECT %s AS a", parameters=[1, 2])


def test_an_end_that_people_write_out_of_habit_is_taken(ask: Callable[..., dict[str, Any]]) -> None:
    assert ask("SELECT id FROM goods WHERE id = 1 ;\n; ")["results"] == [{"id": 1}]


def test_no_rows_have_their_columns_all_the_same(ask: Callable[..., dict[str, Any]]) -> None:
    given = ask("SELECT id, name FROM goods WHERE false")
    assert given == {"results": [], "columns": ["id", "name"], "row_count": 0, "truncated": False}


def test_only_so_many_bytes_are_taken(ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "http_max_bytes", 100_000)
    with pytest.raises(BadInput, match="the rows have more than 100000 bytes"):
        ask("SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 10000) AS n", max_rows=10_000)


def test_only_so_many_rows_are_given(ask: Callable[..., dict[str, Any]]) -> None:
    given = ask("SELECT n FROM generate_series(1, 1000000) AS n", max_rows=2)
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
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT nextval('numbers')",
        "SELECT lo_create(0)",
        "COPY goods TO PROGRAM 'id'",
        "DO $$ BEGIN END $$",
        ";",
    ],
)
def test_whatever_is_no_single_question_is_refused(ask: Callable[..., dict[str, Any]], query: str) -> None:
    with pytest.raises(BadInput, match="query: "):
        ask(query)
    assert ask("SELECT count(*) AS n FROM goods")["results"] == [{"n": 3}]


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("writer", "may write to public.goods"),
        ("insider", "may become, pg_write_all_data"),
        ("maker", "may become, maker"),
        ("column_writer", "may write to public.goods"),
        ("counter", "may write to public.numbers"),
        ("builder", "may make things in the schema public"),
        ("founder", "may make things in the database"),
        ("owner", "may write to public.cheap"),
        ("changer", "may write to public.goods"),
    ],
)
def test_a_role_that_may_write_is_refused(ask: Callable[..., dict[str, Any]], role: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"may do more than read .*{why}"):
        ask("SELECT 1 AS a", role)


def test_agentflows_own_database_is_refused_whoever_asks(ask: Callable[..., dict[str, Any]], database_url: str) -> None:
    with pytest.raises(BadInput, match="AgentFlow's own"):
        ask("SELECT 1 AS a", database=urlsplit(database_url).path[1:])


def test_our_own_database_is_known_by_its_address_before_anything_is_sent(
    ask: Callable[..., dict[str, Any]], port: int, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "database_url", f"postgresql://agentflow:secret@localhost:{port}/{shop}")
    with pytest.raises(BadInput, match="AgentFlow's own"):
        ask("SELECT 1 AS a", role="nobody")  # who is refused by the server in another way
    monkeypatch.setattr(settings(), "database_url", f"postgresql://agentflow:secret@localhost:{port}/other")
    assert ask("SELECT 1 AS a")["results"] == [{"a": 1}]


@pytest.mark.parametrize("name", ["host=127.0.0.2 port=1", "postgresql://127.0.0.2:1/x", "x' host='127.0.0.2"])
def test_a_databases_name_is_nothing_but_a_name(ask: Callable[..., dict[str, Any]], name: str) -> None:
    with pytest.raises(BadInput, match="does not let this role into"):
        ask("SELECT 1 AS a", database=name)


def test_nothing_of_the_workers_account_goes_along(
    ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int
) -> None:
    kept = tmp_path / "pgpass"
    kept.write_text("*:*:*:*:hush\n")
    kept.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(kept))
    monkeypatch.setenv("PGPASSWORD", "hush")
    nothing = Credential("database", username="reader", base_url=f"postgresql://127.0.0.1:{port}")
    inputs = {"query": "SELECT 1 AS a", "host": "127.0.0.1", "port": port, "database": "x"}
    with pytest.raises(BadInput, match="needs a username and a password"):
        collect(registry.by_name("SQLQuery"), inputs, trial_context(credential=lambda _: nothing))


def test_a_server_that_wants_the_password_in_the_clear_does_not_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = bytearray()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        while data := client.recv(4096):
                            heard.extend(data)
                            # No to TLS; then: send your password as it is.
                            client.sendall(b"N" if len(data) == 8 else b"R\0\0\0\x08\0\0\0\x03")

        Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        monkeypatch.setattr(settings(), "http_allow", (f"127.0.0.1:{port}",))
        secret = Credential("database", username="reader", password="hush", base_url="postgresql://127.0.0.1")
        inputs = {"query": "SELECT 1 AS a", "host": "127.0.0.1", "port": port, "database": "x"}
        with pytest.raises(BadInput, match="by SCRAM, and it is not sent in another way"):
            collect(registry.by_name("SQLQuery"), inputs, trial_context(credential=lambda _: secret))
        server.shutdown(socket.SHUT_RDWR)
    assert b"reader" in heard
    assert b"hush" not in heard


def test_a_certificate_is_wanted_where_the_operator_says_so(ask: Callable[..., dict[str, Any]], port: int) -> None:
    base_url = f"postgresql://127.0.0.1:{port}?sslmode=verify-full"
    secret = Credential("database", username="reader", password="hush", base_url=base_url)
    inputs = {"query": "SELECT 1 AS a", "host": "127.0.0.1", "port": port, "database": "x"}
    with pytest.raises((BadInput, Transient), match=r"127\.0\.0\.1"):  # the tests' server speaks no TLS
        collect(registry.by_name("SQLQuery"), inputs, trial_context(credential=lambda _: secret))


def test_an_interruption_ends_the_query_on_the_server_too(
    ask: Callable[..., dict[str, Any]], postgres: Postgres, eventually: Callable[..., None]
) -> None:
    def interrupt(_signum: int, _frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            ask("SELECT pg_catalog.pg_sleep(100) AS marked", timeout=200)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 10
    with closing(psycopg.connect(postgres.superuser_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def is_over() -> bool:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active'")
            return bool(cursor.fetchone() == (0,))

        eventually(is_over)


def test_a_query_ends_in_time(ask: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(Transient, match=r"longer than 0\.2 s"):
        ask("SELECT pg_catalog.pg_sleep(30)", timeout=0.2)


def test_who_is_not_let_in_is_told_so_without_the_password(ask: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(BadInput) as refused:
        ask("SELECT 1 AS a", "nobody")
    assert "hush" not in refused.value.message
    with pytest.raises(BadInput, match="does not let this role into"):
        ask("SELECT 1 AS a", database="nowhere")


def test_a_server_that_is_not_public_or_not_the_credentials_is_refused(
    ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="goes nowhere else"):
        ask("SELECT 1 AS a", host="127.0.0.2")
    monkeypatch.setattr(settings(), "http_allow", ())
    with pytest.raises(BadInput, match="not a public address"):
        ask("SELECT 1 AS a")
