"""Extracts code from a text in which a language model wrote it, in fences of three backticks."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector

_NAMES: Final = {
    "html": ("html", "htm"),
    "css": ("css",),
    "javascript": ("javascript", "js"),
    "python": ("python", "py"),
    "sql": ("sql",),
    "java": ("java",),
    "cpp": ("cpp", "c++"),
    "csharp": ("csharp", "c#", "cs"),
    "json_code": ("json",),
    "bash": ("bash", "shell", "sh"),
    "php": ("php",),
    "ruby": ("ruby", "rb"),
    "yaml": ("yaml", "yml"),
    "markdown": ("markdown", "md"),
    "typescript": ("typescript", "ts"),
    "xml": ("xml",),
}
"""Pin → language names after the fence, in the order of the outputs."""

_PINS: Final = {name: pin for pin, names in _NAMES.items() for name in names}
_LONGEST_NAME: Final = 20


class CodeExtraction(Block):
    id = "d3a7d896-3b78-4f44-8b4b-48fbf4f0bcd8"
    name = "CodeExtraction"
    description = "Takes the fenced code out of a text, each language along its own output."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        text: str = Field(description="The text, with code such as ```python … ``` in it.")

    class Output(BlockOutput):
        html: str = Field(description="HTML code; several pieces with an empty line between them, as everywhere.")
        css: str = Field(description="CSS code.")
        javascript: str = Field(description="JavaScript code.")
        python: str = Field(description="Python code.")
        sql: str = Field(description="SQL code.")
        java: str = Field(description="Java code.")
        cpp: str = Field(description="C++ code.")
        csharp: str = Field(description="C# code.")
        json_code: str = Field(description="JSON.")
        bash: str = Field(description="Shell code.")
        php: str = Field(description="PHP code.")
        ruby: str = Field(description="Ruby code.")
        yaml: str = Field(description="YAML.")
        markdown: str = Field(description="Markdown.")
        typescript: str = Field(description="TypeScript code.")
        xml: str = Field(description="XML.")
        remaining_text: str = Field(description="The text without that code.")

    vectors = (
        TestVector(
            {"text": "In Python:\n```python\nprint('Hello')\n```\nAnd in HTML:\n```html\n<h1>Hello</h1>\n```"},
            [
                ("html", "<h1>Hello</h1>"),
                ("python", "print('Hello')"),
                ("remaining_text", "In Python:\nAnd in HTML:"),
            ],
        ),
        TestVector({"text": "```js\na\n```\n\n```JavaScript\nb\n```"}, [("javascript", "a\n\nb")]),
        TestVector({"text": "one `word`, no code"}, [("remaining_text", "one `word`, no code")]),
        TestVector({"text": "```\nplain\n```"}, [("remaining_text", "```\nplain\n```")]),
        TestVector(
            {"text": "```cobol\nx\n```\n```sql\nselect 1\n```"},
            [("sql", "select 1"), ("remaining_text", "```cobol\nx\n```")],
        ),
        TestVector({"text": "```python\nnever closed"}, [("remaining_text", "```python\nnever closed")]),
        TestVector({"text": "````md\n```py\nx\n```\n````"}, [("markdown", "```py\nx\n```")]),
        TestVector({"text": "Run ```sh ls``` now"}, [("bash", "ls"), ("remaining_text", "Run  now")]),
        TestVector(
            {"text": "".join(f"```{names[-1]}\n{pin}\n```\n" for pin, names in _NAMES.items())},
            [(pin, pin) for pin in _NAMES],
        ),
        TestVector({"text": ""}, []),
        TestVector({}, fails="text"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        found, remaining = extract(inputs.text)
        for pin in _NAMES:
            if found.get(pin):
                yield pin, "\n\n".join(found[pin])
        if remaining:
            yield "remaining_text", remaining


def extract(text: str) -> tuple[dict[str, list[str]], str]:
    """The code in `text` by output pin, and the text without it. Code in languages without a pin stays in the text.

    A fence has three or more backticks and ends at the same number. A fence that is never closed is text. Takes linear
    time.
    """
    found: dict[str, list[str]] = {}
    remaining: list[str] = []
    kept, at = 0, text.find("```")
    while at >= 0:
        start = at + 3
        while text.startswith("`", start):
            start += 1
        fence = text[at:start]
        end = text.find(fence, start)
        if end < 0:
            break
        name = (text[start : start + _LONGEST_NAME].split(maxsplit=1) or [""])[0].lower()
        pin = _PINS.get(name) if text[start : start + 1].strip() else None
        if pin is not None and start + len(name) < end:
            found.setdefault(pin, []).append(text[start + len(name) : end].strip())
            remaining.append(text[kept:at])
            kept = end + len(fence)
            if text[kept : kept + 1] == "\n" and text[at - 1 : at] == "\n":
                kept += 1  # keep only one line end where the code was
        at = text.find("```", end + len(fence))
    return found, "".join([*remaining, text[kept:]]).strip()
