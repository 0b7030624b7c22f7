"""Templates do what people expect of Jinja2, reach nothing, and cannot grow without end."""

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks.text import templates
from agentflow.blocks.text.templates import fill
from agentflow.errors import BadInput

LIMIT = 100_000
"""Characters, for these tests."""

USUAL: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, ""),
    ("plain { text }", {}, "plain { text }"),
    ("{{ a }} and {{ b.c }} and {{ d[0] }}", {"a": 1, "b": {"c": "x"}, "d": [True]}, "1 and x and True"),
    ("{% for k, v in d.items() %}{{ loop.index }}{{ k }}={{ v }};{% endfor %}", {"d": {"a": 1, "b": 2}}, "1a=1;2b=2;"),
    ("{% for x in xs %}{{ x }}{% else %}none{% endfor %}", {"xs": []}, "none"),
    ("{% for x in xs if x > 1 %}{{ x }}{{ ',' if not loop.last }}{% endfor %}", {"xs": [1, 2, 3]}, "2,3"),
    ("{{ xs | map('upper') | join(', ') }}", {"xs": ["a", "b"]}, "A, B"),
    ("{{ xs | selectattr('n', 'gt', 1) | map(attribute='n') | list }}", {"xs": [{"n": 1}, {"n": 2}]}, "[2]"),
    ("{{ a ~ '-' ~ b }}", {"a": "x", "b": 5}, "x-5"),
    ("{{ a * 3 }} {{ n * 3 }} {{ n ** 2 }} {{ n + 1 }} {{ n % 3 }}", {"a": "x", "n": 5}, "xxx 15 25 6 2"),
    ("{{ '%s is %05.1f' % (a, n) }}", {"a": "x", "n": 2.5}, "x is 002.5"),
    ("{{ '{} {:>4} {x}'.format(a, n, x=1) }}", {"a": "x", "n": 5}, "x    5 1"),
    ("{{ a.replace('l', 'L') }} {{ a | replace('l', '') }}", {"a": "hello"}, "heLLo heo"),
    ("{{ '-'.join(xs) }} {{ 'a'.ljust(3) }}|", {"xs": ["a", "b"]}, "a-b a  |"),
    ("{{ d | tojson }}", {"d": {"a": [1, None]}}, '{"a": [1, null]}'),
    ("{{ t | indent(2) }}", {"t": "a\nb"}, "a\n  b"),
    ("{{ t | wordwrap(3) }}", {"t": "aa bb"}, "aa\nbb"),
    ("{{ 2.567 | round(1) }} {{ xs | batch(2) | list }}", {"xs": [1, 2, 3]}, "2.6 [[1, 2], [3]]"),
    ("{{ missing }}{{ missing | default('d') }}", {}, "d"),
    ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) }}{{ m('a') }}", {}, "<1><a>"),
    ("{% set t %}{{ a }}!{% endset %}{{ t * 2 }}", {"a": "x"}, "x!x!"),
    (
        "{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
        {"xs": [1, 2]},
        "3",
    ),
    ("{% for i in range(3) recursive %}{{ i }}{% endfor %}", {}, "012"),
    ("{{ 12345678 }} {{ '%d' % 12345678 }}", {}, "12345678 12345678"),
]

ONE_MEGABYTE = {"s": "ab " * 30_000, "xs": list(range(90_000)), "d": {str(key): key for key in range(50_000)}}
"""About as large as the limit of these tests."""

KEEP = "{% set n = namespace(x=[]) %}{% for i in range(5000) %}{% set n.x = [n.x, @] %}{% endfor %}"
"""Keeps what each turn makes."""

