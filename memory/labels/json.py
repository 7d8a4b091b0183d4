"""Label files in JSON: descriptions by name, CuPL, lists, COCO and LVIS categories, and JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memory.category import Description
from memory.errors import printable
from memory.labels.json_document import Json, parse_json
from memory.labels.rows import LabelFile, LabelRow, make_description
from memory.templates import contains_name

_SHAPES = 'Write {"name": ["description", ...]}, a list of names, or one {"name": ..., "descriptions": [...]} per line'
_EXPORTED = frozenset({"vectors", "exemplar_hashes"})
_FIELDS = frozenset({"name", "group", "description", "descriptions", "metadata"}) | _EXPORTED


def json_format(document: Json) -> str:
    """Say which format a parsed document has: "coco", "jsonl" (records), "cupl" or "descriptors"."""
    if isinstance(document, list):
        return "jsonl"
    if isinstance(document, dict):
        categories = document.get("categories")
        if isinstance(categories, list) and categories and all(isinstance(c, dict) for c in categories):
            return "coco"
        if {"images", "annotations"} <= document.keys():
            return "coco"
        if isinstance(document.get("name"), str):
            return "jsonl"
        if _most_texts_name_their_category(document):
            return "cupl"
    return "descriptors"


def description_rows(file: LabelFile, document: Json, kind: str) -> Iterator[LabelRow]:
    """Yield the rows of ``{name: [texts]}``; ``kind`` is that of all texts: "attribute" or "sentence"."""
    if not isinstance(document, dict):
        raise file.error("the document is not an object with names as keys", _SHAPES, where="$")
    for name, value in document.items():
        where = f"$[{printable(name)!r}]"
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise file.error(f"expected a list of texts, found {_shown(value)}", _SHAPES, where=where)
        yield LabelRow(
            name,
            descriptions=[make_description(file, text, kind, file.path.name, where=where) for text in texts],
            where=where,
        )


def coco_rows(file: LabelFile, document: Json) -> Iterator[LabelRow]:
    """Yield the categories of a COCO or LVIS annotation file.

    ``supercategory`` becomes the group, LVIS's ``def`` a description; the other scalar fields are metadata, and
    so are synonyms.
    """
    categories = document.get("categories") if isinstance(document, dict) else document
    if not isinstance(categories, list):
        raise file.error("there is no list of categories", 'Give a COCO file: {"categories": [{"name": ...}]}')
    for number, category in enumerate(categories):
        where = f"$.categories[{number}]"
        if not isinstance(category, dict) or not isinstance(category.get("name"), str):
            raise file.error("the category has no name", 'Give every category a "name"', where=where)
        group = category.get("supercategory") or ""
        definition = category.get("def")
        texts = [definition] if isinstance(definition, str) and definition else []
        used = ("name", "supercategory", "def", "synonyms")
        metadata = {key: _scalar(value) for key, value in category.items() if key not in used and _is_scalar(value)}
        synonyms = category.get("synonyms")
        if isinstance(synonyms, list):
            metadata["synonyms"] = "; ".join(map(str, synonyms))
        yield LabelRow(
            category["name"],
            str(group),
            [make_description(file, text, "attribute", file.path.name, where=where) for text in texts],
            metadata,
            where=where,
        )


def record_rows(file: LabelFile) -> Iterator[LabelRow]:
    """Yield the rows of JSON lines: one object, or one name in quotes, on each line that is not blank."""
    for number, line in enumerate(file.lines(), start=1):
        if line.strip():
            yield _record(file, parse_json(file, line, first_line=number), {"line": number})


def list_rows(file: LabelFile, document: Json) -> Iterator[LabelRow]:
    """Yield the rows of a JSON list of names or records, or of a single record."""
    for number, record in enumerate(document if isinstance(document, list) else [document]):
        yield _record(file, record, {"where": f"$[{number}]"})


def _record(file: LabelFile, record: Json, place: dict[str, Any]) -> LabelRow:
    if isinstance(record, str):
        return LabelRow(record, **place)
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        raise file.error(f"expected an object with a name, found {_shown(record)}", _SHAPES, **place)
    group = record.get("group")
    if group is not None and not isinstance(group, str):
        raise file.error(f"the group is not a text: {_shown(group)}", "Put it in quotes", **place)
    return LabelRow(
        record["name"],
        group or "",
        list(_descriptions(file, record, place)),
        _metadata(file, record, place),
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


def _metadata(file: LabelFile, record: Mapping[str, Any], place: dict[str, Any]) -> dict[str, str]:
    nested = record.get("metadata") or {}
    if not isinstance(nested, dict):
        raise file.error(f"the metadata is not an object: {_shown(nested)}", 'Write {"key": "value"}', **place)
    metadata = {}
    for key, value in {**{k: v for k, v in record.items() if k not in _FIELDS}, **nested}.items():
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
        for name, texts in document.items()
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
