"""Lists the blocks that are installed here, and whether graphs can use them. It asks no server."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel

from agentflow.blocks import registry
from agentflow.blocks.ai.language_models import ModelBlock
from agentflow.blocks.base import Block
from agentflow.blocks.data.code_execution import ExecuteCode
from agentflow.blocks.registry import ABSENT
from agentflow.blocks.web.feeds import ReadRSSFeed
from agentflow.cli.connect import complain
from agentflow.extras import install_command
from agentflow.schemas.blocks import BlockInfo
from agentflow.settings import settings

_EXTRAS: dict[type, tuple[str, str]] = {
    ModelBlock: ("ai", "pydantic_ai"),
    ReadRSSFeed: ("web", "feedparser"),
}
"""Blocks that need an extra: base class → (extra, a module that it installs)."""


class BlockLine(BaseModel):
    """One line of the list of blocks. `status`: available, disabled or unavailable; `reason`: why, if not available."""

    id: str
    name: str
    kind: str = ""
    categories: tuple[str, ...] = ()
    lane: str = ""
    status: str = "available"
    reason: str = ""
    description: str = ""

    @property
    def status_text(self) -> str:
        """Status and reason."""
        return f"{self.status}: {self.reason}" if self.reason else self.status

    def matches(self, words: Iterable[str]) -> bool:
        """Whether name, description or categories contain all of these casefolded words."""
        said = " ".join((self.name, self.description, *self.categories)).casefold()
        return all(word in said for word in words)


def lines() -> Iterator[BlockLine]:
    """All blocks by name, including those that AgentFlow knows but does not have."""
    here = registry.every()
    found = [line_of(block) for block in here]
    ids = {block.id for block in here}
    found += [missing(id) for id in ABSENT if id not in ids]
    yield from sorted(found, key=lambda line: line.name)


def report_left_out() -> None:
    """Report on standard error which packages' blocks could not be loaded, and why."""
    for one in registry.left_out():
        complain(f"the blocks of {one.package} (entry point {one.entry_point!r}) are left out: {one.reason}")


def line_of_info(info: BlockInfo) -> BlockLine:
    """The line for a block of another installation."""
    categories = tuple(str(one.get("category", "")) if isinstance(one, dict) else str(one) for one in info.categories)
    return BlockLine(id=info.id, name=info.name, kind=info.uiType, categories=categories, description=info.description)


def line_of(block: type[Block]) -> BlockLine:
    """The line for a block that is installed here."""
    spec = block.spec()
    status, reason = _status(block)
    return BlockLine(
        id=spec.id,
        name=spec.name,
        kind=spec.kind.value,
        categories=spec.categories,
        lane=spec.lane,
        status=status,
        reason=reason,
        description=spec.description,
    )


def missing(id: str) -> BlockLine:
    """The line for a block that is known but not available."""
    return BlockLine(id=id, name=ABSENT[id], status="unavailable", reason="not built in")


def find(wanted: str) -> type[Block] | BlockLine | None:
    """A block by id or name (in any case); its line if it is known but not available; None if it is unknown."""
    known: dict[str, type[Block] | BlockLine] = {}
    for id, name in ABSENT.items():
        known[id] = known[name] = missing(id)
    for block in registry.every():
        known[block.id] = known[block.name] = block
    in_any_case = {text.lower(): found for text, found in known.items()}
    return known.get(wanted) or in_any_case.get(wanted.lower())


def described(block: type[Block]) -> dict[str, Any]:
    """Everything about a block as JSON: its public description, and how it is executed."""
    spec, line = block.spec(), line_of(block)
    return {
        **block.info(),
        "status": line.status,
        "reason": line.reason,
        "module": block.__module__,
        "lane": spec.lane,
        "timeout": spec.timeout,
        "retry": None if spec.retry is None else spec.retry.model_dump(mode="json"),
        "atomic": block.atomic,
        "sensitive": block.sensitive,
    }


def _status(block: type[Block]) -> tuple[str, str]:
    if not block.enabled:
        return "disabled", ""
    if block is ExecuteCode and not settings().code_execution:
        return "unavailable", "switched off here (AGENTFLOW_CODE_EXECUTION=true switches it on)"
    for base, (extra, module) in _EXTRAS.items():
        if issubclass(block, base) and find_spec(module) is None:
            return "unavailable", f"the extra {extra} is missing: {install_command(extra)}"
    return "available", ""
