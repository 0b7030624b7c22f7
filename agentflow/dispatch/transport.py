"""Extends kombu's Redis transport to need fewer round trips, which dominate the cost of a worker's main process.

It differs in five ways, of which only the first is visible from outside:

    keys            Their names are fixed, whatever the options say: publishers and consumers must use the same lists.
                    There are ten priority levels instead of four. The fetch command is built once, so ten levels cost
                    less than four did.
    client          kombu 5.7 makes a new client object for every publish, acknowledgement and delivery. Here a channel
                    keeps one.
    publishing      A single message is pushed on a connection that the channel keeps for this: half the cost of
                    redis-py's general way.
    fetching        A worker that may prefetch n more messages takes up to n with one BLMPOP, not one by one with BRPOP.
                    (Servers older than Redis 7 lack BLMPOP and get BRPOP, as in kombu.)
    unacknowledged  kombu writes each delivered message to the hash of unacknowledged ones, and removes it when its task
    messages        is done: two round trips. Here both are delayed by WRITE_EVERY; a message that is done by then is
                    never written. If the process dies within that time its messages are lost. PostgreSQL has their
                    work, and recovery publishes it again.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from time import time
from typing import Any, ClassVar, Final

import redis as redis_client
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from agentflow.dispatch.lanes import MOST_URGENT

logger = logging.getLogger(__name__)

WRITE_EVERY: Final = 0.1  # seconds
_WRITE_AT: Final = 2_000  # entries at which the hash is written at once
_FETCH_AT_MOST: Final = 64  # messages per BLMPOP
_KEY_OPTIONS: Final = {"global_keyprefix", "priority_steps", "sep"}  # kombu's options that change key names
_FETCHES_KEPT: Final = 256  # cached commands: one for each order of the queues and number of messages


class QoS(redis.QoS):  # type: ignore[misc]
    """Tracks unacknowledged messages, and writes them to Redis with a delay."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unwritten: dict[str, tuple[Any, float]] = {}  # delivered, not in Redis yet: tag → message, time
        self._done: set[str] = set()  # acknowledged, still in Redis

    def append(self, message: Any, delivery_tag: str) -> None:
        self._unwritten[delivery_tag] = (message, time())
        virtual.QoS.append(self, message, delivery_tag)
        if len(self._unwritten) >= _WRITE_AT:
            self.write()

    def ack(self, delivery_tag: str) -> None:
        if self._unwritten.pop(delivery_tag, None) is None:
            self._done.add(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)
        if len(self._done) >= _WRITE_AT:
            self.write()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.write()
        super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        self.write()
        super().restore_unacked(client)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """When the channel or the process ends, return unfinished messages to the broker, if it is reachable.

        It raises nothing: whoever closes a channel because its broker is gone must still close the other channels.
        """
        try:
            self.write()  # acknowledged messages must be removed even if there is nothing to return
            super().restore_unacked_once(stderr)
        except (*self.channel.connection_errors, redis_client.RedisError) as error:
            logger.info("unacknowledged_not_given_back", extra={"error": repr(error)})
        finally:
            self._on_collect.cancel()
            self._delivered.clear()
            self._delivered.restored = True
            self._unwritten, self._done = {}, set()

    def write(self) -> None:
        """Write all changes to Redis, in one round trip."""
        unwritten, self._unwritten = self._unwritten, {}
        done, self._done = self._done, set()
        if not unwritten and not done:
            return
        try:
            with self.channel.conn_or_acquire() as client:
                pipe = client.pipeline(transaction=False)
                if unwritten:
                    pipe.zadd(self.unacked_index_key, {tag: at for tag, (_, at) in unwritten.items()})
                    pipe.hset(
                        self.unacked_key, mapping={tag: _entry(message) for tag, (message, _) in unwritten.items()}
                    )
                if done:
                    pipe.zrem(self.unacked_index_key, *done)
                    pipe.hdel(self.unacked_key, *done)
                pipe.execute()
        except BaseException:
            self._unwritten = {**unwritten, **self._unwritten}
            self._done |= done
            raise


