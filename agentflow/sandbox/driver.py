"""Runs the Python code of a user, in the sandbox, and tells the value of its last expression, as a notebook does.

This file is copied into the sandbox; it knows its places: the code in /code/main.py, the result on descriptor 3.
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
"""Characters of a value as JSON; of a longer one only the text is told."""

_PLACE = "/code/main.py"


def main() -> None:
    """Run the code; what it raises ends in a traceback without this file, and exit status 1."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=_PLACE, __builtins__=builtins)
    sys.modules["__main__"] = module
    sys.argv = [_PLACE]
    try:
        with open(_PLACE, encoding="utf-8") as file:
            tree = ast.parse(file.read(), _PLACE)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, _PLACE, "exec"), module.__dict__)  # noqa: S102 what the sandbox is for
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
    with contextlib.suppress(TypeError, ValueError, RecursionError):  # only its text, then
        written = json.dumps(value, allow_nan=False)
        if len(written) <= _MOST_JSON:
            told["json"] = json.loads(written)
    with os.fdopen(3, "w", encoding="utf-8", errors="replace", closefd=False) as result:
        json.dump(told, result)


if __name__ == "__main__":
    main()
