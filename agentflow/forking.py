"""Provides a lock, a cache and a lazy property that are safe in forked child processes.

A worker forks children while its other threads work (recovery, leases). A lock that such a thread holds at that moment
stays locked in the child, where no thread can release it: whoever waits for it there waits for ever.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload
from weakref import WeakSet

from cachetools import LRUCache

_K = TypeVar("_K")
_V = TypeVar("_V")
_locks: "WeakSet[threading.Lock]" = WeakSet()


def lock() -> threading.Lock:
    """A lock that every forked child finds released. Use it only for state that may be left half-changed."""
    made = threading.Lock()
    _locks.add(made)
    return made


def _free_all() -> None:
    for one in list(_locks):
        one._at_fork_reinit()  # type: ignore[attr-defined]  # the standard library does the same to its locks


os.register_at_fork(after_in_child=_free_all)


class LastUsed(LRUCache[_K, _V]):
    """An LRU cache that may be left half-changed, by a fork or by an interruption of a block.

    `LRUCache` keeps its entries and their order apart, and cannot evict an entry of which it has one of the two. This
    class then starts with an empty cache.
    """

    def __setitem__(self, key: _K, value: _V) -> None:
        try:
            super().__setitem__(key, value)
        except KeyError:  # nothing whole is left to evict
            self.clear()
            super().__setitem__(key, value)


class lazy(Generic[_V]):  # noqa: N801 - it is used like `property`
    """A property that is computed at its first use, and cached.

    It is `functools.cached_property` without the lock that all instances of a class share up to Python 3.11. Two
    threads may both compute the value; the later one is kept.
    """

    def __init__(self, compute: Callable[[Any], _V]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "lazy[_V]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> _V: ...
    def __get__(self, instance: object | None, owner: type) -> "lazy[_V] | _V":
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