def _entry(message: Any) -> str:
    delivery = message.delivery_info
    return str(dumps([message._raw, delivery["exchange"], delivery["routing_key"]]))


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that keeps its client and fetches several messages at once."""

    QoS = QoS
    _kept: Any = None
    _pushing: tuple[Any, Any] | None = None  # the connection for single messages, and its pool
    _takes_many = True
    priority_steps: ClassVar = list(range(MOST_URGENT + 1))
    from_transport_options = tuple(n for n in redis.Channel.from_transport_options if n not in _KEY_OPTIONS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._fetches: OrderedDict[tuple[Any, ...], list[bytes]] = OrderedDict()  # packed commands
        super().__init__(*args, **kwargs)

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise redis_client.ConnectionError("the channel is closed")  # kombu would fail on the missing client
        return super()._get_pool(asynchronous)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None:
            if self._kept is None:
                self._kept = self._create_client()
            client = self._kept
        yield client

    def _disconnect_pools(self) -> None:
        self._kept = self._pushing = None  # their pool is closed
        super()._disconnect_pools()

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        if kwargs.get("_publish_batch") is not None or self._expires or self.global_keyprefix:
            super()._put(queue, message, **kwargs)
            return
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        if self._pushing is not None:
            try:
                self._push(key, message)
                return
            except redis_client.ConnectionError:  # the broker closed it since the last message
                pass
        self._push(key, message)

    def _push(self, key: str, message: Any) -> None:
        """Push on the connection for single messages, which is opened if there is none."""
        if self._pushing is None:
            pool = self.pool
            self._pushing = pool.get_connection(), pool
        pusher = self._pushing[0]
        try:
            pusher.send_command("LPUSH", key, dumps(message))
            pusher.read_response()
        except BaseException:  # an unread reply would be taken for the reply of the next command
            self._discard_pusher()
            raise

    def _discard_pusher(self) -> None:
        if self._pushing is not None:
            (pusher, pool), self._pushing = self._pushing, None
            pusher.disconnect()
            pool.release(pusher)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self._takes_many:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        credit = self.qos.can_consume_max_estimate()
        count = min(_FETCH_AT_MOST, credit) if credit is not None else _FETCH_AT_MOST
        self._in_poll = self.client.connection
        self._brpop_sent_at = redis.monotonic()
        wait = self.brpop_timeout if timeout is None else timeout
        self.client.connection.send_packed_command(self._fetch(queues, max(count, 1), wait or 0))

    def _fetch(self, queues: list[str], count: int, wait: float) -> list[bytes]:
        """The command that takes up to `count` messages, the most urgent first. It is cached, because it is long."""
        key = (*queues, count, wait)
        if (kept := self._fetches.get(key)) is not None:
            self._fetches.move_to_end(key)
            return kept
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        if self.global_keyprefix:
            keys = [self.global_keyprefix + key for key in keys]
        made: list[bytes] = self.client.connection.pack_command(
            "BLMPOP", wait, len(keys), *keys, "RIGHT", "COUNT", count
        )
        self._fetches[key] = made
        if len(self._fetches) > _FETCHES_KEPT:
            self._fetches.popitem(last=False)
        return made

    def _brpop_read(self, **options: Any) -> bool:
        if not self._takes_many:
            return bool(super()._brpop_read(**options))
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BLMPOP", **options)
            except redis_client.exceptions.ResponseError as error:
                if "unknown command" not in str(error).lower():
                    raise
                self._takes_many = False
                raise redis.Empty from None
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not reply:
            raise redis.Empty
        key, items = reply
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        if self.global_keyprefix:
            queue = queue.removeprefix(self.global_keyprefix)
        self._queue_cycle.rotate(queue)
        for item in items:
            self.connection._deliver(loads(bytes_to_str(item)), queue)
        return True


class Transport(redis.Transport):  # type: ignore[misc]
    """Used for `redis://` brokers: see `install`."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        cycle = self.cycle
        if (previous := getattr(cycle, "_write_tref", None)) is not None:
            previous.cancel()
        cycle._write_tref = loop.call_repeatedly(WRITE_EVERY, _write_all, cycle)


def _write_all(cycle: Any) -> None:
    for channel in list(cycle._channels):
        if channel.active_queues:
            try:
                channel.qos.write()
            except channel.connection_errors as error:  # the loop reconnects by itself
                logger.debug("unacknowledged_not_written", extra={"error": repr(error)})


def install() -> None:
    """Use this transport for `redis://` and `rediss://` in this process, in kombu, Celery and Flower.

    Also where kombu's was used before, such as by a look whether the broker is there: kombu remembers what it found.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        _transport_cache[scheme] = Transport
