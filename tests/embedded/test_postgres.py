"""The embedded PostgreSQL is private, and stands up again whatever happened to it."""

import os
import signal
import stat
from contextlib import closing

import psycopg
import pytest

from agentflow.embedded.keys import Secrets
from agentflow.embedded.postgres import Postgres
from agentflow.embedded.roster import Roster
from agentflow.errors import Unavailable


def _ask(url, question):
    with closing(psycopg.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0]


@pytest.fixture
def make(tmp_path):
    """Makes servers over one data directory, and stops them at the end."""
    made = []

    def _make(durable: bool = False) -> Postgres:
        made.append(Postgres(tmp_path, Secrets(tmp_path), Roster(tmp_path), durable=durable))
        return made[-1]

    yield _make
    for server in made:
        server.stop()


def test_agentflows_role_owns_its_database_and_is_no_superuser(postgres):
    assert _ask(postgres.url, "select current_user") == "agentflow"
    assert _ask(postgres.url, "select rolsuper or rolcreatedb from pg_roles where rolname = current_user") is False
    owner = "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
    assert _ask(postgres.url, owner) == "agentflow"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _ask(postgres.url, "select pg_read_file('/etc/passwd')")


def test_nothing_listens_on_a_network_address(postgres):
    assert _ask(postgres.url, "show listen_addresses") == ""


@pytest.mark.parametrize("role", ["agentflow", "postgres"])
@pytest.mark.parametrize("password", ["wrong", ""])
def test_both_roles_need_their_password(postgres, role, password):
    _, _, rest = postgres.url.partition("@")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://{role}:{password}@{rest}")


def test_the_socket_and_the_data_are_their_owners_alone(postgres, stack):
    folder = _ask(postgres.superuser_url, "show unix_socket_directories").strip('"')
    for path in (folder, stack.data_dir, stack.data_dir / "postgres", stack.data_dir / "logs"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path
    for name in ("secrets.json", "processes.json", "lock", "logs/postgres.log", "logs/valkey.log"):
        assert stat.S_IMODE((stack.data_dir / name).stat().st_mode) == 0o600, name


def test_it_never_runs_as_root(postgres):
    owner = os.stat(f"/proc/{postgres.child.pid}").st_uid if os.path.exists("/proc") else os.geteuid()
    assert owner != 0


def test_upper_and_lower_case_are_known_beyond_ascii(postgres):
    if int(_ask(postgres.url, "show server_version_num")) < 170_000:
        pytest.skip("the built-in locale came with PostgreSQL 17")
    assert _ask(postgres.url, "select lower('ÄÖ')") == "äö"


def test_a_killed_server_starts_again_with_what_was_committed(make):
    server = make(durable=True)
    server.start()
    with closing(psycopg.connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute("create table kept as select 42 as answer")
        connection.commit()
    os.kill(server.child.pid, signal.SIGKILL)
    server.child.wait(10.0)

    again = make()
    again.start()

    assert _ask(again.url, "select answer from kept") == 42


def test_a_half_made_cluster_is_made_anew(make, tmp_path):
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")

    server = make()
    server.start()

    assert _ask(server.url, "select 1") == 1


def test_the_number_in_a_stale_file_may_be_a_strangers_who_is_left_alone(make, tmp_path):
    server = make()
    server.start()
    stale = tmp_path / "postgres" / "postmaster.pid"
    lines = stale.read_text().splitlines()
    server.stop()
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]))

    again = make()
    again.start()

    assert _ask(again.url, "select 1") == 1


def test_a_server_that_a_killed_owner_left_is_ended_first(make):
    orphan = make()
    orphan.start()

    again = make()
    again.start()

    assert orphan.child.ended() is not None
    assert _ask(again.url, "select 1") == 1


def test_data_of_another_version_is_refused_in_plain_words(make, tmp_path):
    server = make()
    server.start()
    server.stop()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")

    with pytest.raises(Unavailable, match="PostgreSQL 12's"):
        make().start()


def test_a_server_that_does_not_start_says_why_and_leaves_nothing_running(make, tmp_path):
    server = make()
    server.start()
    server.stop()
    (tmp_path / "postgres" / "custom.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(Unavailable, match="no_such_setting"):
        make().start()
    assert not (tmp_path / "processes.json").exists()
