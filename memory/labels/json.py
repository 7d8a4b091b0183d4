"""Label files in JSON: descriptions by name, CuPL, lists, COCO and LVIS categories, and JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from memory.category import Description
from memory.errors import LabelError, printable
from memory.labels.class_lists import class_list, sample
from memory.labels.json_document import Json, parse_json
from memory.labels.rows import Examples, LabelFile, Labelling, LabelRow, make_description
from memory.templates import contains_name
from memory.wording import counted

_SHAPES = 'Write {"name": ["description", ...]}, a list of names, or one {"name": ..., "descriptions": [...]} per line'
_EXPORTED = frozenset({"vectors", "exemplar_hashes"})
_FIELDS = frozenset({"group", "description", "descriptions", "metadata", "aliases", "synonyms"}) | _EXPORTED


def read_document(file: LabelFile, document: Json, format: str) -> Labelling:
    """Read a parsed document.

    Args:
        file: where it comes from.
        document: any JSON value.
        format: "json" decides by content; the others are "descriptors", "cupl", "coco" and "jsonl" (records).

    Raises:
        LabelError: the document has another shape.
    """
    if format == "json":
        found = class_list(file, document)
        if found is not None:
            return found
        format = _format(file, document)
    if format == "coco":
        rows = list(_coco_rows(file, document))
        is_lvis = any(row.aliases for row in rows)
        return Labelling("LVIS categories" if is_lvis else "COCO categories", rows)
    if format == "jsonl":
        is_names = isinstance(document, list) and all(isinstance(record, str) for record in document)
        return Labelling("JSON list of names" if is_names else "JSON records", _list_rows(file, document))
    if format == "cupl":
        return Labelling("JSON of sentences by name (CuPL)", _description_rows(file, document, "sentence"))
    return Labelling("JSON of descriptions by name", _description_rows(file, document, "attribute"))


def _format(file: LabelFile, document: Json) -> str:
    name = file.name_column or "name"
    if isinstance(document, list):
        # The lists of categories of COCO and LVIS, without the annotations.
        coco = ("supercategory", "synonyms", "def")
        are_objects = len(document) > 0 and all(isinstance(c, dict) and name in c for c in document)
        return "coco" if are_objects and any(key in c for c in document for key in coco) else "jsonl"
    if isinstance(document, dict):
        categories = document.get("categories")
        if isinstance(categories, list) and categories and all(isinstance(c, dict) for c in categories):
            return "coco"
        if {"images", "annotations"} <= document.keys():
            return "coco"
        if isinstance(document.get(name), str):
            return "jsonl"
        if _most_texts_name_their_category(document):
            return "cupl"
    return "descriptors"


def _description_rows(file: LabelFile, document: Json, kind: str) -> Iterator[LabelRow]:
    """Yield the rows of ``{name: [texts]}``; ``kind`` is that of all texts: "attribute" or "sentence"."""
    if not isinstance(document, dict):
        raise file.error("the document is not an object with names as keys", _SHAPES, where="$")
    yield from _readable(file, (partial(_described, file, name, value, kind) for name, value in document.items()))


def _described(file: LabelFile, name: str, value: Json, kind: str) -> LabelRow:
    where = f"$[{printable(name)!r}]"
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise file.error(f"expected a list of texts, found {_shown(value)}", _SHAPES, where=where)
    descriptions = [make_description(file, text, kind, file.path.name, where=where) for text in texts]
    return LabelRow(name, descriptions=descriptions, where=where)


def _readable(file: LabelFile, entries: Iterable[Callable[[], LabelRow]]) -> Iterator[LabelRow]:
    """Yield the rows of entries; where the file may have bad ones, these are noted, unless all are bad."""
    bad, first, is_any_good = Examples(), None, False
    for read in entries:
        try:
            row = read()
        except LabelError as error:
            if not file.skips_bad:
                raise
            first = first or error
            bad.add(f"{error.where or f'line {error.line}'}: {error.message}")
            continue
        is_any_good = True
        yield row
    if first is not None:
        if not is_any_good:
            raise first
        file.notes.append(f"{counted(bad.count, 'entry')} left out: {bad}")


def _coco_rows(file: LabelFile, document: Json) -> Iterator[LabelRow]:
    """Yield the categories of a COCO or LVIS annotation file.

    ``supercategory`` becomes the group, LVIS's ``def`` a description, ``synonyms`` aliases; the other scalar fields are
    metadata. Roboflow's first category, which is the name of the data set, is left out.
    """
    categories = document.get("categories") if isinstance(document, dict) else document
    if not isinstance(categories, list):
        raise file.error("there is no list of categories", 'Give a COCO file: {"categories": [{"name": ...}]}')
    name_field = file.name_column or "name"
    roboflow = _roboflow_root(categories)
    for number, category in enumerate(categories):
        where = f"$.categories[{number}]"
        if not isinstance(category, dict) or not isinstance(category.get(name_field), str):
            raise file.error("the category has no name", f'Give every category a "{name_field}"', where=where)
        if category is roboflow:
            file.notes.append(f"Roboflow's category {printable(category['name'])!r} of the whole data set is left out")
            continue
        group = category.get("supercategory") or ""
        definition = category.get("def")
        texts = [definition] if isinstance(definition, str) and definition else []
        used = (name_field, "supercategory", "def", "synonyms")
        metadata = {
            key: _scalar(value)
            for key, value in category.items()
            if key not in used and _is_scalar(value) and value is not None
        }
        yield LabelRow(
            category[name_field],
            str(group),
            [make_description(file, text, "attribute", file.path.name, where=where) for text in texts],
            metadata,
            aliases=_aliases(file, category, {"where": where}),
            where=where,
        )


def _roboflow_root(categories: list[Json]) -> Json:
    """Return the category that is the supercategory of all others and has none; None where there is no such one."""
    if len(categories) < 2 or not all(isinstance(category, dict) for category in categories):
        return None
    root, *others = categories
    is_root = root.get("id") == 0 and root.get("supercategory") in ("none", None)
    return root if is_root and all(c.get("supercategory") == root.get("name") for c in others) else None


def read_records(file: LabelFile) -> Labelling:
    """Read JSON lines: one object, or one name in quotes, on each line that is not blank."""

    def read(number: int, line: str) -> LabelRow:
        return _record(file, parse_json(file, line, first_line=number), {"line": number})

    lines = enumerate(file.lines(), start=1)
    rows = _readable(file, (partial(read, number, line) for number, line in lines if line.strip()))
    return Labelling("JSON lines", rows, has_lineage=any('"parent"' in line for line in file.lines()))


def _list_rows(file: LabelFile, document: Json) -> Iterator[LabelRow]:
    """Yield the rows of a JSON list of names or records, or of a single record."""
    records = enumerate(document if isinstance(document, list) else [document])
    yield from _readable(file, (partial(_record, file, record, {"where": f"$[{n}]"}) for n, record in records))


def _record(file: LabelFile, record: Json, place: dict[str, Any]) -> LabelRow:
    if isinstance(record, str):
        return LabelRow(record, **place)
    name_field = file.name_column or "name"
    if not isinstance(record, dict) or not isinstance(record.get(name_field), str):
        raise file.error(f"expected an object with a name, found {_shown(record)}", _SHAPES, **place)
    group = record.get("group")
    if group is not None and not isinstance(group, str):
        raise file.error(f"the group is not a text: {_shown(group)}", "Put it in quotes", **place)
    parent = record.get("parent")
    if not isinstance(parent, str) or group or name_field == "parent":
        parent = None
    metadata = _metadata(file, record, name_field, place)
    return LabelRow(
        record[name_field],
        group or "",
        list(_descriptions(file, record, place)),
        metadata if parent is None else {key: value for key, value in metadata.items() if key != "parent"},
        aliases=_aliases(file, record, place),
        parent=parent or "",
        **place,
    )


def _descriptions(file: LabelFile, record: Mapping[str, Any], place: dict[str, Any]) -> Iterator[Description]:
    single, several = record.get("description"), record.get("descriptions")
    entries = [] if single is None or single == "" else [single]
    if isinstance(several, list):
        entries += several
    elif several is not None:
        entries.append(several)
    for entry in entries:
        if isinstance(entry, str):
            yield make_description(file, entry, "attribute", file.path.name, **place)
            continue
        kind, source = ("", "") if not isinstance(entry, dict) else (entry.get("kind"), entry.get("source"))
        text = entry.get("text") if isinstance(entry, dict) else None
        if not isinstance(text, str) or kind not in (None, "attribute", "sentence"):
            raise file.error(
                f"this is not a description: {_shown(entry)}",
                'Write a text, or {"text": ..., "kind": "attribute" or "sentence", "source": ...}',
                **place,
            )
        source = source if isinstance(source, str) else file.path.name
        yield make_description(file, text, kind or "attribute", source, **place)


def _aliases(file: LabelFile, record: Mapping[str, Any], place: dict[str, Any]) -> list[str]:
    """Return the texts under "aliases" and "synonyms", each a text or a list of texts."""
    aliases: list[str] = []
    for key in ("aliases", "synonyms"):
        value = record.get(key)
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise file.error(f"the {key} are {_shown(value)}", 'Write a list of names: ["home plate"]', **place)
        aliases += texts
    return aliases


def _metadata(file: LabelFile, record: Mapping[str, Any], name_field: str, place: dict[str, Any]) -> dict[str, str]:
    nested = record.get("metadata") or {}
    if not isinstance(nested, dict):
        raise file.error(f"the metadata is not an object: {_shown(nested)}", 'Write {"key": "value"}', **place)
    metadata = {}
    further = {key: value for key, value in record.items() if key not in _FIELDS and key != name_field}
    for key, value in {**further, **nested}.items():
        if not _is_scalar(value):
            raise file.error(
                f"the field {printable(key)!r} holds {_shown(value)}",
                "Metadata values are texts, numbers, true or false",
                **place,
            )
        if value is not None:
            metadata[key] = _scalar(value)
    return metadata


def _most_texts_name_their_category(document: Mapping[str, Any]) -> bool:
    # Full sentences nearly always name their category; most of the texts are enough to allow for a few that do not.
    verdicts = [
        contains_name(text, name)
        for name in sample(document)
        for texts in [document[name]]
        for text in (texts if isinstance(texts, list) else [texts])
        if isinstance(text, str)
    ]
    return sum(verdicts) * 2 > len(verdicts)


def _is_scalar(value: Json) -> bool:
    return value is None or isinstance(value, str | int | float)


def _scalar(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Json) -> str:
    return f"{type(value).__name__} {printable(repr(value), 60)}"