HOSTILE = [
    "{{ 'a'.encode().center(10**9) }}",
    "{{ (1).to_bytes(10**9, 'big') }}",
    "{{ n.to_bytes(length=10**9, byteorder='big') }}",
    "{{ (1)['to_bytes'](10**9, 'big') }}",
    "{{ 'a'.encode('utf-16').fromhex('00' * 10**6) }}",
    "{{ ([[1] * 1000] * 1000) | sum(start=[]) | length }}",
    "{{ ([[1] * 300] * 300) | sum(start=()) | length }}",
    "{% for i in range(3) recursive %}{{ loop(range(90000)) }}{% endfor %}",
    "{% for i in range(300) recursive %}{{ 'x' * 1000 }}{{ loop(range(300)) if loop.depth < 3 }}{% endfor %}",
    "{% for i in range(900) recursive %}" + "x" * 1000 + "{{ loop(range(900)) if loop.depth < 2 }}{% endfor %}",
    "{% macro m() %}" + "x" * 9000 + "{% endmacro %}" + KEEP.replace("@", "m()"),
    *(
        KEEP.replace("@", step)
        for step in (
            "s[1:]",
            "s[::2]",
            "xs[:]",
            "xs|list",
            "xs|reverse|list",
            "xs|sort",
            "xs|unique|list",
            "d|dictsort",
            "d|items|list",
            "dict(d)",
            "d.copy()",
            "xs.copy()",
            "s.upper()",
            "s.split()",
            "s.splitlines()",
            "s.partition('b')",
            "s.strip()",
            "s.split('')",
            "s|list",
            "s|upper",
            "s|urlencode",
            "xs|map('string')|list",
            "xs|batch(2)|list",
            "d.items()|list",
            "s.title()",
            "s.format(1)",
            "s|trim('a')",
            "s|e",
            "xs|sum(start=0) ~ s",
            "xs|groupby(0)|list",
            "s.zfill(90000)",
        )
    ),
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [0] * 10**9 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ (10 ** 999) ** 999 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%(a)s%(a)s%(a)s' % {'a': 'x' * 90000} }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 10**9) }}",
    "{{ '{0}{0}{0}'.format('x' * 90000) }}",
    "{{ '{a[x]:>999999999}'.format_map({'a': {'x': 1}}) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'['center'](10**9) }}",
    "{{ ('a'|attr('zfill'))(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ ['a'] | map('center', 10**9) | list }}",
    "{{ ('a' * 1000).replace('a', 'b' * 1000) }}",
    "{{ ('a' * 1000) | replace('a', 'b' * 1000) }}",
    "{{ ('b' * 1000).join('a' * 1000) }}",
    "{{ ('a' * 1000) | join('b' * 1000) }}",
    "{{ ('\t' * 1000).expandtabs(1000) }}",
    "{{ ('a' * 1000).translate({97: 'b' * 1000}) }}",
    "{{ ('a\n' * 1000) | indent(1000) }}",
    "{{ ('a ' * 1000) | wordwrap(1, wrapstring='b' * 1000) }}",
    "{{ [1] | batch(10**9, 0) | list }}",
    "{{ [1] | slice(10**9, 0) | list }}",
    "{{ 1.5 | round(10**9, 'ceil') }}",
    "{{ {'a': 1} | tojson(indent=10**9) }}",
    "{{ ['x' * 1000] * 1000 }}",
    "{{ (['x' * 1000] * 1000) | string }}",
    "{{ (['x' * 1000] * 1000) | tojson }}",
    "{{ (['x' * 1000] * 1000) | join }}",
    "{{ ('a.b ' * 1000) | urlize(rel='x' * 1000) }}",
    "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "{% for i in range(90000) %}" + "x" * 1000 + "{% endfor %}",
    "{% set t %}{% for i in range(90000) %}" + "x" * 1000 + "{% endfor %}{% endset %}",
    "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}a{% endmacro %}{{ m(60) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ range(10**9) | list }}",
    "{{ lipsum(n=10**6) }}",
    "{{ 10 ** 99999 }}",
]

