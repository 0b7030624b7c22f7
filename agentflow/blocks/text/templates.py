"""Fills values into a user's text template without giving the template access to the machine.

Templates are Jinja2 in its immutable sandbox: no access to Python's internals, no imports, no files. They look up
*values*: `order.items` is the entry `items`, or nothing. The method of that name is found only where it is called
(`order.items()`), and only values are ever written. Line ends are kept as in the template, the last one included.

The sandbox alone does not stop a template from growing texts without end, so this module adds a meter. Everything that
a template writes, every turn of a loop, and every text or list that an operator, method, slice or filter would create
is counted against a limit *before* it is created. The running time has a limit, too.
"""

import re
import sys
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any, Final

from jinja2 import Template, TemplateError, Undefined, nodes, pass_context, pass_environment
from jinja2.filters import FILTERS
from jinja2.runtime import Context as Scope
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from agentflow.blocks.text import growth
from agentflow.errors import BadInput
from agentflow.settings import settings

SECONDS = 10.0
"""Time limit of filling in one template, and of a block that does nothing else."""

_CACHED_TEMPLATES = 256
"""Compiled templates cached per process. Compiling takes about 1 ms, filling in a small template 20 µs."""

_LONGEST_CACHED = 16_384
"""Characters. Longer templates are compiled each time, to keep the cache small."""

_MADE_PER_WRITTEN = 64
"""All intermediate values together may be this many times as large as the output, because some are discarded."""

# Names with a space: no template can write them, so none can change its own meter.
_METER, _TURNS, _JOINED, _CHARGED = "the meter", "metered turns", "metered join", "metered text"
_SLICED, _METHOD, _SELF = "metered slice", "method of", "the value self"

_VALUES: Final = (str, int, float, bool, list, dict, tuple, type(None))
"""The types of values. Templates see their entries and items; their methods are no values."""

