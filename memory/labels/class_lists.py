"""Lists of classes in JSON, YAML or a Python literal, as other tools write them: names by index, indexes by name.

Each reader takes a parsed document and returns its rows, or None when the document is of another format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TypeGuard

from memory.category import Description
from memory.errors import printable
from memory.labels.json_document import Json
from memory.labels.rows import LabelFile, Labelling, LabelRow, make_description
from memory.templates import contains_name

# Keys under which tools and scripts write the list of class names.
_LIST_KEYS = (
    "names",
    "classes",
    "class_names",
    "classnames",
    "labels",
    "categories",
    "object_type_names",
    "class_to_idx",
    "idx_to_class",
)
_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_WNID = re.compile(r"n\d{8}", re.ASCII)
_GENERIC = re.compile(r"LABEL_\d+")


def class_list(file: LabelFile, document: Json) -> Labelling | None:
    """Read a list of classes; None when the document is none.

    Raises:
        LabelError: it is a list of classes without names.
    """
    if not isinstance(document, dict) or not document:
        return None
    return (
        _hugging_face(file, document)
        or _list_under_a_key(file, document)
        or _index(document, "$")
        or _synsets(document)
        or _ontology(file, document)
    )


def sample(document: Mapping[str, Json]) -> list[str]:
    """Return about a thousand keys of a document, the same ones in whatever order it has them.

    They are enough to tell what its texts are; comparing 100,000 names with their texts takes 20 s.
    """
    return sorted(document)[:: max(1, len(document) // 1000)]


def _hugging_face(file: LabelFile, document: dict[str, Json]) -> Labelling | None:
    """Read the ``id2label`` or ``label2id`` of a model's config.json."""
    for key in ("id2label", "label2id"):
        if isinstance(document.get(key), dict) and (found := _index(document[key], f"$.{key}")):
            rows = list(found.rows)
            if all(_GENERIC.fullmatch(row.name) for row in rows):
                raise file.error(
                    f"{key} has placeholders instead of names, such as {rows[0].name!r}",
                    "Give a file with the names of the classes",
                    where=f"$.{key}",
                )
            return Labelling(f"Hugging Face {key}", rows)
    return None


def _list_under_a_key(file: LabelFile, document: dict[str, Json]) -> Labelling | None:
    """Read ``{"names": [...]}``, where a list of classes stands alone or beside values that are no descriptions."""
    lower = {key.lower(): key for key in document}  # MMSegmentation and others write CLASSES
    keys = [lower[key] for key in _LIST_KEYS if key in lower]
    keys = [key for key in keys if document[key] == [] or _is_list(document[key])]
    others = [value for key, value in document.items() if key not in keys and key != "templates"]
    # {"labels": ["sticky paper"], "cans": ["shiny metal"]} are descriptions of two categories.
    if not keys or any(_is_texts(value) for value in others):
        return None
    key = keys[0]
    if not document[key]:
        raise file.error(
            f"the list under {key!r} is empty", "Write at least one category name into it", where=f"$.{key}"
        )
    return Labelling(f"list under {key!r}", _entries(document[key], f"$.{key}"))


def _index(document: dict[str, Json], where: str) -> Labelling | None:
    """Read names by index (TorchServe), WordNet ids and names by index (Keras), or indexes by name (torchvision)."""
    if not _is_list(document):
        return None
    if all(map(_is_index, document)):
        is_keras = any(isinstance(value, list) for value in document.values())
        format = "Keras class index" if is_keras else "names by index (index_to_name)"
    else:
        format = "indexes by name (class_to_idx)"
    return Labelling(format, _entries(document, where))


def _synsets(document: dict[str, Json]) -> Labelling | None:
    """Read names by WordNet id: ``{"n02119022": "red fox"}``, or a list of names, the first of which is shown."""
    if not all(map(_WNID.fullmatch, document)):
        return None
    rows = []
    for wnid, value in document.items():
        names = [value] if isinstance(value, str) else value
        if not _is_texts(names) or not names:
            return None
        rows.append(LabelRow(names[0], metadata={"wnid": wnid}, aliases=names[1:], where=f"$.{wnid}"))
    return Labelling("names by WordNet id", rows)


def _ontology(file: LabelFile, document: dict[str, Json]) -> Labelling | None:
    """Read ``{caption: class}`` of autodistill; captions that are not the class itself become sentences about it.

    It is told from ``{name: description}`` by captions that contain their class, which most do.
    """
    if not all(isinstance(value, str) for value in document.values()):
        return None
    verdicts = Counter(
        "ontology" if contains_name(key, value) else "descriptions" if contains_name(value, key) else "unknown"
        for key in sample(document)
        if (value := document[key])
    )
    if verdicts["ontology"] * 2 <= verdicts.total():
        return None
    rows = []
    for caption, name in document.items():
        where = f"$[{printable(caption)!r}]"
        sentences: list[Description] = []
        if caption != name:
            sentences.append(make_description(file, caption, "sentence", file.path.name, where=where))
        rows.append(LabelRow(name, descriptions=sentences, where=where))
    return Labelling("autodistill ontology (caption: class)", rows)


def _entries(value: Json, where: str) -> list[LabelRow]:
    """Return the rows of a list of names, of names by index, or of indexes by name; in the order of the indexes."""
    if isinstance(value, list):
        return [LabelRow(name, where=f"{where}[{place}]") for place, name in enumerate(value)]
    if all(map(_is_index, value)):
        rows = []
        for index, name in sorted(value.items(), key=lambda item: int(item[0])):
            wnid, name = name if isinstance(name, list) else ("", name)
            rows.append(LabelRow(name, metadata={"wnid": wnid} if wnid else {}, where=f"{where}.{index}"))
        return rows
    by_index = sorted(value.items(), key=lambda item: int(item[1]))
    return [LabelRow(name, where=f"{where}[{printable(name)!r}]") for name, _ in by_index]


def _is_list(value: Json) -> bool:
    """Say whether a value is a list of names, names by index, or indexes by name."""
    if isinstance(value, list):
        return _is_texts(value) and len(value) > 0
    if not isinstance(value, dict) or not value:
        return False
    if all(map(_is_index, value)):
        return all(isinstance(name, str) or _is_keras(name) for name in value.values())
    if not all(map(_is_index, value.values())):
        return False
    # Indexes begin at 0 or 1 and have few gaps (COCO's 80 go up to 90); {"nc": 3} and other settings do not.
    indexes = set(map(int, value.values()))
    return len(indexes) == len(value) and min(indexes) <= 1 and max(indexes) <= 2 * len(value)


def _is_keras(value: Json) -> bool:
    return _is_texts(value) and len(value) == 2 and _WNID.fullmatch(value[0]) is not None


def _is_texts(value: Json) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_index(value: Json) -> bool:
    if isinstance(value, str):
        return _INDEX.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
