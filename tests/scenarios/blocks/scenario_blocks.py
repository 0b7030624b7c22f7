"""Blocks that misbehave on purpose; the scenarios' workers find them by an entry point, like anybody's."""

import asyncio
import base64
import contextlib
import html
import json
import logging
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context
from agentflow.blocks.credentials import credentials
from agentflow.engine import verdict
from agentflow.engine.waits import Review, Timer
from agentflow.errors import BadInput, Transient
from agentflow.worker import finalise

ACME = credentials("acme", types=("oauth2",), scopes=("read",))


class _Logged(BlockInput):
    value: Any = None
    log: str | None = None


def note(inputs: _Logged, context: Context) -> None:
    """Append a line to the test's log: one write, so that lines of several processes do not mix."""
    if inputs.log:
        line = f"{context.node_id} {context.index} {context.attempt} {os.getpid()}\n"
        descriptor = os.open(inputs.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)


class Sleep(Block):
    id = "5ce0a001-0000-4000-8000-000000000001"
    name = "TestSleep"

    class Input(_Logged):
        seconds: float = 0.0

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        time.sleep(inputs.seconds)
        yield "value", inputs.value


class Paid(Sleep):
    id = "5ce0a001-0000-4000-8000-000000000009"
    name = "TestPaid"
    cost = 3


class PaidWait(Block):
    """Is paid for what it reports when it begins to wait, and for its end."""

    id = "5ce0a001-0000-4000-8000-0000000000e2"
    name = "TestPaidWait"
    cost = 2

    class Input(BlockInput):
        value: Any = None
        seconds: float = 0.0

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[Any]:
        if context.resumed is None:
            context.report(cost=1)
            yield Timer(inputs.seconds)
        else:
            yield "value", inputs.value


class Alone(Block):
    """Uses a credential for a while, and notes if another living process does at the same time."""

    id = "5ce0a001-0000-4000-8000-0000000000e1"
    name = "TestAlone"

    class Input(_Logged):
        seconds: float = 0.0
        fails: bool = False
        mark: str
        credentials: credentials("alone")  # type: ignore[valid-type]

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        context.credential("alone")
        mark = Path(inputs.mark)
        if mark.exists() and _lives(int(mark.read_text())):
            mark.with_name("overlaps").write_text(f"{context.node_id} {context.index}")
        whole = mark.with_name(f"of {os.getpid()}")  # nobody reads half a number
        whole.write_text(str(os.getpid()))
        whole.replace(mark)
        try:
            time.sleep(inputs.seconds)
        finally:  # it may be interrupted
            mark.unlink(missing_ok=True)
        if inputs.fails:
            raise BadInput("it was to fail")
        yield "value", inputs.value


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]


class Token(Block):
    """Calls a provider with a token of OAuth2, and yields the status."""

    id = "5ce0a001-0000-4000-8000-0000000000f2"
    name = "TestToken"

    class Input(_Logged):
        url: str
        credentials: ACME

    class Output(BlockOutput):
        value: int

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        token = context.credential("acme").api_key
        yield "value", httpx.get(inputs.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False).status_code


LEAKY = credentials("leaky", "smtp", "acme", types=("api_key", "user_password", "oauth2", "host_scoped"))


