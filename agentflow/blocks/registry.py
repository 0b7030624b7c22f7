"""Finds the installed blocks: the built-in ones, and those of other packages.

Built-in blocks come from the modules in `FAMILIES`. Other packages announce theirs as entry points of the group
`agentflow.blocks`: each names a block class, or a module whose block classes are all taken. Nothing is imported before
the first look-up. This module must not run a block.
"""

import importlib
import inspect
import logging
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import Any, Final

from agentflow.blocks.base import Block
from agentflow.errors import BlockBug, EngineError, NotFound
from agentflow.graph.catalogue import BlockSpec
from agentflow.graph.names import checked, checked_id, checked_lane

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP: Final = "agentflow.blocks"

FAMILIES: Final = (
    "flow.io",
    "data.basic",
    "text.editing",
    "data.numbers",
    "flow.logic",
    "data.lists",
    "data.dictionaries",
    "flow.iteration",
    "web.requests",
    "ai.writing",
    "ai.structured",
    "ai.summaries",
    "ai.orchestrator",
    "text.patterns",
    "data.list_algebra",
    "data.moments",
    "flow.waiting",
    "flow.sub_graphs",
    "flow.remembering",
    "flow.triggers",
    "text.encoding",
    "text.extraction",
    "text.markup",
    "files.reading",
    "files.spreadsheets",
    "data.sampling",
    "flow.typed_inputs",
    "web.wikipedia",
    "web.websearch",
    "data.code_execution",
    "web.mail",
    "web.feeds",
    "data.sql",
)
"""The built-in modules that hold blocks."""

ABSENT: Final[Mapping[str, str]] = MappingProxyType({"f3a8f7e1-4b1d-4e5f-9f2a-7c3d5a2e6b4c": "TranscribeYoutubeVideo"})
"""Block id → name of blocks that graphs of the AutoGPT Platform use and that are not built in, for messages."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry point whose blocks could not be loaded: its name, its package, and the reason."""

    entry_point: str
    package: str
    reason: str


class Registry:
    """A set of block classes, by id and by name.

    Args:
        blocks: the classes.

    Raises:
        EngineError: two of them share an id or a name (the message names both), or one has none.
    """

    def __init__(self, blocks: Iterable[type[Block]]) -> None:
        by_id: dict[str, type[Block]] = {}
        by_name: dict[str, type[Block]] = {}
        for block in blocks:
            _check_names(block)
            _enter(by_id, "id", block)
            _enter(by_name, "name", block)
        self.by_id = MappingProxyType(by_id)
        self.by_name = MappingProxyType(by_name)
        self._instances: dict[str, Block] = {}

    def catalogue(self, block_id: str) -> BlockSpec | None:
        """The description of a block for the graph; None if there is no such block."""
        block = self.by_id.get(block_id)
        return None if block is None else block.spec()

    def get(self, block_id: str) -> Block:
        """The one instance of a block.

        Raises:
            NotFound: there is no block with that id.
            BlockBug: the block cannot be instantiated.
        """
        instance = self._instances.get(block_id)
        if instance is None:
            block = self.by_id.get(block_id)
            if block is None:
                raise NotFound(f"there is no block with the id {block_id}")
            try:
                instance = self._instances.setdefault(block_id, block())
            except Exception as error:  # another author's code: only the node that needs it must fail
                raise BlockBug(f"the block {block.name} cannot be made: {type(error).__name__}: {error}") from error
        return instance


def catalogue(block_id: str) -> BlockSpec | None:
    """The description of a block for the graph; None if there is no such block."""
    return _registry().catalogue(block_id)


def get(block_id: str) -> Block:
    """The one instance of a block in this process.

    Raises:
        NotFound: there is no block with that id.
    """
    return _registry().get(block_id)


def id_of(name: str) -> str | None:
    """The id of the block with that name; None if there is none."""
    block = _registry().by_name.get(name)
    return None if block is None else block.id


def names() -> Collection[str]:
    """The names of all blocks."""
    return _registry().by_name.keys()


def by_name(name: str) -> Block:
    """The one instance of a block in this process.

    Raises:
        NotFound: there is no block with that name.
    """
    block = _registry().by_name.get(name)
    if block is None:
        raise NotFound(f"there is no block called {name!r}")
    return get(block.id)


