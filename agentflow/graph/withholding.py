"""Decides what is secret, by one rule: what blocks declare, what a sub-graph's schemas say, and what names suggest.

Exports leave secrets out (`without_secrets`); views, events and logs show `HIDDEN` instead (`hidden_inputs`,
`hidden_output`); error messages are searched for them (`secret_texts`).

A block marks a pin, or a part of a pin's value, as secret in its JSON Schema. Names indicate secrets everywhere: in
literals, in headers, in fields of other systems. They are compared word by word: `api_key`, `dbPassword` and
`OPENAI_API_KEY` are secret; `keyboard`, `max_tokens` and `passwordless` are not. When in doubt a text is withheld: its
owner can give it again, but nobody can take back a published secret.
"""

import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping
from html import escape
from itertools import pairwise
from typing import Any, Final, Literal
from urllib.parse import quote, quote_plus

from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.coercion import coerce
from agentflow.graph.model import AGENT_BLOCK, Node
from agentflow.graph.pins import split
from agentflow.graph.wiring import HasLiterals, schema_pins

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SECRET_WORDS: Final = frozenset(
    {"apikey", "authorization", "bearer", "credential", "credentials", "passphrase", "passwd", "password", "passwords"}
    | {"secret", "secrets", "token"}
)
_SECRET_PAIRS: Final = frozenset({("access", "key"), ("api", "key"), ("api", "keys"), ("private", "key")})
_COUNTING_WORDS: Final = frozenset(
    {"budget", "count", "expires", "expiry", "length", "limit", "max", "maximum", "min", "minimum", "number", "size"}
    | {"total", "ttl"}
)
"""A number with one of these words in its name is not secret: `token_limit`."""

_MARKS: Final = ("secret", "credentials_provider", "password")
"""A schema without any of these words marks nothing as secret."""

_ANY_TEXT: Final = "-"

_SCHEMAS: Final = ("input_schema", "output_schema")

Schema = Mapping[str, Any]

HIDDEN: Final = "**********"
"""The text shown in place of a secret."""

_NAMES: Final = re.compile(r'"([^"\\]{1,200})"\s*:')

_IDENTIFYING_KEYS: Final = frozenset({"provider", "type", "id", "title"})
"""Fields of a credential that only identify it."""

MIN_SEARCHED: Final = 4
"""Minimum length of a secret that is searched for in a message. Shorter ones occur in ordinary words."""


_MIN_ENCODED: Final = 8
"""Minimum length of a part of base64 that is searched for: shorter ones occur by chance."""

_URL_SAFE: Final = str.maketrans("+/", "-_")


def without_secrets(node: Node, spec: BlockSpec | None) -> dict[str, Any]:
    """The literals of `node` that may be exported. `spec`: its block; None if unknown: then only names decide."""
    if node.block_id == AGENT_BLOCK or (spec is not None and spec.kind is BlockKind.AGENT):
        return _of_sub_graph(node)
    schemas, hidden = _rules(node, spec, "input_schema")
    return dict(_shown_pins(node, schemas, hidden))


