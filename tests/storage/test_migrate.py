"""A process waits for a server that cannot be reached now, and not for one that refuses us."""

import socket
import threading
from pathlib import Path

import psycopg
import pytest
from addresses import altered
from psycopg import sql

from agentflow.embedded.postgres import Postgres
from agentflow.embedded.private import free_port
from agentflow.errors import Refused, Unavailable, WrongSchema
from agentflow.storage import migrate


def test_no_server_is_not_a_refusal() -> None:
    with pytest.raises(Unavailable):
        migrate.check(f"postgresql://x:y@127.0.0.1:{free_port()}/x")


def test_a_server_with_all_connections_taken_is_not_a_refusal(postgres: Postgres, database_url: str) -> None:
    role = sql.Identifier("crowded")
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'p' connection limit 0").format(role))
        try:
            with pytest.raises(Unavailable, match="too many connections"):
                migrate.check(altered(database_url, username="crowded", password="p"))
        finally:
            connection.execute(sql.SQL("drop role {}").format(role))


def test_a_server_that_is_starting_is_not_a_refusal(tmp_path: Path) -> None:
    """It answers, and says in so many words that it is starting: here, that what it is to recover never comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(
            target=refuse, args=(listening, b"57P03", b"the database system is starting up"), daemon=True
        ).start()
        with pytest.raises(Unavailable, match="starting up"):
            migrate.check(
                f"postgresql://x:y@127.0.0.1:{listening.getsockname()[1]}/x?sslmode=disable&gssencmode=disable"
            )


def refuse(listening: socket.socket, sqlstate: bytes, message: bytes) -> None:
    """Turn away whoever connects, as PostgreSQL does."""
    fields = b"SFATAL\0VFATAL\0C" + sqlstate + b"\0M" + message + b"\0\0"
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        with client:
            client.recv(1 << 12)
            client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody"}, {"database": "nowhere"}])
def test_what_waiting_cannot_mend_is_told_from_what_it_can(wrong: dict[str, str], database_url: str) -> None:
    said: list[str] = []
    with pytest.raises(Refused):
        migrate.await_schema(altered(database_url, **wrong), None, said.append)
    assert said == []


def test_an_empty_database_ends_the_wait(empty_database_url: str) -> None:
    with pytest.raises(WrongSchema):
        migrate.await_schema(empty_database_url, None, lambda line: None)
