"""Stores users, their API keys and sessions, and counts what each user stores.

Keys and sessions are stored by digest: a key, or the secret of a cookie, never comes here.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, delete, func, literal, or_, select, text, update
from sqlalchemy.orm import Session

from agentflow.accounts.scopes import Role
from agentflow.accounts.tables import ApiKey, AuditEntry, Identity, OidcAttempt, User, UserSession
from agentflow.ids import new_id

_STORED = text(
    "SELECT (SELECT coalesce(sum(pg_column_size(v.document) + coalesce(pg_column_size(v.plan), 0)), 0) "
    "FROM graph_versions v JOIN graphs g ON g.id = v.graph_id "
    "WHERE g.owner_id = :owner AND g.deleted_at IS NULL AND NOT g.inline) "
    "+ (SELECT coalesce(sum(pg_column_size(m.value)), 0) FROM memories m WHERE m.owner_id = :owner) "
    "+ (SELECT coalesce(sum(pg_column_size(p)), 0) FROM presets p WHERE p.owner_id = :owner) "
    "+ (SELECT coalesce(sum(pg_column_size(s)), 0) FROM schedules s WHERE s.owner_id = :owner) "
    "+ (SELECT coalesce(sum(pg_column_size(t)), 0) FROM triggers t WHERE t.owner_id = :owner)"
)
_QUOTA_LOCK = text("SELECT pg_advisory_xact_lock(uuid_hash(:owner), -3)")
_USE_RESOLUTION = timedelta(minutes=1)  # so that a busy key does not write at every request
_FORGOTTEN_AT_ONCE = 100

KeyRow = Row[*tuple[Any, ...]]


class NewKey(NamedTuple):
    """What is stored of a new key."""

    owner_id: UUID
    name: str
    prefix: str
    digest: str
    scopes: Sequence[str] | None = None
    expires_at: datetime | None = None


def lock_keys(session: Session) -> None:
    """Nobody else makes a key until this transaction ends: two first starts at once must make one key."""
    session.execute(text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))


def any_key(session: Session) -> bool:
    """Whether any key was ever made."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def add_user(session: Session, name: str, role: Role = Role.MEMBER) -> UUID:
    """Write a new user; returns the id."""
    user = User(id=new_id(), name=name, role=role)
    session.add(user)
    session.flush()
    return user.id


def user(session: Session, user_id: UUID, *, lock: bool = False) -> User | None:
    """A user; `lock`: nobody else changes it until this transaction ends."""
    return session.get(User, user_id, with_for_update=lock)


def lock_admins(session: Session) -> Sequence[UUID]:
    """The admins who are not suspended. None of them changes until this transaction ends."""
    return session.scalars(
        select(User.id).where(User.role == Role.ADMIN, User.suspended_at.is_(None)).order_by(User.id).with_for_update()
    ).all()


def users(session: Session, after: UUID | None, limit: int) -> Sequence[User]:
    """Users, the newest first, below the id `after`."""
    query = select(User)
    if after is not None:
        query = query.where(User.id < after)
    return session.scalars(query.order_by(User.id.desc()).limit(limit)).all()


def add_key(session: Session, new: NewKey) -> ApiKey:
    """Write a new key."""
    key = ApiKey(id=new_id(), **new._asdict())
    session.add(key)
    session.flush()
    return key


def key(session: Session, key_id: UUID, *, lock: bool = False) -> ApiKey | None:
    """A key; `lock`: nobody else changes it until this transaction ends."""
    return session.get(ApiKey, key_id, with_for_update=lock)


def keys(session: Session, owner_id: UUID, after: UUID | None, limit: int) -> Sequence[ApiKey]:
    """The owner's keys, revoked ones too, the newest first, below the id `after`."""
    query = select(ApiKey).where(ApiKey.owner_id == owner_id)
    if after is not None:
        query = query.where(ApiKey.id < after)
    return session.scalars(query.order_by(ApiKey.id.desc()).limit(limit)).all()


def digests(session: Session, owner_id: UUID) -> Sequence[str]:
    """The digests of the owner's keys that are not revoked."""
    return session.scalars(select(ApiKey.digest).where(ApiKey.owner_id == owner_id, ApiKey.revoked_at.is_(None))).all()


def used_key(session: Session, digest: str) -> KeyRow | None:
    """The key with this digest and its user; None where there is none. Notes the use, to the minute."""
    found = session.execute(_KEY_AND_USER.where(ApiKey.digest == digest)).one_or_none()
    if found is not None:
        session.execute(
            update(ApiKey)
            .where(
                ApiKey.digest == digest,
                or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - literal(_USE_RESOLUTION)),
            )
            .values(last_used_at=func.date_trunc("minute", func.now()))
        )
    return found


_KEY_AND_USER: Select[*tuple[Any, ...]] = select(
    ApiKey.id,
    ApiKey.owner_id,
    ApiKey.scopes,
    ApiKey.expires_at,
    ApiKey.suspended_at,
    ApiKey.revoked_at,
    User.role,
    User.suspended_at.label("user_suspended_at"),
).join(User, User.id == ApiKey.owner_id)


def user_named(session: Session, sign_in_name: str) -> User | None:
    """The user with a password whose name, folded, is that."""
    return session.scalars(select(User).where(User.sign_in_name == sign_in_name)).one_or_none()


def lock_sign_in_names(session: Session) -> None:
    """Nobody else gets a name to sign in with until this transaction ends: two cannot both take the same."""
    session.execute(text("SELECT pg_advisory_xact_lock(0, -22)"))


