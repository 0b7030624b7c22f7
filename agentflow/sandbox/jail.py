"""Runs the first process of a sandbox: builds the file system, starts the code, and watches it.

This process keeps its capabilities in the sandbox's user namespace (it has none outside), so that the code cannot trace
it. As the first process of its namespace it gets no signals from within, and when it ends, all other processes end.
Runs without site-packages: it must import Python's library only.
"""

import json
import os
import resource
import select
import signal
import socket
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from agentflow.sandbox import barrier, checks, kernel

USER = 1000
"""The number of the user and of the group inside."""

RESULT = 3
"""The descriptor to which the code may write a result."""

_OPEN = (0, 1, 2, RESULT)  # the code's descriptors: empty input, two outputs, result
_DEVICES = ("null", "zero", "full", "random", "urandom")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_WATCH_SECONDS = 0.02
_PAGE = resource.getpagesize()


def report(status: int, **facts: Any) -> None:
    """Report facts to the worker, unless it is gone."""
    with suppress(BrokenPipeError):
        os.write(status, json.dumps(facts).encode() + b"\n")


def words(error: Exception) -> str:
    """The message of an error, for a person."""
    return error.strerror or str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def live(request: Mapping[str, Any], launcher: int) -> None:
    """Be the first process of the sandbox, from start to end.

    Args:
        request: see `run`.
        launcher: a pipe whose other end only the launcher holds.

    Raises:
        OSError: the sandbox cannot be built; the message says what failed.
    """
    sources = _open_sources(request)
    kernel.keep_capabilities()
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    kernel.die_with_parent()
    if _is_closed(launcher):
        os._exit(1)
    _build(request, sources)
    code = os.fork()
    if code == 0:
        _become_the_code(request)
    _watch(request, code)


def _open_sources(request: Mapping[str, Any]) -> dict[str, int | str]:
    """What the sandbox shows of the machine: path → descriptor, or the target of a link.

    Opened while this process still has the worker's user, because the interpreter may be in a closed folder.
    """
    found: dict[str, int | str] = {}
    for place in (*_SYSTEM, *request["folders"], *(f"/dev/{name}" for name in _DEVICES)):
        with suppress(FileNotFoundError):
            found[place] = os.readlink(place) if os.path.islink(place) else os.open(place, os.O_PATH | os.O_CLOEXEC)
    return found


def _build(request: Mapping[str, Any], sources: Mapping[str, int | str]) -> None:
    socket.sethostname("sandbox")
    kernel.make_mounts_private()
    root = checks.WRITABLE  # any folder will do: it is covered in this namespace only
    no_devices = kernel.NO_SUID | kernel.NO_DEVICES
    kernel.mount("tmpfs", root, no_devices, "mode=0755,size=16m,nr_inodes=4k")
    for place, source in sources.items():
        _show(root + place, source, devices=place.startswith("/dev/"))
    for folder in ("/proc", checks.WRITABLE, "/code"):
        os.mkdir(root + folder)
    for name, text in request["files"].items():
        Path(root, "code", name).write_bytes(text.encode("utf-8", "surrogatepass"))
    kernel.mount("proc", f"{root}/proc", no_devices | kernel.NO_EXEC)
    size = f"mode=0700,size={request['disk_bytes']},nr_inodes={request['disk_files']}"
    kernel.mount("tmpfs", root + checks.WRITABLE, no_devices, size)
    kernel.enter_root(root)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    kernel.restrict("/", no_devices, recursive=False)
    kernel.restrict("/proc", no_devices | kernel.NO_EXEC)


def _show(target: str, source: int | str, *, devices: bool) -> None:
    if os.path.lexists(target):
        return  # inside a folder that is shown already
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if isinstance(source, str):
        os.symlink(source, target)
        return
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.bind(source, target)
    os.close(source)
    kernel.restrict(target, kernel.NO_SUID | (kernel.NO_EXEC if devices else kernel.NO_DEVICES))


def _become_the_code(request: Mapping[str, Any]) -> NoReturn:
    """Give up all privileges, verify that they are gone, and start the code. A refusal is reported."""
    status = request["status"]
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(request["result"], RESULT)
        os.chdir(checks.WRITABLE)
        for name, most in request["limits"].items():
            _limit(getattr(resource, name), most)
        kernel.drop_capabilities()
        kernel.forbid_new_privileges()
        kernel.filter_calls(barrier.program())
        problems = checks.problems(request["outside"], USER, request["users"], request["limits"], _OPEN)
        if problems:
            report(status, refused="; ".join(problems))
            os._exit(1)
        report(status, ready=True)
        os.execve(request["command"][0], request["command"], request["environment"])  # noqa: S606 no shell is wanted
    except Exception as error:
        report(status, refused=words(error))
    finally:
        os._exit(1)


def _limit(which: int, most: int) -> None:
    """Sets a limit. A lower one stays, because only a privileged process could raise it."""
    _, hard = resource.getrlimit(which)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (lowest, lowest))


def _watch(request: Mapping[str, Any], code: int) -> None:
    """Wait for the code to end, reaping orphans. End it at its limits of time and memory."""
    deadline = time.monotonic() + request["seconds"]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        ended = _reap(code)
        if ended is not None:
            report(request["status"], ended=ended)
            return
        if time.monotonic() >= deadline:
            report(request["status"], over="time")
            return
        if _memory() > request["memory_bytes"]:
            report(request["status"], over="memory")
            return
        signal.sigtimedwait([signal.SIGCHLD], _WATCH_SECONDS)


def _reap(code: int) -> int | None:
    """The code's exit status, negative for a signal; None while it runs."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == code:
            return os.waitstatus_to_exitcode(status)
        if pid == 0:
            return None


def _memory() -> int:
    """Bytes of memory that the sandbox's processes do not share with others."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            with suppress(OSError, IndexError, ValueError):
                _, resident, shared, *_ = Path("/proc", name, "statm").read_text().split()
                total += (int(resident) - int(shared)) * _PAGE
    return total


def _is_closed(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))
