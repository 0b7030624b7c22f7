"""Code in the sandbox does its work, and finds no way out of it: each attempt ends clean, and nothing is left."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agentflow.blocks import registry
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput, Interrupted
from agentflow.sandbox import barrier, checks, run
from agentflow.sandbox.run import Ending, Job, Limits, Refused, run_in_sandbox
from agentflow.settings import settings

SECONDS = 20.0


def in_sandbox(code: str, **limits: Any) -> Ending:
    """Python code on its own, without the block."""
    command = [os.path.realpath(sys.executable), "-I", "/code/main.py"]
    folders = [os.path.realpath(sys.base_prefix)]
    job = Job(command, {"main.py": code}, folders)
    return run_in_sandbox(job, Limits(**{"seconds": SECONDS, **limits}), lambda: None)


def _why_not() -> str:
    try:
        in_sandbox("")
    except Refused as error:
        return error.message
    return ""


WHY_NOT = _why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator has switched it on."""
    monkeypatch.setenv("AGENTFLOW_CODE_EXECUTION", "true")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _nothing_is_left(eventually: Callable[..., None]) -> Iterator[None]:
    """No process of a sandbox outlives its test."""
    yield
    eventually(lambda: not _sandboxed())


def _sandboxed() -> list[str]:
    """The processes that run as a sandbox's user, or were started as its launcher by us."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            uid = int(status.split("Uid:")[1].split()[0])
            ours = f"PPid:\t{os.getpid()}\n" in status and "sandbox.launcher" in command
            if uid in run._USERS or ours:
                found.append(f"{entry.name} {command}")
    return found


def execute(code: str, language: str = "python", **inputs: Any) -> dict[str, Any]:
    inputs = {"code": code, "language": language, "timeout": SECONDS, **inputs}
    return dict(collect(registry.by_name("ExecuteCode"), inputs))


# What it is for


@pytest.mark.usefixtures("allowed")
def test_the_value_of_the_last_expression_is_the_result() -> None:
    told = execute("import sys\nprint('out')\nprint('err', file=sys.stderr)\nx = {'a': [1, 'ü']}\nx")
    result = {"text": "{'a': [1, 'ü']}", "json": {"a": [1, "ü"]}}
    assert told == {
        "main_result": result,
        "results": [{**result, "is_main_result": True}],
        "response": "{'a': [1, 'ü']}",
        "stdout_logs": "out\n",
        "stderr_logs": "err\n",
    }


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1", {"results": []}),
        ("", {"results": []}),
        ("None", {"results": []}),
        ("print('only this')", {"results": [], "stdout_logs": "only this\n"}),
        ("class A:\n  def __repr__(self): return 'an A'\nA()", {"text": "an A"}),
        ("if __name__ == '__main__': print('main')", {"results": [], "stdout_logs": "main\n"}),
        ("import json, sqlite3, ssl\nfloat('nan')", {"text": "nan"}),
        ("'x' * 600_000", {"text": "'" + "x" * 99_999}),
        ("import os\nos.write(3, b'junk')\n1", {"results": []}),
    ],
)
def test_python_runs_as_in_a_notebook(code: str, told: dict[str, Any]) -> None:
    if "text" in told:
        result = {"text": told["text"]}
        told = {"main_result": result, "results": [{**result, "is_main_result": True}], "response": told["text"]}
    assert execute(code) == told


@pytest.mark.usefixtures("allowed")
def test_a_shell_runs_after_its_setup() -> None:
    told = execute("echo $X; cat made; exit 0", "bash", setup_commands=["echo one > made", "echo two >> made"])
    assert told == {"results": [], "stdout_logs": "\none\ntwo\n"}


@pytest.mark.usefixtures("allowed")
@pytest.mark.skipif(shutil.which("node", path="/usr/local/bin:/usr/bin:/bin") is None, reason="no Node.js here")
@pytest.mark.parametrize("language", ["js", "javascript"])
def test_javascript_runs_as_in_a_notebook(language: str) -> None:
    told = execute("console.log('out'); const fs = require('fs'); Promise.resolve({a: [1, 'ü']})", language)
    assert told["main_result"] == {"text": "{ a: [ 1, 'ü' ] }", "json": {"a": [1, "ü"]}}
    assert told["stdout_logs"] == "out\n"
    with pytest.raises(BadInput, match=r"the code failed \(exit status 1\)"):
        execute("throw new Error('no')", language)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("code", "language", "message"),
    [
        ("1 / 0", "python", r"exit status 1\): ZeroDivisionError: division by zero"),
        ("def f(:", "python", r"exit status 1\): SyntaxError"),
        ("import sys; sys.exit(7)", "python", r"exit status 7\)"),
        ("import os; os.kill(os.getpid(), 9)", "python", r"signal 9\)"),
        ("nothing_of_this_name", "bash", "exit status 127"),
        ("1", "java", "java is not run here"),
    ],
)
def test_code_that_fails_says_how(code: str, language: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        execute(code, language)


@pytest.mark.usefixtures("allowed")
def test_what_failing_code_wrote_is_given_out_before_it_fails() -> None:
    block = registry.by_name("ExecuteCode")
    running = block.run(block.parse({"code": "print('so far')\n1 / 0"}), trial_context())
    assert next(running) == ("stdout_logs", "so far\n")
    pin, traceback = next(running)
    assert (pin, "driver" in traceback) == ("stderr_logs", False)
    with pytest.raises(BadInput, match="ZeroDivisionError"):
        next(running)


# What it keeps out


def works(code: str, **limits: Any) -> str:
    """What the code printed, having ended well."""
    ending = in_sandbox(code, **limits)
    assert ending.exit_status == 0, ending
    return ending.stdout.decode()


TRY = """
def tried(act):
    try:
        act()
    except OSError as error:
        print(type(error).__name__, error.errno)
    else:
        print("IT WORKED")
