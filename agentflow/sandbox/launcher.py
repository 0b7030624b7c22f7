"""Runs the process between a worker and a sandbox: makes the namespaces, maps the sandbox's user, and waits.

It is killed when the worker ends, or by its own alarm at the latest; the sandbox dies with it. Runs without
site-packages: it must import Python's library only.
"""

import fcntl
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from agentflow.sandbox import jail, kernel

_NAMESPACES = (
    kernel.NEW_USERS
    | kernel.NEW_MOUNTS
    | kernel.NEW_PROCESSES
    | kernel.NEW_NETWORK
    | kernel.NEW_IPC
    | kernel.NEW_HOST_NAME
    | kernel.NEW_CGROUPS
)

_FIRST_OWN = 10


def main() -> NoReturn:
    """Read a request from standard input and serve it."""
    request = json.load(sys.stdin)
    for name in ("status", "result"):  # moved out of the way of the code's descriptors, and closed for the code
        request[name] = fcntl.fcntl(given := request[name], fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN)
        os.close(given)
    try:
        _launch(request)
    except Exception as error:
        jail.report(request["status"], refused=jail.words(error))
    os._exit(0)


def _launch(request: Mapping[str, Any]) -> None:
    _end_with_the_worker(request)
    os.umask(0o022)
    _enter_namespaces(request["users"][1])
    launcher, held = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        try:
            jail.live(request, launcher)
        except Exception as error:
            jail.report(request["status"], refused=jail.words(error))
        finally:
            os._exit(0)
    os.waitpid(first, 0)


def _end_with_the_worker(request: Mapping[str, Any]) -> None:
    """End with the worker, and at a time that nothing in the sandbox can delay.

    Raises:
        OSError: one of these is impossible, or the worker is already gone.
    """
    kernel.die_with_parent()
    if os.getppid() != request["worker"]:
        raise OSError("the worker is gone")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.setitimer(signal.ITIMER_REAL, request["alarm_seconds"])
    if not 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= request["alarm_seconds"]:
        raise OSError("there is no clock to end the code")


def _enter_namespaces(outer: int) -> None:
    """Move into new namespaces in which `USER` is the outside user `outer`.

    Only a process outside them that may become any user can write this mapping: a child that stays behind.

    Raises:
        OSError: such namespaces are not available here, or the worker may not become another user.
    """
    moved, tell_moved = os.pipe()
    mapped, tell_mapped = os.pipe()
    launcher = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        os.close(tell_moved)  # else the child would wait for itself if the launcher ended
        _map(launcher, outer, moved, tell_mapped)
    os.close(tell_mapped)
    try:
        kernel.unshare(_NAMESPACES)
        os.write(tell_moved, b".")
        if os.read(mapped, 1) != b".":
            raise OSError("another user cannot be had: the worker needs the capabilities SETUID and SETGID")
    finally:
        os.close(tell_moved)
        os.close(mapped)
        os.waitpid(mapper, 0)


def _map(launcher: int, outer: int, moved: int, tell_mapped: int) -> NoReturn:
    try:
        if os.read(moved, 1) == b".":
            for name in ("gid", "uid"):
                with open(f"/proc/{launcher}/{name}_map", "w") as file:
                    file.write(f"{jail.USER} {outer} 1")
            os.write(tell_mapped, b".")
    finally:
        os._exit(0)
