"""Makes all ids.

Keys are UUIDv7 (RFC 9562 §5.7): their first 48 bits are the Unix time in milliseconds. Later keys sort later, so
inserts stay at the right edge of an index, and a table can be partitioned by key.
"""

from uuid import UUID

from uuid_utils.compat import uuid4 as _uuid4
from uuid_utils.compat import uuid7 as _uuid7


def new_id() -> UUID:
    """A new time-ordered key (UUIDv7)."""
    return _uuid7()


def new_token() -> UUID:
    """A random lease token (UUIDv4): it must not be guessable from an earlier one."""
    return _uuid4()