"""


def test_there_is_no_network() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    code = f"""{TRY}
import socket
tried(lambda: socket.create_connection(("127.0.0.1", {port}), 2))
tried(lambda: socket.create_connection(("1.1.1.1", 53), 2))
tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53)))
tried(lambda: socket.create_connection(("::1", {port}), 2))
tried(lambda: socket.getaddrinfo("localhost.invalid", 80))
tried(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
print([name for _, name in socket.if_nameindex()] if hasattr(socket, "nothing") else "done")
"""
    try:
        printed = works(code)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    finally:
        listener.close()
    assert "IT WORKED" not in printed
    assert printed.endswith("done\n")
    assert printed.count("\n") == 9


def test_abstract_sockets_of_the_machine_are_out_of_reach() -> None:
    name = f"\0agentflow-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        printed = works(f"{TRY}\nimport socket\ntried(lambda: socket.socket(socket.AF_UNIX).connect({name!r}))")
    assert printed == "ConnectionRefusedError 111\n"


def test_the_workers_secrets_are_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "b5e1c1d0-very-secret"
    monkeypatch.setenv("AGENTFLOW_CREDENTIALS_TEST", secret)
    kept = tmp_path / "stack.json"
    kept.write_text(secret)
    kept.chmod(0o644)
    code = f"""
import os
found = []
def look(path):
    try:
        with open(path, "rb") as file:
            if {secret.encode()!r} in file.read(1_000_000):
                found.append(path)
    except OSError:
        pass
for pid in os.listdir("/proc"):
    if pid.isdigit():
        for name in ("environ", "cmdline", "maps", "mem"):
            look(f"/proc/{{pid}}/{{name}}")
        for place in ("root", "cwd", "fd"):
            try:
                print(pid, place, sorted(os.listdir(f"/proc/{{pid}}/{{place}}"))[:3])
            except OSError:
                pass
look({str(kept)!r})
look("/proc/{os.getpid()}/environ")
print("environment", sorted(os.environ))
there = [os.path.exists(path) for path in ({str(tmp_path)!r}, "/etc/passwd", "/proc/{os.getpid()}")]
print("found", found, *there)
print("pids", sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()))
"""
    printed = works(code)
    assert "found [] False False" in printed
    assert "environment ['HOME', 'LANG', 'PATH']" in printed
    assert "pids [1, 2]" in printed
    assert not [line for line in printed.splitlines() if line.startswith("1 ")], "the first process can be looked into"


def test_only_the_empty_temporary_folder_can_be_written_to() -> None:
    mine = f"/tmp/{uuid4()}"  # whatever else this machine has there
    code = f"""{TRY}
import os
print(os.getcwd(), os.listdir("/tmp"))
for folder, _, _ in list(os.walk("/", onerror=lambda error: None)):
    if folder.startswith("/proc/") or folder == "/tmp":
        continue
    try:
        with open(os.path.join(folder, "trial"), "w"):
            print("IT WORKED", folder)
    except OSError:
        pass
for place in ("/code/main.py", "/proc/self/oom_score_adj", "/proc/sys/user/max_user_namespaces"):
    tried(lambda: open(place, "w").write("1"))