def add_session(session: Session, new: UserSession) -> UserSession:
    """Write a new session; it gets its id."""
    new.id = new_id()
    session.add(new)
    session.flush()
    return new


def used_session(session: Session, digest: str) -> KeyRow | None:
    """The session with this digest and its user; None where there is none."""
    return session.execute(_SESSION_AND_USER.where(UserSession.digest == digest)).one_or_none()


def note_session_use(session: Session, session_id: UUID, moment: datetime) -> None:
    """Note that a session was used, to the minute."""
    session.execute(
        update(UserSession)
        .where(UserSession.id == session_id, UserSession.last_used_at < moment - _USE_RESOLUTION)
        .values(last_used_at=moment)
    )


def session_of(session: Session, session_id: UUID) -> UserSession | None:
    """A session. Nobody else changes it until this transaction ends."""
    return session.get(UserSession, session_id, with_for_update=True)


def sessions(
    session: Session, user_id: UUID, moment: datetime, used_after: datetime, after: UUID | None, limit: int
) -> Sequence[UserSession]:
    """The user's sessions that have not ended, the newest first, below the id `after`."""
    query = select(UserSession).where(
        UserSession.user_id == user_id, UserSession.expires_at > moment, UserSession.last_used_at > used_after
    )
    if after is not None:
        query = query.where(UserSession.id < after)
    return session.scalars(query.order_by(UserSession.id.desc()).limit(limit)).all()


def keep_newest_sessions(session: Session, user_id: UUID, most: int, moment: datetime, used_after: datetime) -> None:
    """Delete the user's sessions that have ended, and the oldest beyond `most`."""
    newest = select(UserSession.id).where(UserSession.user_id == user_id).order_by(UserSession.id.desc()).limit(most)
    session.execute(
        delete(UserSession).where(
            UserSession.user_id == user_id,
            or_(
                UserSession.expires_at <= moment,
                UserSession.last_used_at <= used_after,
                UserSession.id.not_in(newest),
            ),
        )
    )


def end_sessions(session: Session, user_id: UUID) -> None:
    """Delete all sessions of a user."""
    session.execute(delete(UserSession).where(UserSession.user_id == user_id))


def forget_attempts(session: Session, moment: datetime) -> None:
    """Delete sign-ins through the provider that took too long, some at a time."""
    past = select(OidcAttempt.digest).where(OidcAttempt.expires_at <= moment).limit(_FORGOTTEN_AT_ONCE)
    session.execute(delete(OidcAttempt).where(OidcAttempt.digest.in_(past.with_for_update(skip_locked=True))))


def take_attempt(session: Session, digest: str) -> KeyRow | None:
    """Delete a sign-in through the provider, and give what it was; None: there is none, or it was taken."""
    wanted = delete(OidcAttempt).where(OidcAttempt.digest == digest)
    return session.execute(
        wanted.returning(OidcAttempt.nonce, OidcAttempt.verifier, OidcAttempt.page, OidcAttempt.expires_at)
    ).one_or_none()


def lock_identity(session: Session, issuer: str, subject: str) -> None:
    """Nobody else finds or links that identity until this transaction ends: two first sign-ins make one user."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, -22))"), {"name": f"{issuer} {subject}"})


def forget_identities(session: Session, user_id: UUID, issuer: str) -> None:
    """Delete how a provider knows a user."""
    session.execute(delete(Identity).where(Identity.user_id == user_id, Identity.issuer == issuer))


_SESSION_AND_USER: Select[*tuple[Any, ...]] = select(
    UserSession.id,
    UserSession.user_id,
    UserSession.last_used_at,
    UserSession.expires_at,
    User.role,
    User.suspended_at.label("user_suspended_at"),
).join(User, User.id == UserSession.user_id)


_ADD_ENTRY = text(
    "INSERT INTO audit_entries (id, user_id, key_id, session_id, source, action, target, status, reason) "
    "VALUES (:id, :user_id, :key_id, :session_id, :source, :action, :target, :status, :reason)"
)


class Act(NamedTuple):
    """What somebody does, or tried to do.

    Attributes:
        key_id, session_id: with what they showed who they are; both None: it was done in the database itself.
        source: the address of the client, or `command line`.
        action: the operation's name in the OpenAPI document.
        target: the id of what it is done to; None: nothing that has one, or nothing yet.
        status: the HTTP status with which it was refused; None: it is done.
        reason: why it was refused.
    """

    user_id: UUID | None
    key_id: UUID | None
    session_id: UUID | None
    source: str
    action: str
    target: str | None = None
    status: int | None = None
    reason: str | None = None


def add_audit_entry(session: Session, act: Act) -> None:
    """Add an entry. As text, because every submission pays for it."""
    session.execute(_ADD_ENTRY, {"id": new_id(), **act._asdict()})


def audit_entries(session: Session, user_id: UUID | None, after: UUID | None, limit: int) -> Sequence[AuditEntry]:
    """Entries, of one user or of all, the newest first, below the id `after`."""
    query = select(AuditEntry)
    if user_id is not None:
        query = query.where(AuditEntry.user_id == user_id)
    if after is not None:
        query = query.where(AuditEntry.id < after)
    return session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit)).all()


def stored_bytes(session: Session, owner_id: UUID) -> int:
    """Bytes of the owner's graphs, memories and presets, as kept. Nobody adds to them before the caller commits."""
    session.execute(_QUOTA_LOCK, {"owner": owner_id})
    return int(session.scalar(_STORED, {"owner": owner_id}) or 0)
