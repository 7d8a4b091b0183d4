"""Plain YAML: mappings, lists, texts, numbers, booleans and nulls, of limited size and depth.

Settings need nothing else, and the rest of YAML is where its surprises are: aliases that unfold to gigabytes, tags that
call constructors, numbers in base 60, dates, and keys that silently replace earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from memory.errors import printable

# A training config that lists 3,000 shards; this much is read in seconds.
MOST_BYTES = 2**18
# The deepest setting has four keys; 20 levels are far below Python's limit of recursion.
DEEPEST = 20
LONGEST_PROBLEM = 200

# Those of YAML 1.1 without octal numbers and base 60 (`1:30` is a text), which takes quadratic time to convert.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
)
_KEPT = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool")


class PlainYamlError(ValueError):
    """A text that is not plain YAML; the message is one short printable line."""


def load_plain_yaml(text: str | bytes) -> Any:  # noqa: ANN401  any value of YAML
    """Read one YAML document.

    Args:
        text: the document; bytes are UTF-8.

    Raises:
        PlainYamlError: it is no YAML, too large or too deep, or has an alias, a tag or a key twice.
    """
    if len(text) > MOST_BYTES:
        raise PlainYamlError(f"it is larger than {MOST_BYTES} bytes")
    try:
        return yaml.load(text.decode("utf-8") if isinstance(text, bytes) else text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise PlainYamlError(f"{place}{printable(error.problem or 'no YAML', LONGEST_PROBLEM)}") from error
    except (yaml.YAMLError, ValueError) as error:  # characters that YAML forbids, integers of thousands of digits
        raise PlainYamlError(printable(" ".join(str(error).split()), LONGEST_PROBLEM)) from error


class _PlainLoader(yaml.SafeLoader):
    """Refuses while it reads, before anything is unfolded or constructed."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"the alias *{event.anchor} is not allowed; write the value out", event)
        if event.tag is not None:
            raise _refused(f"the tag {event.tag!r} is not allowed; put a text into quotes", event)
        if self._depth == DEEPEST:
            raise _refused(f"it is nested more than {DEEPEST} levels deep", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused("a list or a mapping cannot be a key", key_node)
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise _refused(f"the key {key!r} was already set in line {lines[key]}; keep one of them", key_node)
            lines[key] = line
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _refused(problem: str, place: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401  an event or a node
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
