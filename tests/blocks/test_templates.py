"""Templates do what people expect of Jinja2, reach nothing, and cannot grow without end."""

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks.templates import fill
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

HOSTILE = [
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
            fill(template, {}, limit=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 100 * LIMIT
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


@given(st.text(max_size=200), st.dictionaries(st.sampled_from("abc"), st.none() | st.integers() | st.text()))
def test_any_text_is_either_filled_in_or_refused(template: str, values: dict[str, Any]) -> None:
    with suppress(BadInput):
        assert isinstance(fill(template, values, limit=LIMIT), str)


@given(st.lists(st.text(max_size=20), max_size=20), st.text(max_size=5))
def test_filling_in_equals_joining(parts: list[str], delimiter: str) -> None:
    assert fill("{{ xs | join(d) }}", {"xs": parts, "d": delimiter}) == delimiter.join(parts)
