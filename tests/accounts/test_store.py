"""The store of accounts notes the use of keys, and counts what a user stores."""

from sqlalchemy import text

from agentflow.accounts import keys, store
from agentflow.memories import store as memories
from agentflow.services.transaction import transaction


def test_a_key_that_is_used_again_within_a_minute_writes_nothing(environment):
    with transaction() as session:
        digest = keys.digest(keys.create(session, store.add_user(session, "owner"), "key")[0])
        store.used_key(session, digest)
    for seconds, writes in ((0, 0), (61, 1)):
        with transaction() as session:
            session.execute(
                text("UPDATE api_keys SET last_used_at = now() - make_interval(secs => :s)"), {"s": seconds}
            )
        with transaction() as session:
            store.used_key(session, digest)
            written = session.scalar(
                text("SELECT count(*) FROM api_keys WHERE last_used_at = date_trunc('minute', now())")
            )
        assert written == writes


def test_what_a_user_stores_is_counted_without_what_others_store(environment):
    with transaction() as session:
        one, other = store.add_user(session, "one"), store.add_user(session, "other")
        for number in range(20):
            memories.put(session, one, str(number), str(number) * 100)
        memories.put(session, other, "0", "0" * 100)
        counted = {owner: store.stored_bytes(session, owner) for owner in (one, other)}
        memories.remove(session, one, "19")
        assert counted[one] > 10 * counted[other] > 0
        assert store.stored_bytes(session, one) < counted[one]