def every() -> list[type[Block]]:
    """All block classes, sorted by name."""
    found = _registry().by_name
    return [found[name] for name in sorted(found)]


def load(points: Iterable[EntryPoint]) -> Iterator[type[Block]]:
    """The block classes that `points` name.

    Raises:
        EngineError: one cannot be imported, or names something else; the message says which.
    """
    for point in points:
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # it runs another author's module, which may raise anything
            raise EngineError(
                f"the blocks of entry point {point.name!r} ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}{_place(error)}"
            ) from error
        if isinstance(found, ModuleType):
            yield from _blocks_of(found)
        elif _is_block(found):
            yield found
        else:
            raise EngineError(f"the entry point {point.name!r} ({point.value}) names neither a block nor a module")


def _place(error: BaseException) -> str:
    """Where an import failed: the last frame outside the import system. A SyntaxError already says it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    known = isinstance(error, SyntaxError) or not places
    return "" if known else f" ({places[-1].filename}, line {places[-1].lineno})"


@cache
def _registry() -> Registry:
    return _built()[0]


def left_out() -> tuple[LeftOut, ...]:
    """The entry points whose blocks could not be loaded."""
    return _built()[1]


@cache
def _built() -> tuple[Registry, tuple[LeftOut, ...]]:
    return assembled(list(_ours()), sorted(entry_points(group=ENTRY_POINT_GROUP)))


def assembled(ours: Sequence[type[Block]], points: Iterable[EntryPoint]) -> tuple[Registry, tuple[LeftOut, ...]]:
    """A registry of our blocks and those that `points` name, and the entry points that were left out of it.

    An entry point that is broken, or whose blocks conflict with others, is left out as a whole and logged: one bad
    package must not keep everything else from running.

    Raises:
        EngineError: something is wrong with the built-in blocks.
    """
    blocks, broken = list(ours), []
    registry = Registry(blocks)
    for point in points:
        try:
            found = list(load([point]))
            extended = Registry([*blocks, *found])
            for block in found:
                block.spec(), block.info()  # built now, so that errors show before a graph needs the block
        except (Exception, SystemExit) as error:  # it runs another author's code, which may raise anything
            reason = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            broken.append(LeftOut(point.name, _package(point), reason))
            logger.warning("block_package_left_out", extra={**asdict(broken[-1])})
        else:
            blocks, registry = [*blocks, *found], extended
    return registry, tuple(broken)


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _ours() -> Iterator[type[Block]]:
    for family in FAMILIES:
        yield from _blocks_of(importlib.import_module(f"agentflow.blocks.{family}"))


def _blocks_of(module: ModuleType) -> Iterator[type[Block]]:
    """The blocks defined in the module, without those that it imports."""
    for thing in list(vars(module).values()):
        if getattr(thing, "__module__", None) == module.__name__ and _is_block(thing):
            yield thing


def _is_block(thing: Any) -> bool:
    """Whether `thing` is a block. A class with neither an id nor a `run` is a base of others.

    Raises:
        EngineError: it has an id but no `run`; the message names it.
    """
    if not isinstance(thing, type) or not issubclass(thing, Block):
        return False
    unfinished = inspect.isabstract(thing)
    if unfinished and "id" in vars(thing):
        raise EngineError(f"the block {thing.__module__}.{thing.__qualname__} has no run")
    return not unfinished


def _check_names(block: type[Block]) -> None:
    """Checks id, name and lane: they are used in URLs, in documents and on command lines, and in queue names."""
    where = f"{block.__module__}.{block.__qualname__}"
    for attribute, rule in (("id", checked_id), ("name", checked), ("lane", checked_lane)):
        value = getattr(block, attribute, None)
        if not value:
            raise EngineError(f"the block {where} has no {attribute}")
        try:
            rule(value)
        except ValueError as error:
            raise EngineError(f"the {attribute} of the block {where} cannot be used: {error}") from None


def _enter(table: dict[str, type[Block]], attribute: str, block: type[Block]) -> None:
    where = f"{block.__module__}.{block.__qualname__}"
    key = getattr(block, attribute)
    other = table.setdefault(key, block)
    if other is not block:
        raise EngineError(f"two blocks have the {attribute} {key}: {other.__module__}.{other.__qualname__} and {where}")