_VIEWS: Final = (Iterator, KeysView, ValuesView, ItemsView, range)
"""Types that some methods and filters return instead of a list; they are written as a list."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")


def fill(template: str, values: Mapping[str, Any], *, escape_html: bool = False, limit: int | None = None) -> str:
    """`template` with `values` filled in. An unknown name is filled in as an empty text.

    Args:
        template: Jinja2 source.
        values: name → value.
        escape_html: escape `<`, `>`, `&` and quotes in values.
        limit: characters that the template may write; None: the settings' max_value_bytes.

    Raises:
        BadInput: the template is invalid, accesses something forbidden, fails, or exceeds a limit.
    """
    meter = _Meter(settings().max_value_bytes if limit is None else limit)
    try:
        own_self = "self" in values  # a name that Jinja2 otherwise reserves
        compiled = (_cached if len(template) <= _LONGEST_CACHED else _compiled)(template, escape_html, own_self)
        return compiled.render({**values, _SELF: values.get("self"), _METER: meter})
    except TemplateError as error:
        raise BadInput(f"the template cannot be filled in: {error.message}") from None
    except (RecursionError, SyntaxError, MemoryError):  # Python's own compiler has limits, too
        raise BadInput("the template cannot be filled in: it is nested too deep") from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"the template cannot be filled in: {error}") from None


class _Meter:
    """What one template may still write and create, in characters, and its deadline."""

    def __init__(self, limit: int) -> None:
        self.until = time.monotonic() + SECONDS
        self.limit = limit
        self.left = limit
        self.makes = limit * _MADE_PER_WRITTEN

    def check_time(self) -> None:
        if time.monotonic() > self.until:
            raise OverflowError(f"it takes longer than {SECONDS:g} s")

    def charge(self, size: int) -> None:
        self.check_time()
        self.left -= size
        if self.left < 0:
            raise OverflowError(f"it writes more than {self.limit} characters")

    def allow(self, size: int) -> None:
        """Counts a text or list of `size` that is about to be created."""
        self.check_time()
        self.makes -= size
        if size > self.limit or self.makes < 0:
            raise OverflowError(f"it makes values of more than {self.limit} characters or items")

    def made(self, value: Any, estimate: int) -> None:
        """Counts memory beyond the estimate, which a value and its new items may take."""
        if isinstance(value, str | list | tuple | dict):
            items = 0 if isinstance(value, str) else len(value)
            self.makes -= max(sys.getsizeof(value) - estimate, 0) + items * _ITEM


_ITEM: Final = sys.getsizeof("")
"""Bytes of memory that a short text takes besides its characters."""


class _MeteredEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, with a meter for every way to create something large."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Scope, operator: str, left: Any, right: Any) -> Any:
        meter = _meter(context)
        size = growth.of_operator(operator, left, right, meter.limit)
        meter.allow(size)
        result = super().call_binop(context, operator, left, right)
        meter.made(result, size)
        return result

    def call(__self, __context: Scope, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 as in the parent
        meter = _meter(__context)
        size = growth.of_call(__obj, args, kwargs, meter.limit)
        meter.allow(size)
        result = super().call(__context, __obj, *args, **kwargs)
        if size:
            meter.made(result, size)
        return result

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self._found(obj, attribute, super().getattr)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._found(obj, argument, super().getitem)

    def _found(self, obj: Any, name: Any, attribute_of: Callable[[Any, Any], Any]) -> Any:
        """The value that `obj` holds under `name`; undefined if there is none, even if Python has such an attribute."""
        try:
            return obj[name]
        except (TypeError, LookupError, AttributeError):
            pass
        if type(obj) in _VALUES or isinstance(obj, str):
            is_private = isinstance(name, str) and name.startswith("_")  # the sandbox reports these as unsafe
            return attribute_of(obj, name) if is_private else self.undefined(obj=obj, name=name)
        found = attribute_of(obj, name)
        return self.undefined(obj=obj, name=name) if isinstance(found, MethodType | BuiltinMethodType) else found

    def method(self, obj: Any, name: Any) -> Any:
        """What `name` of `obj` means in a call: an entry that is callable, else the method."""
        entry = self._found(obj, name, super().getattr) if isinstance(name, str) else self.getitem(obj, name)
        found = not isinstance(entry, Undefined) and callable(entry)
        return entry if found or not isinstance(name, str) else super().getattr(obj, name)


class _Metering(NodeTransformer):
    """Adds the meter to a parsed template where the sandbox has no hook: loops, slices, the `~` operator.

    It also tells method calls from look-ups, and restores the template's own line ends.
    """

    def __init__(self, line_ends: list[str], own_self: bool) -> None:
        self._line_ends, self._own_self = line_ends, own_self

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 named by Jinja2
        # Also in the body, because `loop(…)` restarts a recursive loop with items that no filter has seen.
        node.body.insert(0, _charging("charge", node.body))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _TURNS)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802 named by Jinja2
        node.body.insert(0, _charging("allow", node.body))
        self.generic_visit(node)
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802 named by Jinja2
        call = node.call
        self.visit_Macro(node)  # type: ignore[arg-type]
        node.call = call  # the grammar requires a call there
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 named by Jinja2
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _JOINED)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802 named by Jinja2
        callee = node.node
        self.generic_visit(node)
        if isinstance(callee, nodes.Getattr):
            node.node = _filtered(callee.node, _METHOD, nodes.Const(callee.attr))
        elif isinstance(callee, nodes.Getitem) and not isinstance(callee.arg, nodes.Slice):
            node.node = _filtered(callee.node, _METHOD, callee.arg)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 named by Jinja2
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        parts = (node.arg.start, node.arg.stop, node.arg.step)
        return _filtered(node.node, _SLICED, *(part or nodes.Const(None) for part in parts))

    def visit_Name(self, node: nodes.Name) -> nodes.Expr:  # noqa: N802 named by Jinja2
        if self._own_self and node.name == "self" and node.ctx == "load":
            return _filtered(nodes.Const(None, lineno=node.lineno), _SELF)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802 named by Jinja2
        first, *lines = node.data.split("\n")  # Jinja2 converts every line end to this
        ends = self._line_ends[node.lineno - 1 :]
        node.data = first + "".join(end + line for end, line in zip(ends, lines, strict=False))
        return node


def _charging(account: str, body: list[nodes.Node]) -> nodes.ExprStmt:
    """Charges the meter for the literal text of one pass through `body`."""
    literal = sum(map(_literal, body))
    return nodes.ExprStmt(
        _filtered(nodes.Const(literal + 1), _CHARGED, nodes.Const(account)), lineno=body[0].lineno if body else 1
    )


def _literal(node: nodes.Node) -> int:
    """Characters of literal text in `node`, without nested nodes that charge for themselves."""
    if isinstance(node, nodes.TemplateData):
        return len(node.data)
    if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
        return 0
    return sum(map(_literal, node.iter_child_nodes()))


def draws(template: str) -> bool:
    """Whether the result of `template` may be random: it may use the filter `random`."""
    return "random" in template


def _filtered(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _meter(context: Scope) -> _Meter:
    meter = context.resolve(_METER)
    assert isinstance(meter, _Meter)
    return meter


@pass_context
def _turns(context: Scope, items: Iterable[Any]) -> Iterator[Any]:
    """Counts turns. Those that the loop's condition skips count as well."""
    meter = _meter(context)
    for item in items:
        meter.charge(1)
        yield item


