"""What a worker's children need of the things that they share with their parent: that no lock is taken for ever.

A child is forked while other threads of its parent work (recovery, leases). A lock that one of them holds then is held
in the child as well, by nobody: who waits for it there waits for ever.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload
from weakref import WeakSet

_V = TypeVar("_V")
_locks: "WeakSet[threading.Lock]" = WeakSet()


def lock() -> threading.Lock:
    """A lock that is free in a forked child, whoever held it in the parent: for what bears to be left half-changed."""
    made = threading.Lock()
    _locks.add(made)
    return made


def _free_all() -> None:
    for one in list(_locks):
        one._at_fork_reinit()  # type: ignore[attr-defined]  # what the standard library does to its own locks


os.register_at_fork(after_in_child=_free_all)


class lazy(Generic[_V]):  # noqa: N801 - it is used like `property`
    """A property that is computed when it is first asked for, and kept.

    `functools.cached_property` without its lock, which up to Python 3.11 all instances of a class share. Two threads
    that ask at once may both compute it; the later one stays.
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
