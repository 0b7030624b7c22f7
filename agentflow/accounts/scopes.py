"""Roles of users and scopes of keys: what a caller may do.

A role is an upper bound: a key has the scopes that it was given, and of these only those that its user's role has.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a user may do."""

    ADMIN = "admin"  # everything, also for other users
    MEMBER = "member"  # everything with their own
    VIEWER = "viewer"  # read their own


class Scope(StrEnum):
    """What a key may be used for."""

    GRAPHS_READ = "graphs:read"
    GRAPHS_WRITE = "graphs:write"
    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    BLOCKS_EXECUTE = "blocks:execute"
    REVIEWS_DECIDE = "reviews:decide"
    KEYS_MANAGE = "keys:manage"
    CREDENTIALS_MANAGE = "credentials:manage"
    SCHEDULES_MANAGE = "schedules:manage"
    TRIGGERS_MANAGE = "triggers:manage"
    CREDITS_READ = "credits:read"
    NOTIFICATIONS_MANAGE = "notifications:manage"
    ADMIN = "admin"


_ALL: Final = frozenset(Scope)

OF_ROLE: Final[dict[Role, frozenset[Scope]]] = {
    Role.ADMIN: _ALL,
    Role.MEMBER: _ALL - {Scope.ADMIN},
    Role.VIEWER: frozenset({Scope.GRAPHS_READ, Scope.RUNS_READ, Scope.CREDITS_READ}),
}
"""The scopes of each role. `keys:manage` is a member's: a viewer's keys are made by an admin."""


def effective(role: Role, given: Iterable[str] | None) -> frozenset[Scope]:
    """The scopes of a key of a user with that role. `given`: the key's own; None: all that the role has."""
    return OF_ROLE[role] if given is None else OF_ROLE[role] & {Scope(scope) for scope in given}
