"""What is encrypted comes back for its row only, with any key of the ring, and tells nothing before."""

import os
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.credentials.encryption import Bound, KeyRing, Sealed, key_id
from agentflow.errors import Conflict, SystemFault

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32


def bound(**more):
    made = Bound(uuid4(), uuid4(), "openai", "api_key", {"host": "example.com"})
    return replace(made, **more)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"), max_size=200)))
def test_what_is_encrypted_comes_back(secret):
    of = bound()
    sealed = KeyRing([NEW]).encrypt(secret, of)
    assert KeyRing([NEW]).decrypt(sealed, of) == secret


def test_the_newest_key_encrypts_and_all_decrypt():
    of = bound()
    old = KeyRing([OLD]).encrypt({"a": "b"}, of)
    ring = KeyRing([NEW, OLD])
    assert ring.decrypt(old, of) == {"a": "b"}
    assert ring.encrypt({}, of).key_id == key_id(NEW) == ring.newest != old.key_id


def test_the_same_secret_never_looks_the_same():
    of, ring = bound(), KeyRing([NEW])
    sealed = {ring.encrypt({"a": "hush-hush"}, of).data for _ in range(100)}
    assert len(sealed) == 100
    assert all(b"hush" not in one for one in sealed)


@pytest.mark.parametrize(
    "other",
    [
        {"id": uuid4()},
        {"owner_id": uuid4()},
        {"provider": "groq"},
        {"kind": "oauth2"},
        {"details": {"host": "evil.example"}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_secret_is_refused_in_another_place(other):
    of, ring = bound(), KeyRing([NEW])
    with pytest.raises(SystemFault, match="was changed"):
        ring.decrypt(ring.encrypt({"a": "b"}, of), replace(of, **other))


@given(st.data())
def test_a_changed_byte_is_noticed(data):
    of, ring = bound(), KeyRing([NEW])
    sealed = ring.encrypt({"a": "b"}, of)
    place = data.draw(st.integers(0, len(sealed.data) - 1))
    changed = bytearray(sealed.data)
    changed[place] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(changed), sealed.data[:place]):
        with pytest.raises(SystemFault, match="was changed"):
            ring.decrypt(Sealed(sealed.key_id, wrong), of)


def test_a_missing_key_is_named_and_nothing_of_it():
    of = bound()
    sealed = KeyRing([OLD]).encrypt({"a": "hush"}, of)
    with pytest.raises(SystemFault, match=f"AGENTFLOW_CREDENTIAL_KEYS lacks its key {key_id(OLD)}"):
        KeyRing([OTHER]).decrypt(sealed, of)
    with pytest.raises(SystemFault):
        KeyRing([OTHER]).decrypt(replace(sealed, key_id=key_id(OTHER)), of)


def test_without_a_key_nothing_is_encrypted():
    with pytest.raises(Conflict, match="AGENTFLOW_CREDENTIAL_KEYS"):
        KeyRing([]).encrypt({"a": "b"}, bound())


def test_the_name_of_a_key_is_not_part_of_it():
    key = os.urandom(32)
    assert key_id(key) not in key.hex()