@pass_context
def _charged(context: Scope, size: int, account: str) -> None:
    meter = _meter(context)
    if account == "charge":
        meter.charge(size)
    else:
        meter.allow(size)


@pass_context
def _sliced(context: Scope, value: Any, start: Any, stop: Any, step: Any) -> Any:
    meter, part = _meter(context), slice(start, stop, step)
    size = len(range(*part.indices(len(value)))) if isinstance(value, str | list | tuple) else 0
    meter.allow(size)
    result = value[part]
    meter.made(result, size)
    return result


@pass_context
def _method(context: Scope, obj: Any, name: Any) -> Any:
    environment = context.environment
    assert isinstance(environment, _MeteredEnvironment)
    return environment.method(obj, name)


@pass_context
def _self(context: Scope, _: None) -> Any:
    return context.resolve(_SELF)


@pass_environment
def _attribute(environment: _MeteredEnvironment, obj: Any, name: Any) -> Any:
    return environment.getattr(obj, str(name))


@pass_context
def _joined(context: Scope, parts: list[Any]) -> Any:
    meter = _meter(context)
    parts = [_value(part) for part in parts]
    size = growth.weight(parts, meter.limit)
    meter.allow(size)
    result = FILTERS["join"](context.eval_ctx, parts)
    meter.made(result, size)
    return result


def _value(thing: Any) -> Any:
    """`thing` if it is a value; a list of its items if it is a view; an empty text for functions and the like."""
    if isinstance(thing, (*_VALUES, Undefined)) or hasattr(thing, "__html__"):
        return thing
    return list(thing) if isinstance(thing, _VIEWS) and not isinstance(thing, LoopContext) else ""


@pass_context
def _written(context: Scope, thing: Any) -> Any:
    """Called with every value that the template writes."""
    meter, value = _meter(context), _value(thing)
    if isinstance(value, str):
        meter.charge(len(value))
        return value
    meter.allow(growth.weight(value, meter.limit))
    text = str(value)
    meter.charge(len(text))
    return text


def _metered(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `name` with the meter added. It still gets the argument that the original asks Jinja2 for."""
    wanted = getattr(original, "jinja_pass_arg", None)

    @pass_context
    def metered(context: Scope, value: Any, *args: Any, **kwargs: Any) -> Any:
        value = _value(value)
        meter = _meter(context)
        size = growth.of_filter(name, value, args, kwargs, meter.limit)
        meter.allow(size)
        first = (
            ()
            if wanted is None
            else (
                {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}[wanted.name],
            )
        )
        result = original(*first, value, *args, **kwargs)
        meter.made(result, size)
        return result

    return metered


def _environment(escape_html: bool) -> _MeteredEnvironment:
    environment = _MeteredEnvironment(autoescape=escape_html, finalize=_written, keep_trailing_newline=True)
    for name in growth.FILTERS:
        environment.filters[name] = _metered(name, environment.filters[name])
    environment.filters |= {_TURNS: _turns, _JOINED: _joined, _CHARGED: _charged, _SLICED: _sliced, _METHOD: _method}
    environment.filters |= {_SELF: _self, "attr": _attribute}
    del environment.globals["lipsum"]  # generates a text as long as its caller wants
    return environment


_ENVIRONMENTS = {escape: _environment(escape) for escape in (False, True)}


def _compiled(template: str, escape_html: bool, own_self: bool) -> Template:
    environment = _ENVIRONMENTS[escape_html]
    tree = _Metering(_LINE_END.findall(template), own_self).visit(environment.parse(template))
    code = environment.compile(tree)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


_cached = lru_cache(_CACHED_TEMPLATES)(_compiled)