open("{mine}", "w").write("x")
os.mkdir("/tmp/folder")
print("done")
"""
    printed = works(code)
    assert "IT WORKED" not in printed
    assert printed.startswith("/tmp []\n")
    assert printed.endswith("done\n")
    assert not Path(mine).exists()


@pytest.mark.parametrize(
    "call",
    [
        "libc.unshare(0x10000000)",  # a user namespace
        "libc.unshare(0x40000000)",  # a network namespace
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "libc.umount2(b'/proc', 2)",
        "libc.chroot(b'/tmp')",
        "libc.setns(os.open('/proc/self/ns/net', os.O_RDONLY), 0)",
        "libc.ptrace(16, 1, 0, 0)",  # attach to the first process
        "libc.syscall(319, b'x', 0)",  # memfd_create: memory that no limit counts
        "libc.shmget(0, 4096, 0o1600)",
        "libc.syscall(425, 8, b'x' * 120)",  # io_uring_setup
        "libc.syscall(250, 1, 0)",  # keyctl
        "libc.setuid(0)",
        "libc.setgroups(1, (ctypes.c_uint * 1)(0))",
        "libc.kill(1, 9) or -1",  # no error, and nothing happens
        "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",  # clone into a user namespace
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls by number")
def test_nothing_can_be_gained_or_undone(call: str) -> None:
    code = f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nprint({call}, ctypes.get_errno() != 0)"
    ending = in_sandbox(code)
    assert ending.exit_status == 0, ending
    assert ending.stdout.startswith(b"-1 "), ending


def test_a_call_in_another_machines_numbering_ends_the_process() -> None:
    code = "import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)\nprint('on')"
    ending = in_sandbox(code)
    assert (ending.exit_status, ending.stdout) == (-signal.SIGSYS, b"")


def test_programs_that_change_the_user_gain_nothing() -> None:
    code = "import subprocess\nprint(subprocess.run(['/bin/su', '-c', 'id'], capture_output=True).returncode != 0)"
    assert works(code) == "True\n"


# What it may use


def ended(code: str, **limits: Any) -> tuple[Ending, float]:
    began = time.monotonic()
    return in_sandbox(code, **limits), time.monotonic() - began


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import signal, time\nfor n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nwhile True: time.sleep(1)",
        "import os, time\nos.fork() or os.setsid()\nos.close(1), os.close(2), os.close(3)\ntime.sleep(1000)",
    ],
)
def test_time_is_limited(code: str) -> None:
    ending, seconds = ended(code, seconds=0.5)
    assert (ending.exit_status, ending.over) == (None, "time")
    assert seconds < 5


def test_what_the_code_leaves_behind_ends_with_it() -> None:
    ending, seconds = ended("import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(1000)\nprint('done')")
    assert (ending.exit_status, ending.stdout) == (0, b"done\n")
    assert seconds < 5


def test_a_fork_bomb_runs_into_its_bound() -> None:
    code = "import os, time\nwhile True:\n  try: os.fork()\n  except OSError: time.sleep(0.05)"
    ending, seconds = ended(code, seconds=1.5, processes=32)
    assert ending.over == "time"
    assert seconds < 8


def test_the_number_of_processes_is_bounded() -> None:
    code = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError as error:
    print(count, error.errno)
"""
    count, number = works(code, processes=20).split()
    assert int(count) < 20
    assert number == "11"


def test_the_memory_of_a_process_is_limited() -> None:
    code = "try:\n  x = bytearray(10**9)\nexcept MemoryError:\n  print('no')"
    assert works(code, address_bytes=300 * 2**20) == "no\n"


def test_the_memory_of_all_processes_together_is_limited() -> None:
    code = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        x = bytearray(60 * 2**20)
        for at in range(0, len(x), 4096):
            x[at] = 1
        time.sleep(1000)
time.sleep(1000)
"""
    ending, seconds = ended(code, memory_bytes=200 * 2**20)
    assert ending.over == "memory"
    assert seconds < 15


@pytest.mark.parametrize("stream", [1, 2, 3])
def test_output_is_limited(stream: int) -> None:
    ending, seconds = ended(f"import os\nwhile True: os.write({stream}, b'x' * 65536)", output_bytes=100_000)
    assert ending.over == "output"
    assert len((ending.stdout, ending.stderr, ending.result)[stream - 1]) == 100_000
    assert seconds < 5


def test_files_are_limited() -> None:
    code = f"""{TRY}
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(name, size):
    with open(name, "wb", buffering=0) as file:
        for _ in range(size):
            if file.write(bytes(2**20)) < 2**20:
                raise OSError(28, "short")
