"""Runs a user's Python code inside the sandbox and reports the value of its last expression, as a notebook does.

This file is copied into the sandbox. Paths are fixed: the code is in /code/main.py, the result goes to descriptor 3.
"""

import ast
import builtins
import contextlib
import json
import os
import sys
import traceback
import types
from typing import Any

_MOST_TEXT = 100_000
"""Characters of a value's text."""

_MOST_JSON = 500_000
"""Characters of a value as JSON. Of longer values only the text is reported."""

_PLACE = "/code/main.py"


def main() -> None:
    """Run the code. An exception prints a traceback without this file and ends with exit status 1."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=_PLACE, __builtins__=builtins)
    sys.modules["__main__"] = module
    sys.argv = [_PLACE]
    try:
        with open(_PLACE, encoding="utf-8") as file:
            tree = ast.parse(file.read(), _PLACE)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, _PLACE, "exec"), module.__dict__)  # noqa: S102 the purpose of the sandbox
        if isinstance(last, ast.Expr):
            _tell(eval(compile(ast.Expression(last.value), _PLACE, "eval"), module.__dict__))  # noqa: S307 likewise
    except SystemExit:
        raise
    except BaseException as error:
        own = error.__traceback__
        traceback.print_exception(type(error), error, own.tb_next if own else None)
        sys.exit(1)


def _tell(value: Any) -> None:
    if value is None:
        return
    told: dict[str, Any] = {"text": repr(value)[:_MOST_TEXT]}
    with contextlib.suppress(TypeError, ValueError, RecursionError):  # not JSON: only the text is reported
        written = json.dumps(value, allow_nan=False)
        if len(written) <= _MOST_JSON:
            told["json"] = json.loads(written)
    with os.fdopen(3, "w", encoding="utf-8", errors="replace", closefd=False) as result:
        json.dump(told, result)


if __name__ == "__main__":
    main()