NESTED = [
    "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{{ " + "not " * 5000 + "1 }}",
    "{{ a" + ".b" * 5000 + " }}",
    "{{ a" + "|upper" * 5000 + " }}",
    "{{ 1" + " + 1" * 5000 + " }}",
    "{% for x in 'a' %}" * 30 + "{% endfor %}" * 30,
    "{% if 1 %}" * 300 + "{% endif %}" * 300,
    "{% macro a() %}" * 300 + "{% endmacro %}" * 300,
]
"""Each is either filled in or refused, whatever limit of the compiler it meets."""

FORBIDDEN = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ (''|attr('__class__')) }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ x.append(1) }}",
    "{{ x.clear() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
]


@pytest.mark.parametrize(("template", "values", "text"), USUAL)
def test_usual_templates_read_as_jinja2_does(template: str, values: dict[str, Any], text: str) -> None:
    assert fill(template, values, limit=LIMIT) == text


@pytest.mark.parametrize("template", HOSTILE)
def test_a_template_that_grows_without_end_is_stopped_before_it_has_grown(template: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="cannot be filled in"):
            fill(template, {**ONE_MEGABYTE, "n": 1}, limit=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 150 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("template", NESTED, ids=lambda template: template[:12])
def test_a_template_that_is_nested_deep_does_no_harm(template: str) -> None:
    with suppress(BadInput):
        fill(template, {"a": ""}, limit=LIMIT)


@pytest.mark.parametrize("template", FORBIDDEN)
def test_a_template_reaches_nothing_but_its_values(template: str) -> None:
    values = {"x": [0]}
    try:
        text = fill(template, values)
    except BadInput:
        text = ""
    assert text == ""
    assert values == {"x": [0]}


def test_values_are_escaped_only_where_asked_for() -> None:
    assert fill("<i>{{ x }}</i>", {"x": "<&>"}) == "<i><&></i>"
    assert fill("<i>{{ x }}</i>", {"x": ["<&>"]}, escape_html=True) == "<i>[&#39;&lt;&amp;&gt;&#39;]</i>"
    assert fill("{{ x ~ '<' }}{{ x | safe }}", {"x": "<"}, escape_html=True) == "&lt;&lt;<"


NAMES = sorted(
    {name for kind in (dict, list, str, int, float, tuple) for name in dir(kind) if not name.startswith("_")}
)
"""Of all that Python lets values do."""

LOOKUPS = ["{{ v.@ }}", "{{ v['@'] }}", "{{ v[n] }}", "{{ v|attr('@') }}", "{{ [v]|map(attribute='@')|first }}",
           "{{ v.@ ~ '' }}", "{{ v.@|string }}", "{{ v.@ or '' }}", "{% set f = v.@ %}{{ f }}",
           "{% for x in [v.@] %}{{ x }}{% endfor %}"]  # fmt: skip

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@pytest.mark.parametrize("name", ["real", "imag", "numerator", "denominator"])
def test_a_truth_value_has_no_entries(name: str) -> None:
    assert fill("{{ v." + name + " }}{{ v[n] }}", {"v": False, "n": name}) == ""


@given(st.sampled_from(NAMES), st.sampled_from(LOOKUPS), st.data())
def test_a_template_looks_up_entries_and_never_writes_what_python_has_of_that_name(
    name: str, template: str, data: st.DataObject
) -> None:
    template = template.replace("@", name)
    entry = data.draw(st.text(min_size=1, max_size=9) | st.integers(1))
    assert fill(template, {"v": {"a": 1, name: entry}, "n": name}) == str(entry)
    without = data.draw(
        VALUES.filter(lambda value: value is not None) | st.lists(VALUES, max_size=3) | st.just({"a": 1})
    )
    assert fill(template, {"v": without, "n": name}) == ""


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ order.items }}", "['a', 'b']"),
        ("{% for item in order.items %}{{ item }};{% endfor %}", "a;b;"),
        ("{% for key, value in order.items() %}{{ key }};{% endfor %}", "items;self;"),
        ("{{ order.keys }}{{ order['values'] }}{{ order.missing }}", ""),
        ("{{ order.keys() }}{{ order.items|map('upper') }}", "['items', 'self']['A', 'B']"),
        ("{{ 'abc'.upper }}{{ 'abc'.upper() }}{{ 'abc'['upper']() }}{{ 5 .real }}", "ABCABC"),
        ("{{ self }}{{ order.self }}", "mine1"),
        ("{{ range }}{{ dict }}{{ namespace }}{{ cycler }}{{ [1]|map('upper')|map('string') }}", "['1']"),
        ("{% for x in [1] %}{{ loop }}{{ loop.cycle }}{{ loop.index }}{% endfor %}", "1"),
        ("{% macro m() %}x{% endmacro %}{{ m }}{{ m() }}{{ m.name }}", "xm"),
        ("{% for group in [{'k': 1}]|groupby('k') %}{{ group.grouper }}{{ group.list }}{% endfor %}", "1[{'k': 1}]"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next }}{{ c.current }}", "aba"),
        ("{% macro m() %}x{% endmacro %}{% set n = namespace(f=m, items=3) %}{{ n.f() }}{{ n.items }}", "x3"),
        ("{% call(x) apply() %}<{{ x }}>{% endcall %}{% macro apply() %}{{ caller(1) }}{% endmacro %}", ""),
        ("{% macro apply() %}{{ caller(1) }}{% endmacro %}{% call(x) apply() %}<{{ x }}>{% endcall %}", "<1>"),
        ("{{ 'abcdef'[1:3] }}{{ order.items[:1] }}{{ 'abc'[::-1] }}{{ 'abc'[1] }}", "bc['a']cbab"),
        ("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"),
    ],
)
def test_values_come_before_what_python_has_of_their_names(template: str, text: str) -> None:
    values = {"order": {"items": ["a", "b"], "self": 1}, "self": "mine"}
    try:
        assert fill(template, values, limit=LIMIT) == text
    except BadInput:
        assert text == ""


