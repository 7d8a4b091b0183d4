"""Label files in YAML (YOLO), in protocol buffer text (TensorFlow), in XML (Label Studio) and as Python literals."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Hashable, Iterator
from xml.etree import ElementTree

from memory.errors import printable
from memory.labels.class_lists import class_list
from memory.labels.json_document import Json
from memory.labels.rows import LabelFile, Labelling, LabelRow, first_repeated

_SPACE = re.compile(r"\s*")
_VIEW = re.compile(r"<View\b")
_ITEM = re.compile(r"\bitem\s*:?\s*\{")
_STRING = r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\''
_FIELD = re.compile(rf"\b(?P<key>\w+)\s*:\s*(?:{_STRING}|[^\s{{}}]+)|(?P<brace>[{{}}])|#[^\n]*|\n")


def read_yaml(file: LabelFile) -> Labelling:
    """Read a YAML file: ``names`` (a list, or names by index) as YOLO has them, or a list of names.

    Every plain value is a text, so that a class called "no" stays one.

    Raises:
        LabelError: not YAML, a key twice, an alias (``*x``), or no list of names.
    """
    document = _parse_yaml(file)
    if isinstance(document, list) and document and all(isinstance(name, str) for name in document):
        return Labelling("YAML list of names", [LabelRow(name, where=f"[{i}]") for i, name in enumerate(document)])
    if isinstance(document, dict) and isinstance(document.get("names"), list | dict):
        found = class_list(file, {"names": document["names"]})
        if found is not None:
            return Labelling("YOLO names", found.rows)
    elif (found := class_list(file, document)) is not None:
        return found
    keys = f"; its keys are {', '.join(repr(printable(key)) for key in document)}" if isinstance(document, dict) else ""
    raise file.error(
        f"the YAML has no list of names{keys}", "Write 'names: [red fox, grey heron]', or give another label file"
    )


def is_yaml_with_names(file: LabelFile) -> bool:
    """Say whether a text has a line that begins with ``names:`` among other keys, as YOLO's data files do."""
    if not all(re.match(r"[\w-]+:|[\s#\]}-]|\S+[,\]]", line) for line in file.lines() if line.strip()):
        return False
    return any(re.match(r"names:\s*(?:[\[#{]|$)", line) for line in file.lines())


def read_label_map(file: LabelFile) -> Labelling:
    """Read TensorFlow's labelmap.pbtxt: ``item { id: 1 name: "cat" }``; ``display_name`` is preferred to ``name``.

    Raises:
        LabelError: an item has no name.
    """
    return Labelling("TensorFlow label map", list(_items(file)))


def is_label_map(file: LabelFile) -> bool:
    """Say whether a text begins like a label map, after comments."""
    text = re.sub(r"^(?:\s*#[^\n]*\n)+", "", file.start)
    return _ITEM.match(text.lstrip()) is not None


def read_label_config(file: LabelFile) -> Labelling:
    """Read the labels, else the choices, of a Label Studio configuration; nested choices have their parents as group.

    Raises:
        LabelError: not XML, or without labels and choices.
    """
    if re.search(r"<!(?:DOCTYPE|ENTITY)", file.text, re.IGNORECASE):
        raise file.error("the XML has a DOCTYPE or an ENTITY", "Remove it; a label configuration needs none")
    try:
        root = ElementTree.fromstring(file.text)
        rows = list(_labels(root))
    except (ElementTree.ParseError, ValueError) as error:
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else None
        raise file.error(f"this is not XML: {error}", "Correct the XML", line=line) from error
    except RecursionError as error:
        raise file.error("the XML is nested too deeply", "Use fewer levels") from error
    if not rows:
        raise file.error(
            "the XML has no labels",
            'Give a Label Studio configuration with <Label value="..."/> or <Choice value="..."/>',
        )
    return Labelling("Label Studio configuration", rows)


