"""Verifies from within that the sandbox holds, before the first line of the code runs.

Each check inspects the actual state, not what was requested. Runs in the sandbox: it must import Python's library only.
"""

import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

NAMESPACES: Final = ("user", "net", "mnt", "pid", "ipc", "uts")

WRITABLE: Final = "/tmp"  # noqa: S108 the sandbox's own
"""The only folder in which the code may write."""

_GET_FLAGS: Final = 0x8913  # SIOCGIFFLAGS
_UP: Final = 1  # IFF_UP


def namespaces() -> dict[str, str]:
    """The namespaces of this process: name → the kernel's text for it."""
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}


def problems(
    outside: Mapping[str, str], user: int, outer: Sequence[int], limits: Mapping[str, int], open_files: Sequence[int]
) -> list[str]:
    """The properties that do not hold; empty if all do.

    Args:
        outside: the worker's namespaces.
        user: the user's number inside.
        outer: the numbers of the worker's user and of the sandbox's user, as seen from outside.
        limits: name of a limit in `resource` → its highest allowed value.
        open_files: the descriptors that the code may inherit.
    """
    found = [*_shared(outside), *_users(user, outer), *_network(), *_privileges(), *_files(open_files)]
    return found + [f"there is no limit {name}" for name, value in limits.items() if not _limited(name, value)]


def _shared(outside: Mapping[str, str]) -> Iterator[str]:
    own = namespaces()
    for name in NAMESPACES:
        if own[name] == outside[name]:
            yield f"there is no namespace of its own: {name}"
    if os.getppid() != 1:
        yield "the process is not in a process namespace of its own"
    if Path("/proc/sys/user/max_user_namespaces").read_text().strip() != "0":
        yield "further user namespaces can be made"


def _users(user: int, outer: Sequence[int]) -> Iterator[str]:
    workers, mapped = outer
    for name, numbers in (("uid", os.getresuid()), ("gid", os.getresgid())):
        mapping = Path(f"/proc/self/{name}_map").read_text().split()
        if mapping != [str(user), str(mapped), "1"] or mapped in (0, workers) or set(numbers) != {user}:
            yield f"the {name} is not one of its own"
    if os.getgroups() not in ([], [user]):
        yield "there are further groups"


def _network() -> Iterator[str]:
    names = {line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}
    if names - {"lo"}:
        yield f"there are network interfaces: {', '.join(sorted(names))}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for name in names:
            answer = fcntl.ioctl(asking, _GET_FLAGS, struct.pack("16s24x", name.encode()))
            if struct.unpack_from("H", answer, 16)[0] & _UP:
                yield f"the network interface {name} is up"


def _privileges() -> Iterator[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(status[name], 16):
            yield f"there are capabilities ({name})"
    if status["NoNewPrivs"] != "1":
        yield "privileges can be gained"
    if status["Seccomp"] != "2":
        yield "system calls are not filtered"


def _files(open_files: Sequence[int]) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, _, options, *_ = line.split(" ")
        if place != WRITABLE and "ro" not in options.split(","):
            yield f"{place} can be written to"
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            inherited = os.get_inheritable(number)
        except OSError:
            continue  # the descriptor of the listing itself, closed by now
        if inherited and number not in open_files:
            yield f"descriptor {number} is open"


def _limited(name: str, value: int) -> bool:
    return all(0 <= limit <= value for limit in resource.getrlimit(getattr(resource, name)))
