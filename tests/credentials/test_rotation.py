"""Encrypting all again under a new key loses nothing, whatever happens meanwhile."""

import threading
from uuid import uuid4

import pytest
from pydantic import SecretStr, TypeAdapter
from sqlalchemy import text

from agentflow.accounts import store as accounts
from agentflow.credentials import rotation, service, store
from agentflow.credentials.kinds import Secret
from agentflow.credentials.service import Changes, New, bound_of, key_ring, sealed_of
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import Conflict
from agentflow.services.transaction import transaction
from agentflow.settings import settings

OLD, NEW = (SecretStr(letter * 43 + "=") for letter in "ac")


def secret(key):
    return TypeAdapter(Secret).validate_python({"type": "api_key", "api_key": key})


@pytest.fixture
def keys(environment, monkeypatch):
    """Sets the ring, the newest first."""

    def use(*ring):
        monkeypatch.setattr(settings(), "credential_keys", ring)

    use(OLD)
    return use


@pytest.fixture
def owner(keys):
    with transaction() as session:
        return accounts.add_user(session, "owner")


def examined(limit=3):
    """All batches; (number, older, unreadable)."""
    number, older, unreadable, after = 0, 0, [], None
    while True:
        with transaction() as session:
            batch = rotation.examine_batch(session, after, limit)
        number, older, after = number + batch.number, older + batch.older, batch.last
        unreadable += batch.unreadable
        if after is None:
            return number, older, unreadable


def create(owner, key):
    with transaction() as session:
        return service.create(session, owner, New("openai", None, secret(key))).id


def everything(owner):
    """Id → (key id, decrypted)."""
    with transaction() as session:
        found = store.page(session, owner, None, None, 10_000)
        ring = key_ring()
        return {one.id: (one.key_id, ring.decrypt(sealed_of(one), bound_of(one))["api_key"]) for one in found}


def rotate(limit=3):
    """All batches; (rotated, unreadable)."""
    rotated, unreadable, after = 0, [], None
    while True:
        with transaction() as session:
            batch = rotation.rotate_batch(session, after, limit)
        rotated, after = rotated + batch.rotated, batch.last
        unreadable += batch.unreadable
        if after is None:
            return rotated, unreadable


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 7])
def test_all_are_under_the_newest_key_afterwards(owner, keys, number):
    made = {create(owner, f"k{place}"): f"k{place}" for place in range(number)}
    keys(NEW, OLD)
    assert rotate() == (number, [])
    assert rotate() == (0, [])
    keys(NEW)
    assert everything(owner) == {id: (key_ring().newest, key) for id, key in made.items()}


def test_one_that_cannot_be_read_stays_as_it_is_and_stops_nothing(owner, keys):
    made = [create(owner, f"k{place}") for place in range(5)]
    keys(NEW)
    strange = create(owner, "new")
    keys(OLD, NEW)
    with transaction() as session:
        session.execute(text("UPDATE credentials SET provider = 'moved' WHERE id = :id"), {"id": made[2]})
        before = session.get(StoredCredential, made[2]).secret
    assert rotate() == (1, []), "the newest key is the first of the ring"
    keys(NEW, OLD)
    assert rotate() == (5, [made[2]])
    with transaction() as session:
        assert session.get(StoredCredential, made[2]).secret == before
        assert rotation.left(session) == 1
        session.execute(text("DELETE FROM credentials WHERE id = :id"), {"id": made[2]})
    keys(NEW)
    assert {id: key for id, (_, key) in everything(owner).items()} == {
        **{id: f"k{place}" for place, id in enumerate(made) if place != 2},
        strange: "new",
    }


def test_without_a_key_it_says_what_to_set(owner, keys):
    create(owner, "k")
    keys()
    with pytest.raises(Conflict, match="AGENTFLOW_CREDENTIAL_KEYS"), transaction() as session:
        rotation.rotate_batch(session)


def test_nothing_is_lost_while_others_write(owner, keys):
    """Writers change, add and delete credentials all the time, while two rotations at once go from key to key."""
    last = {create(owner, f"first {place}"): f"first {place}" for place in range(20)}
    ids, lock, failures, done = list(last), threading.Lock(), [], threading.Event()

    def write(number):
        count = 0
        while not done.is_set():
            count += 1
            mine = [id for place, id in enumerate(ids) if place % 3 == number]
            id, key = mine[count % len(mine)], f"{number} {count}"
            with transaction() as session:
                service.change(session, owner, id, Changes(secret=secret(key)))
            last[id] = key
            made = create(owner, key)
            if count % 2:
                with transaction() as session:
                    service.delete(session, owner, made)
            else:
                with lock:
                    last[made] = key

    def guarded(act, *arguments):
        try:
            act(*arguments)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=guarded, args=(write, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    ring = (OLD,)
    for letter in "bdef":
        ring = (SecretStr(letter * 42 + "A="), *ring)
        keys(*ring)
        rotations = [threading.Thread(target=guarded, args=(rotate,)) for _ in range(2)]
        for one in rotations:
            one.start()
        for one in rotations:
            one.join()
    done.set()
    for writer in writers:
        writer.join()
    assert failures == []
    rotate()
    keys(ring[0])
    found = everything(owner)
    assert {id: key for id, (_, key) in found.items()} == last
    assert {under for under, _ in found.values()} == {key_ring().newest}
    with transaction() as session:
        assert rotation.left(session) == 0


def test_the_credentials_of_a_deleted_user_are_gone(owner, keys):
    create(owner, "k")
    with transaction() as session:
        session.execute(text("DELETE FROM users WHERE id = :id"), {"id": owner})
        assert store.count(session, owner) == 0
        assert store.get(session, owner, uuid4()) is None


@pytest.mark.parametrize("number", [0, 1, 3, 4, 7])
def test_what_no_key_decrypts_and_what_needs_an_older_one_is_found(owner, keys, number):
    made = [create(owner, f"sk-{count}") for count in range(number)]
    assert examined() == (number, 0, [])
    keys(NEW, OLD)
    assert examined() == (number, number, [])
    made += [create(owner, "under the newest")]
    assert examined() == (number + 1, number, [])
    keys(NEW)
    assert examined() == (number + 1, 0, made[:number])
    keys(NEW, OLD)
    assert rotate() == (number, [])
    assert examined() == (number + 1, 0, [])
    keys()
    assert examined() == (number + 1, 0, made)