def is_label_config(file: LabelFile) -> bool:
    """Say whether a text is XML with Label Studio's root element."""
    text, place = file.start, 0
    while True:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]  # it matches the empty text
        end = "-->" if text.startswith("<!--", place) else "?>" if text.startswith("<?xml", place) else None
        if end is None:
            return _VIEW.match(text, place) is not None
        place = text.find(end, place) + len(end)
        if place < len(end):  # it does not end
            return False


def python_literal(file: LabelFile) -> Json | None:
    """Return the value of a text that is a Python list or dictionary, with keys as texts; None for other texts.

    The text is parsed, and no code is run.

    Raises:
        LabelError: a key stands twice in a dictionary.
    """
    if file.start.lstrip()[:1] not in ("[", "{"):
        return None
    text = file.text.strip()
    if not (text[:1] in ("[", "{") and text[-1:] in ("]", "}")):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of a backslash in a name
            tree = ast.parse(text, mode="eval")
            value = ast.literal_eval(tree)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    if isinstance(tree.body, ast.Dict):
        double = first_repeated(key.value for key in tree.body.keys if isinstance(key, ast.Constant))
        if double is not None:
            raise file.error(f"the key {printable(str(double))!r} occurs twice", "Rename or merge one of the entries")
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else value


def _parse_yaml(file: LabelFile) -> Json:
    import yaml

    class Loader(yaml.BaseLoader):
        """Reads every scalar as a text, and refuses aliases and keys that stand twice."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()  # type: ignore[no-untyped-call]
                raise yaml.MarkedYAMLError(problem="an alias (*)", problem_mark=event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Json]:
            keys = [key for key, _ in node.value]
            double = first_repeated(key.value for key in keys if isinstance(key, yaml.ScalarNode))
            if double is not None:
                mark = [key for key in keys if key.value == double][1].start_mark
                raise yaml.MarkedYAMLError(problem=f"the key {printable(double)!r} twice", problem_mark=mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(file.text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise file.error(
            f"this YAML cannot be read: {printable(error.problem or error.context or 'bad syntax')}",
            "Correct the YAML, or say with --format what kind of file it is",
            line=mark.line + 1 if mark is not None else None,
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise file.error(f"this YAML cannot be read: {printable(str(error))}", "Correct the YAML") from error
    except RecursionError as error:
        raise file.error("the YAML is nested too deeply", "Use fewer levels") from error


def _items(file: LabelFile) -> Iterator[LabelRow]:
    """Yield the row of each item; braces inside an item (keypoints) hold fields of others, which are left out."""
    line, depth, start = 1, 0, 1
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(file.text):
        if match["brace"] == "{":
            depth += 1
            if depth == 1:
                fields, start = {}, line
        elif match["brace"] == "}":
            depth -= 1
            if depth == 0:
                name = fields.get("display_name") or fields.get("name")
                if not name:
                    raise file.error("the item has no name", "Give every item a name", line=start)
                mid = fields.get("name", "")
                yield LabelRow(name, metadata={"mid": mid} if mid not in ("", name) else {}, line=start)
        elif match["key"] and depth == 1:
            text = match[2] if match[2] is not None else match[3]
            if text is not None:
                fields[match["key"]] = re.sub(r"\\(['\"\\])", r"\1", text)
        line += match.group().count("\n")


def _labels(root: ElementTree.Element) -> Iterator[LabelRow]:
    labels = [element.get("value", "") for element in root.iter("Label")]
    if labels:
        for number, value in enumerate(labels, start=1):
            yield LabelRow(value, where=f"Label {number}")
        return
    for control in (element for element in root.iter() if element.tag != "Choice"):
        for choice in control.findall("Choice"):
            yield from _choices(choice, ())


def _choices(choice: ElementTree.Element, parents: tuple[str, ...]) -> Iterator[LabelRow]:
    value = choice.get("value", "")
    children = choice.findall("Choice")
    if not children:
        yield LabelRow(value, ";".join(parents), where=f"Choice {printable(value)!r}")
    for child in children:
        yield from _choices(child, (*parents, value))