class Leak(Block):
    """Gives away the secrets of its credential, in one way or another."""

    id = "5ce0a001-0000-4000-8000-0000000000f3"
    name = "TestLeak"

    class Input(_Logged):
        asks: str
        way: str
        credentials: LEAKY

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[Any]:
        credential = context.credential(inputs.asks)
        secrets = [text for text in (credential.api_key, credential.password, *credential.headers.values()) if text]
        assert secrets
        if context.resumed is not None:
            yield "value", context.resumed.state
            return
        for secret in secrets:
            yield from getattr(self, f"_{inputs.way}")(secret, credential, context)
        yield "value", "done"

    def _yields(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield "value", secret
        yield "value", f"before {secret} behind"
        yield "value", {secret: [secret, {"deep": f"{secret}{secret}"}]}
        yield "value", repr(credential)
        pair = f"{credential.username}:{credential.password}"
        yield "value", base64.b64encode(pair.encode()).decode()

    def _encodes(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        data = secret.encode()
        yield "value", base64.b64encode(data).decode()
        yield "value", base64.urlsafe_b64encode(b"1" + data + b"234").decode()
        yield "value", f"https://example.com/?key={quote(secret, safe='')}&again={quote_plus(secret)}"
        yield "value", f"https://user:{quote(secret)}@example.com/"
        yield "value", [data.hex(), html.escape(secret), json.dumps({"it": secret})]

    def _streams(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        for number in range(3):
            time.sleep(0.3)
            yield "value", [number, secret]

    def _raises(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield "value", "before"
        raise ValueError(f"it broke with {secret}")

    def _chains(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield "value", "before"
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise RuntimeError("outer") from error

    def _refuses(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield "value", "before"
        raise BadInput(f"{secret} is no good")

    def _fails_for_now(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield "value", "before"
        raise Transient(f"try again with {secret}")

    def _prints(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        print(secret)
        print("error:", secret, file=sys.stderr)
        yield "value", "printed"

    def _logs(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        context.logger.warning(secret, extra={"told": secret})
        logging.getLogger("somebody.elses").error("with %s", [secret])
        try:
            raise LookupError(secret)
        except LookupError:
            logging.getLogger().exception("in the middle of it")
        warnings.warn(secret, stacklevel=1)
        yield "value", "logged"

    def _remembers(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        context.memory.put("kept", {"it": secret})
        yield "value", context.memory.get("kept")

    def _waits(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield Timer(0, state={"it": secret})

    def _asks(self, secret: str, credential: Any, context: Context) -> Iterator[Any]:
        yield Review(data={"it": secret}, name=f"about {secret}", state=[secret])


class AsyncSleep(Block):
    id = "5ce0a001-0000-4000-8000-000000000002"
    name = "TestAsyncSleep"

    class Input(_Logged):
        seconds: float = 0.0

    class Output(BlockOutput):
        value: Any

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        note(inputs, context)
        await asyncio.sleep(inputs.seconds)
        yield "value", inputs.value


class Ticks(Block):
    """Yields 0, 1, 2, … and waits until `gate` exists before the last one."""

    id = "5ce0a001-0000-4000-8000-000000000003"
    name = "TestTicks"

    class Input(_Logged):
        count: int = 3
        gate: str | None = None

    class Output(BlockOutput):
        tick: int

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        for number in range(inputs.count):
            while inputs.gate and number == inputs.count - 1 and not os.path.exists(inputs.gate):
                time.sleep(0.01)
            yield "tick", number


class Fail(Block):
    """Fails while its attempt is not above `times`."""

    id = "5ce0a001-0000-4000-8000-000000000004"
    name = "TestFail"

    class Input(_Logged):
        kind: str = "block"
        times: int = 1000

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        yield "value", "before"
        if context.attempt <= inputs.times:
            kinds = {"transient": Transient, "user": BadInput, "ZeroDivisionError": ZeroDivisionError}
            raise kinds.get(inputs.kind, RuntimeError)("it broke")
        yield "value", inputs.value


class Die(Block):
    """Kills its own process with a signal while its attempt is not above `times`."""

    id = "5ce0a001-0000-4000-8000-000000000005"
    name = "TestDie"

    class Input(_Logged):
        times: int = 1
        signal: int = signal.SIGKILL

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        if context.attempt <= inputs.times:
            os.kill(os.getpid(), inputs.signal)
        yield "value", inputs.value


class Stubborn(Block):
    """Does not let go: a loop, a regular expression that holds the interpreter, or a swallowed interruption."""

    id = "5ce0a001-0000-4000-8000-000000000006"
    name = "TestStubborn"

    class Input(_Logged):
        how: str = "loop"

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        if inputs.how == "regex":
            re.match(r"(a+)+$", "a" * 60 + "b")
        while True:
            try:
                while True:
                    pass
            except BaseException:
                if inputs.how != "swallow":
                    raise


class _Unspeakable(Exception):
    def __str__(self) -> str:
        if self.args == ("words that exit",):
            raise SystemExit(1)
        while True:
            pass


class _BrokenHandler(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("this handler breaks whoever logs")


class Lethal(Block):
    """Kills whoever finalises its run."""

    id = "5ce0a001-0000-4000-8000-000000000008"
    name = "TestLethal"
    Input = _Logged

    class Output(BlockOutput):
        value: Any

    def run(self, inputs: _Logged, context: Context) -> Iterator[tuple[str, Any]]:
        note(inputs, context)
        yield "value", 1


def _judge(plan: Any, *facts: Any) -> Any:
    if any(node.block_name == Lethal.name for node in plan.nodes):
        os.kill(os.getpid(), signal.SIGKILL)
    return verdict.judge(plan, *facts)


finalise.judge = _judge


class Odd(Block):
    """Breaks the contract of blocks in one way or another."""

    id = "5ce0a001-0000-4000-8000-000000000007"
    name = "TestOdd"

    class Input(_Logged):
        how: str

    class Output(BlockOutput):
        value: Any
        number: int

    def run(self, inputs: Input, context: Context) -> Any:
        note(inputs, context)
        if inputs.how == "coroutine":

            async def nothing() -> None:
                return None

            return nothing()
        return self._go(inputs)

    def _go(self, inputs: Input) -> Iterator[Any]:
        if inputs.how == "undeclared":
            yield "no_such_pin", 1
        elif inputs.how == "type":
            yield "number", "text"
        elif inputs.how == "not json":
            yield "value", {1, 2}
        elif inputs.how == "no pair":
            yield "value"
        elif inputs.how == "exit":
            raise SystemExit(3)
        elif inputs.how == "base":
            raise BaseException("base")
        elif inputs.how == "memory":
            yield "value", len(bytearray(10**11))
        elif inputs.how == "large":
            yield "value", "x" * (11 * 1024 * 1024)
        elif inputs.how == "fork":
            if os.fork():
                os.wait()
            yield "value", "once"
        elif inputs.how == "signals":
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            yield "value", "quiet"
        elif inputs.how in ("words that exit", "words without end"):
            raise _Unspeakable(inputs.how)
        elif inputs.how == "swallows its end":
            with contextlib.suppress(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            yield "value", "alive"
        elif inputs.how == "logging":
            logging.getLogger().addHandler(_BrokenHandler())
            yield "value", "logged"
        elif inputs.how == "nothing":
            return
        elif inputs.how == "many":
            for number in range(1_000_000):
                yield "value", number
