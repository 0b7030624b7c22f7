r"""Writes the characters of a text as escape sequences (`\n`, `\xe9`, `\u20ac`), and decodes them again.

When decoding, everything that is no escape sequence is kept, characters beyond ASCII too.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput

_ESCAPE: Final = re.compile(
    r"""\\(?: [0-7]{1,3} | x[0-9a-fA-F]{2} | u[0-9a-fA-F]{4} | U[0-9a-fA-F]{8} | N\{[A-Za-z0-9 -]{1,100}\}
        | [\\'"abfnrtv\n] | (?P<broken>[xuUN]|\Z) )""",
    re.VERBOSE,
)


class TextEncoder(Block):
    id = "5185f32e-4b65-4ecf-8fbb-873f003f09d6"
    name = "TextEncoder"
    description = "Writes line ends, tabs, backslashes and all characters beyond ASCII as escape sequences."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        text: str = Field(description="The text.")

    class Output(BlockOutput):
        encoded_text: str = Field(description="The text with escape sequences, in ASCII.")

    vectors = (
        TestVector({"text": 'a\n"b"\t\\'}, [("encoded_text", r'a\n"b"\t' + "\\\\")]),
        TestVector({"text": "é€😀"}, [("encoded_text", r"\xe9\u20ac\U0001f600")]),
        TestVector({"text": ""}, [("encoded_text", "")]),
        TestVector({}, fails="text"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "encoded_text", inputs.text.encode("unicode_escape").decode("ascii")


class TextDecoder(Block):
    id = "2570e8fe-8447-43ed-84c7-70d657923231"
    name = "TextDecoder"
    description = r"Replaces escape sequences such as \n, \" and \u20ac by the characters that they stand for."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        text: str = Field(description="The text with escape sequences.")

    class Output(BlockOutput):
        decoded_text: str = Field(description="The text.")

    vectors = (
        TestVector({"text": r"a\n\"b\"\t" + "\\\\"}, [("decoded_text", 'a\n"b"\t\\')]),
        TestVector({"text": r"é \xe9\u20ac\U0001f600\101"}, [("decoded_text", "é é€😀A")]),
        TestVector({"text": r"\ud83d\ude00 \N{BULLET}"}, [("decoded_text", "😀 •")]),
        TestVector({"text": r"\d \€"}, [("decoded_text", r"\d \€")]),
        TestVector({"text": r"a\x1"}, fails="at position 1"),
        TestVector({"text": "a\\"}, fails="at position 1"),
        TestVector({"text": r"\N{NO SUCH CHARACTER}"}, fails="at position 0"),
        TestVector({"text": r"\UFFFFFFFF"}, fails="at position 0"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        decoded = _ESCAPE.sub(_character, inputs.text)
        # JSON writes a character beyond the first 65,536 as two escapes; they become one character.
        yield "decoded_text", decoded.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _character(escape: re.Match[str]) -> str:
    try:
        if escape["broken"] is None:
            return escape[0].encode("ascii").decode("unicode_escape")
    except UnicodeDecodeError:
        pass
    raise BadInput(f"the escape sequence at position {escape.start()} is broken")
