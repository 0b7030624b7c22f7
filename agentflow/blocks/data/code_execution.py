"""Runs a user's code, in a sandbox on the worker, and only if the operator has enabled it.

`sandbox` says what the sandbox prevents, and when it refuses to run code.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from agentflow import sandbox
from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence
from agentflow.sandbox.run import Ending, Job, Limits, run_in_sandbox
from agentflow.settings import settings

_SETUP: Final = 'bash -e /code/setup.sh && exec "$@"'

_OVER: Final = {
    "time": "the code ran longer than {0.seconds:g} s",
    "memory": "the code used more than {0.memory_bytes} bytes of memory",
    "output": "the code wrote more than {0.output_bytes} bytes",
}

_MOST_SHOWN: Final = 500
"""Characters of the last line of the code's error output that a message shows."""


class ExecuteCode(Block):
    id = "0b02b072-abe7-11ef-8372-fb5d162dd712"
    name = "ExecuteCode"
    description = (
        "Runs Python, JavaScript or shell code in a sandbox without network, and gives what it wrote and the value of "
        "its last expression. The operator must have switched it on."
    )
    categories = ("DEVELOPER_TOOLS",)
    lane = "cpu"
    depends_on = frozenset({Dependence.TIME, Dependence.CHANCE})

    class Input(BlockInput):
        code: str = Field(max_length=1_000_000, description="The code.")
        language: Literal["python", "js", "javascript", "bash", "r", "java"] = Field(
            "python", description="Its language: python, js or bash; r and java are not run here."
        )
        setup_commands: list[str] = Field([], description="Shell commands to run before, in the same sandbox.")
        timeout: float = Field(300, gt=0, le=3600, description="Seconds it may run.")

    class Output(BlockOutput):
        main_result: dict[str, Any] = Field(
            description="The value of the last expression: `text`, and `json` where it is JSON."
        )
        results: list[dict[str, Any]] = Field(description="The main result, if there is one.")
        response: str = Field(description="The text of the main result, if there is one.")
        stdout_logs: str = Field(description="What it wrote to the standard output, if anything.")
        stderr_logs: str = Field(description="What it wrote to the standard error output, if anything.")

    # Examples that need a sandbox are in the tests; these need none.
    vectors = (
        TestVector({"code": "1 + 1"}, fails="AGENTFLOW_CODE_EXECUTION=true"),
        TestVector({"code": "1", "language": "cobol"}, fails="language"),
        TestVector({"code": "1", "timeout": 0}, fails="timeout"),
        TestVector({}, fails="code"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        if not settings().code_execution:
            raise BadInput("code is not run here: the operator switches that on with AGENTFLOW_CODE_EXECUTION=true")
        job = _job(inputs)
        limits = Limits(inputs.timeout)
        if "/code/driver.js" in job.command:  # Node.js reserves a hundred times the memory that it uses
            limits = replace(limits, address_bytes=None)
        ending = run_in_sandbox(job, limits, context.stop_if_cancelled)
        result = _result(ending.result)
        if ending.exit_status == 0:
            if result:
                yield "main_result", result
            yield "results", [{**result, "is_main_result": True}] if result else []
            if result:
                yield "response", result["text"]
        for pin, output in (("stdout_logs", ending.stdout), ("stderr_logs", ending.stderr)):
            if output:
                yield pin, output.decode("utf-8", "replace")
        _check_ending(ending, limits)


def _job(inputs: ExecuteCode.Input) -> Job:
    """The command that runs the code, and the files that it needs.

    Raises:
        BadInput: there is no interpreter for the language here.
    """
    if inputs.language == "python":
        command = [os.path.realpath(sys.executable), "-I", "/code/driver.py"]
        files = {"driver.py": _own("driver.py"), "main.py": inputs.code}
    elif inputs.language in ("js", "javascript"):
        command, files = (
            [_interpreter("node"), "/code/driver.js"],
            {"driver.js": _own("driver.js"), "main.js": inputs.code},
        )
    elif inputs.language == "bash":
        command, files = [_interpreter("bash"), "/code/main.sh"], {"main.sh": inputs.code}
    else:
        raise BadInput(f"code in {inputs.language} is not run here")
    if inputs.setup_commands:
        files["setup.sh"] = "\n".join(inputs.setup_commands)
        command = [_interpreter("bash"), "-c", _SETUP, "bash", *command]
    return Job(command, files, _folders())


def _interpreter(program: str) -> str:
    """The path of an interpreter, among the programs that the sandbox shows.

    Raises:
        BadInput: it is not installed there.
    """
    place = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    if place is None:
        raise BadInput(f"{program} is not installed here")
    return place


def _own(name: str) -> str:
    return Path(sandbox.__file__).with_name(name).read_text(encoding="utf-8")


def _folders() -> list[str]:
    """Where the worker's interpreter is installed, without the packages of its virtual environment."""
    return [os.path.realpath(sys.base_prefix)]


def _result(told: bytes) -> dict[str, Any] | None:
    """The driver's report, if valid: the code may have written to the same descriptor."""
    try:
        result = json.loads(told)
    except (ValueError, RecursionError):
        return None
    if not isinstance(result, dict) or not isinstance(result.get("text"), str):
        return None
    return {name: result[name] for name in ("text", "json") if name in result}


def _check_ending(ending: Ending, limits: Limits) -> None:
    """Raises an error unless the code ended well.

    Raises:
        BadInput: the code failed, or exceeded a limit.
    """
    if ending.over:
        raise BadInput(_OVER[ending.over].format(limits))
    status = ending.exit_status
    if status:
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        lines = ending.stderr.decode("utf-8", "replace").strip().splitlines()
        last = f": {lines[-1][:_MOST_SHOWN]}" if lines else ""
        raise BadInput(f"the code failed ({how}){last}")
