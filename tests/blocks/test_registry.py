"""Blocks of other packages are found, and nobody can take another's id in silence."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentflow.blocks.base import Block, BlockInput, Context
from agentflow.blocks.registry import ENTRY_POINT_GROUP, Registry, assembled, load
from agentflow.errors import BlockBug, EngineError


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


def test_a_module_that_fails_is_named_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fails_at_import.py").write_text("\n\n1 / 0\n")
    (tmp_path / "imports_nothing.py").write_text("import fails_at_import\n")
    for name in ("fails_at_import", "imports_nothing"):
        with pytest.raises(EngineError) as caught:
            list(load([point(name)]))
        place = f"({tmp_path / 'fails_at_import.py'}, line 3)"
        assert caught.value.message.endswith(f"ZeroDivisionError: division by zero {place}")


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


class Twin(Block):
    id, name = "id-9", "Twin"

    def run(self, inputs: BlockInput, context: Context) -> Iterator[tuple[str, Any]]:
        yield from ()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("no.such.module", "No module named"),
        ("someone.broken:Nothing", "Nothing"),
        ("someone.blocks:number", "neither a block nor a module"),
        ("someone.broken:taken", "two blocks have the id id-9"),
        ("someone.broken:nameless", "has no id"),
        ("someone.broken:unmade", "odd"),
        ("someone.broken:leaving", "SystemExit"),
    ],
)
def test_a_broken_package_is_left_out_named_and_nothing_else_stops(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str, reason: str
) -> None:
    module = ModuleType("someone.broken")
    odd = type("Odd", (BlockInput,), {"__module__": "someone.broken"})
    odd.model_json_schema = classmethod(lambda cls, *_, **__: _raise("odd"))
    vars(module).update(taken=made("Taken", "id-9"), nameless=made("Nameless", None), unmade=made("Unmade", "id-8"))
    vars(module)["unmade"].Input = odd
    monkeypatch.setitem(sys.modules, "someone.broken", module)

    def getter(name: str) -> Any:
        raise SystemExit(3) if name == "leaving" else AttributeError(name)

    module.__getattr__ = getter
    points = [point(broken), point("someone.blocks:Second"), point(broken), point("someone.blocks:First")]
    registry, left_out = assembled([Twin], points)
    assert list(registry.by_id) == ["id-9", "id-2", "id-1"]
    assert [(one.entry_point, one.package) for one in left_out] == [("theirs", broken)] * 2
    assert all(reason in one.reason for one in left_out)
    assert [record.message for record in caplog.records] == ["block_package_left_out"] * 2


def test_our_own_blocks_must_be_right() -> None:
    with pytest.raises(EngineError):
        assembled([FIRST, made("First", "id-7")], [])


def test_a_block_that_cannot_be_made_fails_the_node_that_needs_it() -> None:
    def init(self: Block) -> None:
        raise OSError("no licence")

    block = made("Locked", "id-6")
    block.__init__ = init
    with pytest.raises(BlockBug, match="Locked cannot be made: OSError: no licence"):
        Registry([block, SECOND]).get("id-6")


def _raise(what: str) -> Any:
    raise ValueError(what)
