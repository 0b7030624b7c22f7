"""Blocks of other packages are found, and nobody can take another's id in silence."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from agentflow.blocks.base import Block, BlockInput, Context
from agentflow.blocks.registry import ENTRY_POINT_GROUP, Registry, load
from agentflow.errors import EngineError


def made(name: str, id: str | None, **more: Any) -> type[Block]:
    def run(self: Block, inputs: BlockInput, context: Context) -> Iterator[tuple[str, Any]]:
        yield from ()

    return type(name, (Block,), {"run": run, "name": name, "__module__": "someone.blocks"} | ({"id": id} if id else {}))


FIRST, SECOND = made("First", "id-1"), made("Second", "id-2")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("someone.blocks")
    vars(module).update(First=FIRST, Second=SECOND, Block=Block, Elsewhere=made("Elsewhere", "id-3"), number=5)
    module.Elsewhere.__module__ = "someone.else"
    monkeypatch.setitem(sys.modules, "someone", ModuleType("someone"))
    monkeypatch.setitem(sys.modules, "someone.blocks", module)
    return module


def point(value: str) -> EntryPoint:
    return EntryPoint(name="theirs", value=value, group=ENTRY_POINT_GROUP)


def test_an_entry_point_may_name_a_block(package: ModuleType) -> None:
    assert list(load([point("someone.blocks:Second")])) == [SECOND]


def test_an_entry_point_may_name_a_module_whose_own_blocks_are_taken(package: ModuleType) -> None:
    assert list(load([point("someone.blocks")])) == [FIRST, SECOND]


@pytest.mark.parametrize("value", ["someone.blocks:number", "someone.blocks:absent", "nowhere.to.be.found"])
def test_a_broken_entry_point_is_named(package: ModuleType, value: str) -> None:
    with pytest.raises(EngineError, match=f"theirs.*{value}"):
        list(load([point(value)]))


class Idle(Block):
    id = "id-4"
    name = "Idle"


def test_a_block_that_does_nothing_is_named(package: ModuleType) -> None:
    package.Idle = Idle
    with pytest.raises(EngineError, match=r"Idle has no run"):
        list(load([point("someone.blocks:Idle")]))
    Idle.__module__ = "someone.blocks"
    with pytest.raises(EngineError, match=r"someone\.blocks\.Idle has no run"):
        list(load([point("someone.blocks")]))


@pytest.mark.parametrize(("other", "what"), [(made("Other", "id-1"), "id id-1"), (made("First", "id-9"), "name First")])
def test_two_blocks_with_one_id_or_name_are_both_named(other: type[Block], what: str) -> None:
    with pytest.raises(EngineError, match=f"{what}: someone.blocks.First and someone.blocks.{other.__name__}"):
        Registry([FIRST, other])


def test_a_block_without_an_id_is_named() -> None:
    with pytest.raises(EngineError, match=r"someone\.blocks\.Nameless has no id"):
        Registry([made("Nameless", None)])


def test_a_block_has_one_instance() -> None:
    registry = Registry([FIRST, SECOND])
    assert registry.get("id-1") is registry.get("id-1")
    assert registry.catalogue("id-2") is SECOND.spec()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("id", "a/b"), ("id", ".."), ("name", "two\nlines"), ("name", "x" * 201), ("lane", "my lane"), ("lane", "a,b")],
)
def test_a_block_whose_names_cannot_be_used_elsewhere_is_refused(attribute: str, value: str) -> None:
    block = made("Odd", "id-5")
    setattr(block, attribute, value)
    with pytest.raises(EngineError, match=f"the {attribute} of the block .*Odd cannot be used"):
        Registry([block])
