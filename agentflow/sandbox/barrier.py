"""Builds the seccomp filter: the program with which the kernel decides each system call of code in the sandbox.

Refused are calls for administration or for inspecting other processes, calls that keep memory where no limit counts it
(memory files, System V and POSIX queues), calls with a history of holes (io_uring, bpf, userfaultfd), and sockets of
families that a network namespace does not confine (vsock reaches the machine's host). A refused call fails with EPERM.
A call numbered for another architecture kills the process.

Runs in the launcher: it must import Python's library only.
"""

import errno
import os
import struct
from typing import Final

_DENIED: Final = {
    # name: (number on x86_64, number on aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}

_MACHINES: Final = {
    # name: (column above, the kernel's name for it (AUDIT_ARCH_…), the number of `socket`)
    "x86_64": (0, 0xC000_003E, 41),
    "aarch64": (1, 0xC000_00B7, 198),
}

_FAMILIES: Final = (1, 2, 10)
"""Unix, IPv4, IPv6: the namespace confines them, and programs expect them to exist."""

_FIRST_X32: Final = 0x4000_0000  # from here on, the x32 numbering on x86_64

_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_REFUSE: Final = 0x0005_0000


def program(machine: str | None = None) -> bytes:
    """The filter for a machine (named as in `uname`; None: this one), for `kernel.filter_calls`.

    Raises:
        OSError: this machine's system calls are not known.
    """
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"filtering system calls: no filter is known for {machine}")
    column, architecture, socket = _MACHINES[machine]
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
        _line(_AT_LEAST, _FIRST_X32, 0, 1),
        _line(_RETURN, _KILL),
    ]
    for numbers in _DENIED.values():
        lines += [_line(_EQUAL, numbers[column], 0, 1), _line(_RETURN, _REFUSE | errno.EPERM)]
    lines += [_line(_EQUAL, socket, 1, 0), _line(_RETURN, _ALLOW), _line(_LOAD, _FIRST_ARGUMENT)]
    for family in _FAMILIES:
        lines += [_line(_EQUAL, family, 0, 1), _line(_RETURN, _ALLOW)]
    return b"".join([*lines, _line(_RETURN, _REFUSE | errno.EAFNOSUPPORT)])


def _line(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """One instruction. `if_so` and `if_not`: how many instructions to skip after a comparison."""
    return struct.pack("=HBBI", code, if_so, if_not, value)
