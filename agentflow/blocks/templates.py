"""How is a user's text template filled in without giving the user the machine?

Templates are Jinja2 in its immutable sandbox: no access to Python's insides, nothing to import, no files. The sandbox
alone does not stop a template from growing texts without end, so this module meters it too: everything that a
template writes, every turn of a loop and every text or list that an operator, method or filter would make is held
against one limit *before* it is made. Time is not limited here: the block's timeout does that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context as Scope
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from agentflow.blocks import growth
from agentflow.errors import BadInput
from agentflow.settings import settings

SECONDS = 10.0
"""Blocks that fill in templates may run that long."""

_CACHED_TEMPLATES = 256
"""Compiled templates kept per process: compiling takes about a millisecond, filling in a small one 20 µs."""

_LONGEST_CACHED = 16_384
"""Characters: longer templates are compiled each time, so that the cache stays small."""

_MADE_PER_WRITTEN = 64
"""All values made on the way may be that many times as large as what may be written: some are made to be dropped."""

# Names with a space: no template can write them, so none can meddle with its own meter.
_METER, _TURNS, _JOINED = "the meter", "metered turns", "metered join"


def fill(template: str, values: Mapping[str, Any], *, escape_html: bool = False, limit: int | None = None) -> str:
    """`template` with `values` filled in; an unknown name is filled in as nothing.

    Args:
        template: Jinja2 source.
        values: what the template may name.
        escape_html: write values with `<`, `>`, `&` and quotes escaped.
        limit: characters that the template may write; None: the settings' max_value_bytes.

    Raises:
        BadInput: the template is not valid, reaches for what it must not, fails, or exceeds the limit.
    """
    meter = _Meter(settings().max_value_bytes if limit is None else limit)
    try:
        compiled = (_cached if len(template) <= _LONGEST_CACHED else _compiled)(template, escape_html)
        return compiled.render({**values, _METER: meter})
    except TemplateError as error:
        raise BadInput(f"the template cannot be filled in: {error.message}") from None
    except (RecursionError, SyntaxError, MemoryError):  # Python's own compiler has limits too
        raise BadInput("the template cannot be filled in: it is nested too deep") from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"the template cannot be filled in: {error}") from None


class _Meter:
    """What one template may still write and make, in characters."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit
        self.makes = limit * _MADE_PER_WRITTEN

    def charge(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise OverflowError(f"it writes more than {self.limit} characters")

    def allow(self, size: int) -> None:
        """One text or list of `size` is about to be made."""
        self.makes -= size
        if size > self.limit or self.makes < 0:
            raise OverflowError(f"it makes values of more than {self.limit} characters or items")


class _MeteredEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, with every way to make something large passing by the meter."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Scope, operator: str, left: Any, right: Any) -> Any:
        meter = _meter(context)
        meter.allow(growth.of_operator(operator, left, right, meter.limit))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Scope, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 as in the parent
        meter = _meter(__context)
        meter.allow(growth.of_call(__obj, args, kwargs, meter.limit))
        return super().call(__context, __obj, *args, **kwargs)


class _Metering(NodeTransformer):
    """Puts the meter into a parsed template, where no hook of the sandbox reaches: loops and the `~` operator."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 named by Jinja2
        self.generic_visit(node)
        literal = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        node.iter = _filtered(node.iter, _TURNS, literal + 1)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 named by Jinja2
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _JOINED)


def _filtered(node: nodes.Node, name: str, *constants: int) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    arguments: list[nodes.Expr] = [nodes.Const(constant) for constant in constants]
    return nodes.Filter(node, name, arguments, [], None, None, lineno=node.lineno)


def _meter(context: Scope) -> _Meter:
    meter = context.resolve(_METER)
    assert isinstance(meter, _Meter)
    return meter


@pass_context
def _turns(context: Scope, items: Iterable[Any], cost: int) -> Iterator[Any]:
    meter = _meter(context)
    for item in items:
        meter.charge(cost)
        yield item


@pass_context
def _joined(context: Scope, parts: list[Any]) -> Any:
    meter = _meter(context)
    meter.allow(growth.weight(parts, meter.limit))
    return FILTERS["join"](context.eval_ctx, parts)


@pass_context
def _written(context: Scope, value: Any) -> Any:
    """Called with every value that the template writes."""
    meter = _meter(context)
    if isinstance(value, str):
        meter.charge(len(value))
        return value
    meter.allow(growth.weight(value, meter.limit))
    text = str(value)
    meter.charge(len(text))
    return text


def _metered(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `name`, held against the meter; it keeps what the original wants passed to it."""
    wanted = getattr(original, "jinja_pass_arg", None)

    @pass_context
    def metered(context: Scope, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, Iterator):
            value = list(value)  # what `map` and its like give; each item has passed the meter
        meter = _meter(context)
        meter.allow(growth.of_filter(name, value, args, kwargs, meter.limit))
        if wanted is None:
            return original(value, *args, **kwargs)
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}[wanted.name]
        return original(first, value, *args, **kwargs)

    return metered


def _environment(escape_html: bool) -> _MeteredEnvironment:
    environment = _MeteredEnvironment(autoescape=escape_html, finalize=_written)
    for name in growth.FILTERS:
        environment.filters[name] = _metered(name, environment.filters[name])
    environment.filters |= {_TURNS: _turns, _JOINED: _joined}
    del environment.globals["lipsum"]  # a text generator, whose length its caller sets
    return environment


_ENVIRONMENTS = {escape: _environment(escape) for escape in (False, True)}


def _compiled(template: str, escape_html: bool) -> Template:
    environment = _ENVIRONMENTS[escape_html]
    tree = _Metering().visit(environment.parse(template))
    code = environment.compile(tree)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


_cached = lru_cache(_CACHED_TEMPLATES)(_compiled)