tried(lambda: fill("one", 20))
tried(lambda: [open(f"f{{n}}", "w").close() for n in range(1000)])
files = []
tried(lambda: [files.append(open("/dev/null")) for n in range(1000)])
"""
    printed = works(code, disk_bytes=8 * 2**20, disk_files=100, files=64)
    assert "IT WORKED" not in printed
    assert printed.count("OSError") == 3


def test_a_stopped_run_ends_the_sandbox() -> None:
    began = time.monotonic()
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()

    def stop_if_cancelled() -> None:
        if stop.is_set():
            raise Interrupted

    with pytest.raises(Interrupted):
        run_in_sandbox(Job(["/bin/sleep", "1000"]), Limits(SECONDS), stop_if_cancelled)
    assert time.monotonic() - began < 5


def test_the_sandbox_ends_with_its_worker(eventually: Callable[..., None]) -> None:
    program = (
        "from agentflow.sandbox.run import Job, Limits, run_in_sandbox\n"
        "run_in_sandbox(Job(['/bin/sleep', '1000']), Limits(1000), lambda: print('on', flush=True))"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    with worker.stdout:
        eventually(lambda: worker.stdout.readline() and [line for line in _sandboxed() if "sleep" in line])
        worker.kill()
        worker.wait()
    eventually(lambda: not _sandboxed())


# When it refuses


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"outside": "net"}, "no namespace of its own: net"),
        ({"outside": "user"}, "no namespace of its own: user"),
        ({"outside": "pid"}, "no namespace of its own: pid"),
        ({"limits": {"RLIMIT_CPU": -5}}, "RLIMIT_CPU|argument"),
        ({"users": 0}, "uid is not one of its own|another user cannot be had|Operation not permitted"),
        ({"alarm_seconds": 0}, "no clock"),
        ({"worker": 1}, "the worker is gone"),
        ({"folders": ["/nowhere"], "command": ["/nowhere/at/all"]}, "No such file"),
    ],
)
def test_what_does_not_hold_is_a_refusal(monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any], message: str) -> None:
    """The request is bent so that the sandbox would not hold as it should."""
    whole = run._request

    def bent(*args: Any) -> dict[str, Any]:
        request = whole(*args)
        if "outside" in broken:  # where the sandbox has it in truth: any text that it finds there
            name = broken["outside"]
            request["outside"] = dict(request["outside"])
            monkeypatch.setattr(run, "_START", f"import sys; sys.path.append(sys.argv[1]); {_share(name)}main()")
            return request
        if "users" in broken:
            return request | {"users": [0, broken["users"]]}
        return request | broken

    monkeypatch.setattr(run, "_request", bent)
    with pytest.raises(Refused, match=message):
        in_sandbox("print('ran')")


def _share(name: str) -> str:
    """A launcher whose sandbox looks, to the checks, as if it shared a namespace with the worker."""
    return (
        "from agentflow.sandbox import checks; from agentflow.sandbox.launcher import main; "
        f"own = checks.namespaces; outer = own()[{name!r}]; checks.namespaces = lambda: own() | {{{name!r}: outer}}; "
    )


def test_a_machine_whose_calls_are_not_known_is_a_refusal() -> None:
    with pytest.raises(OSError, match="no filter is known for m68k"):
        barrier.program("m68k")
    assert len(barrier.program("x86_64")) == len(barrier.program("aarch64"))


def test_the_numbers_of_the_system_calls_are_the_kernels() -> None:
    for path, column in (
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0),
        ("/usr/include/asm-generic/unistd.h", 1),
    ):
        if not Path(path).is_file():
            pytest.skip("the kernel's headers are not installed")
        lines = [line.split() for line in Path(path).read_text().splitlines() if line.startswith("#define __NR")]
        known = {line[1].removeprefix("__NR3264_").removeprefix("__NR_"): line[2] for line in lines if len(line) > 2}
        for name, numbers in barrier._DENIED.items():
            assert known.get(name, str(numbers[column])) == str(numbers[column]), name


def test_this_process_is_not_taken_for_a_sandbox() -> None:
    own = checks.namespaces()
    found = checks.problems(own, 1000, (os.geteuid(), 60_600), Limits(1).of_processes(), (0, 1, 2))
    text = "; ".join(found)
    for name in checks.NAMESPACES:
        assert f"no namespace of its own: {name}" in text
    for part in ("the uid is not", "the gid is not", "is up", "there are capabilities", "privileges can be gained",
                 "not filtered", "/ can be written to", "no limit RLIMIT_AS"):  # fmt: skip
        assert part in text


def test_nothing_is_run_where_it_is_not_switched_on() -> None:
    with pytest.raises(BadInput, match="AGENTFLOW_CODE_EXECUTION=true"):
        execute("print('ran')")