def test_without_a_value_of_that_name_self_gives_the_blocks_of_the_template() -> None:
    assert fill("{% block b %}x{% endblock %}{{ self.b() }}{{ self }}", {}) == "xx"


@given(st.lists(st.sampled_from(["\n", "\r\n", "\r", "a", " ", "é", "\t", "\u2028"]), max_size=30).map("".join))
def test_text_stays_as_it_is_written_with_all_its_line_ends(text: str) -> None:
    assert fill(text, {}) == text
    assert fill(text + "{{ x }}" + text, {"x": 1}) == f"{text}1{text}"
    assert fill(text + "{# " + text + " #}" + text, {}) == text + text
    assert fill(text + "{% raw %}" + text + "{% endraw %}" + text, {}) == text * 3
    assert fill("{% for i in xs %}" + text + "{% endfor %}" + text, {"xs": [1, 2]}) == text * 3
    assert fill("{% if x\r\n == 1\n %}" + text + "{% endif %}" + text, {"x": 1}) == text * 2
    assert (
        fill("a" + text + "{%- if true -%}" + text + "b\r\n{% endif %}" + text, {})
        == ("a" + text).rstrip() + (text + "b\r\n").lstrip() + text
    )


@given(st.text(max_size=200), st.dictionaries(st.sampled_from("abc"), st.none() | st.integers() | st.text()))
def test_any_text_is_either_filled_in_or_refused(template: str, values: dict[str, Any]) -> None:
    with suppress(BadInput):
        assert isinstance(fill(template, values, limit=LIMIT), str)


@given(st.lists(st.text(max_size=20), max_size=20), st.text(max_size=5))
def test_filling_in_equals_joining(parts: list[str], delimiter: str) -> None:
    assert fill("{{ xs | join(d) }}", {"xs": parts, "d": delimiter}) == delimiter.join(parts)


def test_a_template_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.05)
    with pytest.raises(BadInput, match=r"it takes longer than 0\.05 s"):
        fill("{% for i in range(90000) %}{% for j in range(900) %}{% endfor %}{% endfor %}", {}, limit=10**9)