def hidden_inputs(node: HasLiterals, spec: BlockSpec | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` of `node`, by pin, as they may be shown."""
    schemas, hidden = _rules(node, spec, "input_schema")
    shown = {pin: _hidden_value(pin, value, schemas, hidden) for pin, value in inputs.items()}
    if spec is not None and spec.kind is BlockKind.AGENT:
        shown |= {name: _without_defaults(inputs[name]) for name in _SCHEMAS if name in inputs}
    return shown


def hidden_output(node: HasLiterals, spec: BlockSpec | None, pin: str, value: Any) -> Any:
    """An output `value` of `node` on `pin`, as it may be shown."""
    schemas, hidden = _rules(node, spec, "output_schema")
    return _hidden_value(pin, value, schemas, hidden)


def hides_output(node: HasLiterals, spec: BlockSpec | None, pin: str) -> bool:
    """Whether everything that `node` outputs on `pin` is hidden."""
    return bool(hidden_output(node, spec, pin, _ANY_TEXT) == HIDDEN)


def hidden_entry(name: str, value: Any) -> Any:
    """The value of a named entry (a run's input), as it may be shown."""
    return _hidden_value(name, value, {}, set())


def secret_texts(node: HasLiterals, spec: BlockSpec | None, inputs: Mapping[str, Any]) -> set[str]:
    """The secret texts within `inputs` of `node`, as a message might quote them."""
    found: set[str] = set()
    for pin, shown in hidden_inputs(node, spec, inputs).items():
        _collect(inputs[pin], shown, found)
    return found


def texts(value: Any) -> set[str]:
    """All texts within a value that is wholly secret, as a message might quote them."""
    found: set[str] = set()
    _collect(value, HIDDEN, found)
    return found


def hidden_preview(text: str) -> str:
    """The beginning of a value's JSON text, as it may be shown: hidden if a name in it indicates a secret."""
    return HIDDEN if any(is_secret_name(name) for name in _NAMES.findall(text)) else text


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of `secrets` replaced by `HIDDEN`, in all its `quoted_forms`."""
    for form in _forms(secrets):
        text = text.replace(form, HIDDEN)
    return text


def quoted_forms(secret: str) -> set[str]:
    """A secret as it is, and as JSON, Python, an address, HTML, base64 and hexadecimal digits write it.

    Messages of HTTP libraries quote the address of a request, in which a key with `+`, `/` or `=` is percent-encoded.
    """
    data = secret.encode(errors="surrogatepass")
    addresses = {quote(data, safe=""), quote(data), quote_plus(data)}
    return {
        secret,
        *_json_forms(secret),
        repr(secret)[1:-1],
        repr(data)[2:-1],
        escape(secret),
        *addresses,
        *_encoded(data),
    }


def forms_in_json(secret: str) -> set[str]:
    """What the JSON text of a value that contains a secret, in one of its `quoted_forms`, contains."""
    return {form for quoted in quoted_forms(secret) for form in _json_forms(quoted)}


def _encoded(data: bytes) -> set[str]:
    """What shows `data` in base64 and hexadecimal digits, also where it is a part of what is encoded.

    There the first and the last characters in base64 depend on what stands beside it: they are left out.
    """
    plain = {b64encode(data).decode()}
    for before in range(3):
        whole = b64encode(bytes(before) + data).decode()
        inner = whole[-(-before * 4 // 3) : (before + len(data)) * 4 // 3]
        plain |= {inner} if len(inner) >= _MIN_ENCODED else set()
    safe = {text.translate(_URL_SAFE) for text in plain}
    return plain | safe | {data.hex(), data.hex().upper()}


def _json_forms(text: str) -> set[str]:
    return {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def _forms(secrets: Iterable[str]) -> list[str]:
    """The longest first, because a shorter secret, or form, may be a part of a longer one."""
    return sorted({form for secret in secrets for form in quoted_forms(secret)}, key=len, reverse=True)


def without_texts(value: Any, secrets: Collection[str]) -> Any:
    """`value`, a JSON value, with `HIDDEN` in place of each of `secrets`, in texts and keys at any depth.

    It is searched for in all its `quoted_forms`: a text may hold JSON, or an address.

    A short secret, which ordinary words contain, is replaced only where it is the whole text; so is one of digits where
    it is a number.
    """
    searched = _forms(secret for secret in secrets if len(secret) >= MIN_SEARCHED)
    try:
        return _without(value, frozenset(secrets), searched)
    except RecursionError:  # too deep to inspect: withheld when in doubt
        return HIDDEN


def _without(value: Any, secrets: frozenset[str], searched: list[str]) -> Any:
    if isinstance(value, str):
        if value in secrets:
            return HIDDEN
        for secret in searched:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {_without(key, secrets, searched): _without(entry, secrets, searched) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without(entry, secrets, searched) for entry in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and str(value) in secrets:
        return HIDDEN
    return value


def without_secret_entries(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` without the entries, at any depth, whose names indicate a secret."""
    shown: dict[str, Any] = _shown(value, {}, {})
    return shown


def says_secret(literals: Mapping[str, Any]) -> bool:
    """Whether the literals of an input or output node mark its value as secret: true as its block reads it."""
    return coerce(literals.get("secret"), bool) is True


def is_secret_name(name: str) -> bool:
    """Whether the name of a pin or an entry indicates a secret: `api_key`, `dbPassword`."""
    words = _words(name)
    return not _SECRET_WORDS.isdisjoint(words) or not _SECRET_PAIRS.isdisjoint(pairwise(words))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def _is_secret_input(literals: Mapping[str, Any], spec: BlockSpec | None) -> bool:
    """Whether the value of an input or output node is secret: marked as such, or named like a secret.

    An unknown block may be of such a kind, so the mark alone counts.
    """
    if spec is None:
        return says_secret(literals)
    if spec.kind not in (BlockKind.INPUT, BlockKind.OUTPUT):
        return False
    return says_secret(literals) or _is_secret(str(literals.get("name")), literals.get("value"))


def _rules(
    node: HasLiterals, spec: BlockSpec | None, side: Literal["input_schema", "output_schema"]
) -> tuple[dict[str, Schema], set[str]]:
    """The schemas of a node's pins, and the pins that are hidden entirely."""
    if spec is not None and spec.kind is BlockKind.AGENT:
        own = {name: pin.schema for name, pin in schema_pins(node, side).items()}
        schemas: dict[str, Schema] = {**own, "inputs": {"properties": own}} if side == "input_schema" else dict(own)
        return schemas, {name for name, schema in own.items() if _hides(schema)}
    pins = {} if spec is None else spec.inputs if side == "input_schema" else spec.outputs
    hidden = {name for name, pin in pins.items() if pin.secret or _hides(pin.schema)}
    if _is_secret_input(node.input_default, spec):
        # An input node's value, in and out, is the secret; an output node also outputs its name, which is not.
        hidden |= (
            {"value"} if side == "input_schema" else {name for name in pins if name != "name"} | {"output", "result"}
        )
    return {name: pin.schema for name, pin in pins.items()}, hidden


def _hidden_value(pin: str, value: Any, schemas: Mapping[str, Schema], hidden: Collection[str]) -> Any:
    base, steps = split(pin)
    if value is None:
        return None
    if base in hidden or any(_is_secret(name, value) for name in (base, *(step.part for step in steps))):
        return HIDDEN
    schema: Schema = {} if steps else schemas.get(base, {})
    if not (_names_secrets(value) or any(mark in str(schema) for mark in _MARKS)):
        return value
    try:
        return _shown(value, schema, schema.get("$defs", {}), HIDDEN)
    except RecursionError:  # too deep to inspect: withheld when in doubt
        return HIDDEN


def _names_secrets(value: Any) -> bool:
    """Whether a name at any depth of `value` indicates a secret."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if any(is_secret_name(str(name)) for name in one):
                return True
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return False


def _collect(value: Any, shown: Any, found: set[str]) -> None:
    """Adds the texts of `value` that are hidden in `shown`, the same value with `HIDDEN` in some places."""
    waiting = [(value, shown)]
    while waiting:
        value, shown = waiting.pop()
        whole = shown == HIDDEN
        if isinstance(value, Mapping):
            waiting += [
                (entry, HIDDEN if whole else shown[key])
                for key, entry in value.items()
                if not (whole and key in _IDENTIFYING_KEYS)
            ]
        elif isinstance(value, list | tuple):
            waiting += [(entry, HIDDEN if whole else shown[place]) for place, entry in enumerate(value)]
        elif whole and value != HIDDEN and not isinstance(value, bool) and value is not None:
            text = str(value)
            if len(text) >= MIN_SEARCHED:
                found.add(text)


def _of_sub_graph(node: Node) -> dict[str, Any]:
    """The literals of a sub-graph node that may be exported: its pins follow its own schema, its literals `inputs`."""
    own = {name: pin.schema for name, pin in schema_pins(node, "input_schema").items()}
    schemas = own | {"inputs": {"properties": own}}
    shown = dict(_shown_pins(node, schemas, {name for name, schema in own.items() if _hides(schema)}))
    shown |= {"user_id": ""} if "user_id" in shown else {}  # the owner's id is private
    return shown | {name: _without_defaults(node.input_default[name]) for name in _SCHEMAS if name in shown}


def _without_defaults(schema: Any) -> Any:
    """A sub-graph's schema without the default and example values of its secret inputs."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return schema
    shown = {
        name: {key: part for key, part in entry.items() if key not in ("default", "examples")}
        if isinstance(entry, dict) and (_hides(entry) or is_secret_name(name))
        else entry
        for name, entry in properties.items()
    }
    return {**schema, "properties": shown}


def _shown_pins(node: Node, schemas: Mapping[str, Schema], hidden: set[str]) -> Iterator[tuple[str, Any]]:
    for pin, value in node.input_default.items():
        base, steps = split(pin)
        secret = base in hidden or any(_is_secret(name, value) for name in (base, *(step.part for step in steps)))
        if not secret:
            schema = schemas.get(base, {})
            yield pin, _shown(value, {} if steps else schema, schema.get("$defs", {}))


def _shown(value: Any, schema: Schema, definitions: Schema, instead: str | None = None) -> Any:
    """`value`, of that schema, without its secret entries, or with `instead` in their place."""
    if isinstance(value, list):
        items = [part["items"] for part in _alternatives(schema, definitions) if isinstance(part.get("items"), dict)]
        return [_shown(item, {"anyOf": items}, definitions, instead) for item in value]
    if not isinstance(value, Mapping):
        return value
    alternatives = list(_alternatives(schema, definitions))
    shown = {}
    for key, entry in value.items():
        own = {"anyOf": list(_entry_schemas(key, alternatives))}
        if not (_is_secret(str(key), entry) or _hides(own, definitions)):
            shown[key] = _shown(entry, own, definitions, instead)
        elif instead is not None:
            shown[key] = None if entry is None else instead
    return shown


def _alternatives(schema: Schema, definitions: Schema) -> Iterator[Schema]:
    """The schemas that a value may match: unions opened, references followed once each, as they may be recursive."""
    waiting: list[Any] = [schema]
    followed = set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Mapping):  # a document may hold any JSON here
            continue
        yield one
        name = str(one.get("$ref", "")).rpartition("/")[2]
        if name and name not in followed:
            followed.add(name)
            waiting.append(definitions.get(name, {}))
        for key in ("anyOf", "oneOf", "allOf"):
            waiting.extend(members if isinstance(members := one.get(key), list) else ())


def _entry_schemas(key: str, alternatives: list[Schema]) -> Iterator[Schema]:
    for one in alternatives:
        properties, others = one.get("properties"), one.get("additionalProperties")
        if isinstance(properties, Mapping) and key in properties:
            yield properties[key]
        elif isinstance(others, Mapping):
            yield others


def _hides(schema: Schema, definitions: Schema | None = None) -> bool:
    """Whether a schema marks its value, or the items in it, as secret."""
    alternatives = list(_alternatives(schema, definitions or schema.get("$defs", {})))
    items = [one["items"] for one in alternatives if isinstance(one.get("items"), Mapping)]
    return any(_is_marked(one) for one in (*alternatives, *items))


def _is_marked(schema: Schema) -> bool:
    """Whether it is marked like a pin, like credentials, or as pydantic marks a SecretStr."""
    return schema.get("secret") is True or "credentials_provider" in schema or schema.get("format") == "password"


def _is_secret(name: str, value: Any) -> bool:
    """Whether an entry is secret by its name. Counts and flags (such as `secret` of an input node) are not."""
    if isinstance(value, bool) or not is_secret_name(name):
        return False
    return not isinstance(value, int | float) or _COUNTING_WORDS.isdisjoint(_words(name))
