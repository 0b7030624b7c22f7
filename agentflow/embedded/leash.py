"""Launches a child process that ends with its parent, and under another uid if we are root.

It is started as `python -I -S leash.py --parent PID --signal N [--uid N --gid N] -- command argument…`, sets up its own
process, then executes the command. It must import only the standard library: for speed, and because it may run as a
user without access to other packages.

- Ending with its parent: Linux sends the process signal N when the thread that started it ends, even by kill -9. On
  other systems the next start finds and stops what was left (`roster.py`).
- If we are root: PostgreSQL refuses to run as root, but its files lie where only root has access (a data directory of
  mode 0700). So it runs under a uid without an account, and keeps one capability of root: to bypass file permissions.
  No account is created, and no directory is opened to others.
"""

import argparse
import ctypes
import os
import signal
import sys

# From linux/prctl.h, linux/securebits.h and linux/capability.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def main() -> None:
    options, command = _arguments(sys.argv[1:])
    linux = sys.platform == "linux"
    if options.uid is not None:
        _become(options.uid, options.gid, keep_reach=linux)
    if linux:
        # After the change of user, which would reset it.
        _prctl(_PR_SET_PDEATHSIG, options.signal)
        if os.getppid() != options.parent:  # the parent died before the call
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 -- this is its purpose


def _arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    split = argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    return parser.parse_args(argv[:split]), argv[split + 1 :]


def _become(uid: int, gid: int, *, keep_reach: bool) -> None:
    """Switch to that user and group permanently; on Linux keep the capability to bypass file permissions."""
    if keep_reach:
        _prctl(_PR_SET_KEEPCAPS, 1)
        # Without this, access(2), with which PostgreSQL looks for its programs, would ignore the capability.
        # If it is not allowed, continue: it matters only for programs in a folder without access for others.
        _libc().prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(_SECBIT_NO_SETUID_FIXUP), *[ctypes.c_ulong(0)] * 3)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keep_reach:
        bit = 1 << _CAP_DAC_OVERRIDE
        sets = (_Sets * 2)(_Sets(bit, bit, bit), _Sets(0, 0, 0))
        header = _Header(_CAPABILITY_VERSION_3, 0)
        if _libc().capset(ctypes.byref(header), sets) != 0:
            _give_up("capset")
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc().prctl(ctypes.c_int(option), *padded) != 0:
        _give_up(f"prctl {option}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _give_up(what: str) -> None:
    sys.exit(
        f"{what}: {os.strerror(ctypes.get_errno())}. This root may not hand its rights on (a container without "
        "capabilities?): run AgentFlow as an ordinary user, or set AGENTFLOW_DATABASE_URL to a PostgreSQL server."
    )


if __name__ == "__main__":
    main()
