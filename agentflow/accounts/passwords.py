"""Hashes passwords by argon2id, and checks them. Knows no user and no database.

Each hash takes 64 MiB and some 50 ms, so only a few are worked on at a time in a process; who waits too long is told to
come again. The work is the same whether there is a hash to compare with or not.
"""

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from agentflow.errors import Busy

_AT_ONCE: Final = 4  # hashes at a time in a process: 256 MiB
_PATIENCE: Final = 10.0  # seconds that a request waits for its turn

_hasher: Final = PasswordHasher()  # argon2id with the parameters that the library recommends
_places = threading.BoundedSemaphore(_AT_ONCE)


def hashed(password: str) -> str:
    """What is stored of a password: the hash with its parameters and salt.

    Raises:
        Busy: too many are worked on.
    """
    with _turn():
        return _hasher.hash(_normal(password))


def fits(stored: str | None, password: str) -> bool:
    """Whether `stored` is of that password. None: it is not, which takes as long to find.

    Raises:
        Busy: too many are worked on.
    """
    compared = stored or _nobodys()
    with _turn():
        try:
            _hasher.verify(compared, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether the parameters that the library recommends are others than those of `stored`."""
    return _hasher.check_needs_rehash(stored)


def prepare() -> None:
    """Make what an unknown name is compared with, so that the first one takes no longer than others."""
    _nobodys()


@cache
def _nobodys() -> str:
    return _hasher.hash("the password of nobody")


@contextmanager
def _turn() -> Iterator[None]:
    if not _places.acquire(timeout=_PATIENCE):
        raise Busy("too many people sign in at this moment; try again")
    try:
        yield
    finally:
        _places.release()


def _normal(password: str) -> str:
    """One form of each character (NFC), as keyboards differ in which they send."""
    return unicodedata.normalize("NFC", password)
