"""Makes the Linux calls that Python's library lacks; each raises OSError with a message that says what was tried.

Runs in the launcher: it must import Python's library only.
"""

import ctypes
import os
import signal
import struct
from typing import Final

NEW_MOUNTS: Final = 0x0002_0000
NEW_CGROUPS: Final = 0x0200_0000
NEW_HOST_NAME: Final = 0x0400_0000
NEW_IPC: Final = 0x0800_0000
NEW_USERS: Final = 0x1000_0000
NEW_PROCESSES: Final = 0x2000_0000
NEW_NETWORK: Final = 0x4000_0000

NO_SUID: Final = 2
NO_DEVICES: Final = 4
NO_EXEC: Final = 8
_BIND: Final = 0x1000
_PRIVATE: Final = 0x4_0000
_RECURSIVE: Final = 0x4000
_DETACH: Final = 2

_MOUNT_SETATTR: Final = 442  # the same on every architecture; since Linux 5.12
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_ATTR_READ_ONLY: Final = 1

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_FILTER: Final = 2
_CAPABILITY_VERSION: Final = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def unshare(flags: int) -> None:
    """Move this process into new namespaces. A new process namespace applies to its children only."""
    _checked("new namespaces", _libc.unshare(ctypes.c_int(flags)))


def make_mounts_private() -> None:
    """Stop mounts from propagating between this namespace and others, in both directions."""
    _checked("private mounts", _libc.mount(b"none", b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None))


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Mount a new file system of `kind`."""
    done = _libc.mount(b"none", os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _checked(f"mounting {kind} on {target}", done)


def bind(source: int, target: str) -> None:
    """Bind what the descriptor `source` refers to, with all mounts below it, to `target`."""
    path = f"/proc/self/fd/{source}".encode()
    done = _libc.mount(path, os.fsencode(target), None, ctypes.c_ulong(_BIND | _RECURSIVE), None)
    _checked(f"binding {target}", done)


def restrict(target: str, flags: int, *, recursive: bool = True) -> None:
    """Make a mount read-only and add `flags` (NO_SUID, …)."""
    attributes = struct.pack("=QQQQ", _ATTR_READ_ONLY | flags, 0, 0, 0)
    done = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )
    _checked(f"making {target} read-only", done)


def enter_root(folder: str) -> None:
    """Make `folder`, a mount, the root of this mount namespace, and detach the old root."""
    os.chdir(folder)
    _checked("changing the root", _libc.pivot_root(b".", b"."))
    _checked("letting go of the old root", _libc.umount2(b".", ctypes.c_int(_DETACH)))
    os.chdir("/")


def die_with_parent() -> None:
    """Have this process killed when its parent ends. A change of user undoes this."""
    _prctl("dying with the parent", _PR_SET_PDEATHSIG, signal.SIGKILL)


def keep_capabilities() -> None:
    """Keep capabilities across a change of user."""
    _prctl("keeping capabilities", _PR_SET_KEEPCAPS, 1)


def drop_capabilities() -> None:
    """Give up every capability, for this process and all its children."""
    _prctl("dropping capabilities", _PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    for number in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), *_zeros(3)) != 0:
            break  # the kernel knows no higher number; `checks` verifies that none is left
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _checked("dropping capabilities", _libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))))


def forbid_new_privileges() -> None:
    """Prevent this process and its children from gaining privileges by starting programs."""
    _prctl("forbidding new privileges", _PR_SET_NO_NEW_PRIVS, 1)


def filter_calls(instructions: bytes) -> None:
    """Have the kernel run the filter `instructions` (8 bytes each) on every further system call."""
    program = _Program(len(instructions) // 8, instructions)
    done = _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_FILTER), ctypes.byref(program), *_zeros(2))
    _checked("filtering system calls", done)


def _prctl(what: str, option: int, argument: int) -> None:
    _checked(what, _libc.prctl(option, ctypes.c_ulong(argument), *_zeros(3)))


def _zeros(count: int) -> list[ctypes.c_ulong]:
    return [ctypes.c_ulong(0)] * count


def _checked(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
