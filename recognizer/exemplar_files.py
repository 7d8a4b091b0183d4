"""Example images in and out of a memory; an image is encoded once, and known again by the hash of its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memory import Category, ExemplarSet, Memory
from memory.durable import file_sha256
from memory.errors import UnknownCategory, printable
from memory.vectors import Matrix, MemoryVectors
from memory.wording import counted
from recognizer.encoder import Encoder
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.labelled import LabelledSet, match_labels, read_labelled
from recognizer.exemplars import equal_images, store_head
from recognizer.features import FeatureStore
from recognizer.images import ImageItem


@dataclass(frozen=True, slots=True, eq=False)
class EncodedExemplars:
    """Example images that were read.

    Attributes:
        exemplars: in the order of the files; a file counts once per category.
        encoded: how many images were encoded, the others being known already.
        problems: a sentence per image or label that could not be used.
    """

    exemplars: ExemplarSet
    encoded: int
    problems: Sequence[str]


def exemplar_images(categories: Sequence[Category], folder: Path | None) -> LabelledSet | None:
    """Find the example images of categories: those that the label file names, and those of a labelled folder.

    Args:
        categories: of the label file.
        folder: an ImageFolder or a CSV of path and label, or None.

    Raises:
        LabelledSetError: the folder holds nothing that fits.
    """
    if folder is not None:
        return match_labels(read_labelled(folder), categories)
    named = [(path, category.name) for category in categories for path in category.exemplars]
    if not named:
        return None
    rows = {category.name: row for row, category in enumerate(categories)}
    items = [
        ImageItem(path.encode(errors="surrogateescape"), path.encode(errors="surrogateescape")) for path, _ in named
    ]
    return LabelledSet(items, [rows[name] for _, name in named], {})


def encode_exemplars(
    encoder: Encoder,
    categories: Sequence[Category],
    images: LabelledSet,
    *,
    known: Mapping[str, Matrix] | None = None,
    features: FeatureStore | None = None,
) -> EncodedExemplars:
    """Encode the example images that are not known yet.

    Args:
        encoder: of the memory.
        categories: what the rows of `images` refer to.
        images: the files and their categories.
        known: by the sha256 of a file its vector (D,), by the same encoder.
        features: stored ones, which are used and added to.
    """
    vectors = dict(known or {})
    hashes = [_sha256(item) for item in images.items]
    new = [place for place, digest in enumerate(hashes) if digest not in vectors]
    failures = Failures()
    items = [images.items[place] for place in new]
    encoded = 0
    for batch in encode_labelled(encoder, items, new, failures, features=features):
        for place, digest, vector in zip(batch.rows.tolist(), batch.hashes, batch.features.image, strict=True):
            hashes[place], vectors[digest] = digest, vector
            encoded += 1
    once: dict[tuple[str, str], str] = {}
    for row, digest, item in zip(images.rows, hashes, images.items, strict=True):
        if digest in vectors:
            once.setdefault((categories[row].id, digest), item.key)
    kept = list(once.items())
    problems = [f"exemplar {item.key} left out: {error}" for item, error in failures.errors]
    problems += [
        f"{counted(number, 'exemplar')} left out: {label!r} is not a category of the label file"
        for label, number in images.unmatched.items()
    ]
    exemplars = ExemplarSet(
        [category_id for (category_id, _), _ in kept],
        [key for _, key in kept],
        [digest for (_, digest), _ in kept],
        np.array([vectors[digest] for (_, digest), _ in kept], np.float32).reshape(len(kept), encoder.card.dim),
    )
    return EncodedExemplars(exemplars, encoded, problems)


def known_vectors(vectors: MemoryVectors) -> dict[str, Matrix]:
    """Return the vector of each exemplar of a memory by the hash of its file."""
    return dict(zip(vectors.exemplar_hashes, vectors.exemplars, strict=True))


def add_exemplars(
    memory: Memory, encoder: Encoder, folder: Path, *, features: FeatureStore | None = None
) -> EncodedExemplars:
    """Add example images to categories of a memory; those that it has already stay as they are.

    Args:
        memory: an opened one.
        encoder: that of the memory.
        folder: an ImageFolder or a CSV of path and label.
        features: stored ones, which are used and added to.

    Raises:
        EncoderMismatch: another encoder made the memory.
        LabelledSetError: the folder holds nothing that fits.
    """
    memory.require_encoder(encoder.card)
    images = match_labels(read_labelled(folder), memory.vectors.categories)
    place = folder if folder.is_dir() else folder.parent
    return add_labelled(memory, encoder, images, place=place.absolute(), features=features)


def add_labelled(
    memory: Memory, encoder: Encoder, images: LabelledSet, *, place: Path, features: FeatureStore | None = None
) -> EncodedExemplars:
    """Add images whose category is known as `add_exemplars` does.

    Args:
        memory: an opened one.
        encoder: that of the memory.
        images: the files; their keys become the references of the exemplars.
        place: where they come from; part of the reference where the memory has another image of that reference.
        features: stored ones, which are used and added to.
    """
    vectors = memory.vectors
    read = encode_exemplars(encoder, vectors.categories, images, known=known_vectors(vectors), features=features)
    present = stored_exemplars(vectors)
    have = set(zip(present.category_ids, present.hashes, strict=True))
    pairs = zip(read.exemplars.category_ids, read.exemplars.hashes, strict=True)
    new = [number for number, pair in enumerate(pairs) if pair not in have]
    added = take_exemplars(read.exemplars, new)
    memory.replace_exemplars(join_exemplars(present, replace(added, references=_distinct(added, present, place))))
    store_head(memory)
    return read


def remove_exemplars(memory: Memory, names: Sequence[str]) -> int:
    """Remove example images from a memory; return how many.

    Args:
        memory: an opened one.
        names: references of exemplars, as the memory has them, or names of categories, all of whose
            exemplars go.

    Raises:
        UnknownCategory: a text is neither; then nothing is removed.
    """
    vectors = memory.vectors
    present = stored_exemplars(vectors)
    names_by_id = {category.id: category.name for category in vectors.categories}
    owners = [names_by_id[category_id] for category_id in present.category_ids]
    unknown = set(names) - {*present.references, *owners}
    if unknown:
        raise UnknownCategory(
            f"{printable(min(unknown))!r} is neither an exemplar of the memory nor a category with exemplars. Give a "
            "path as `recognizer export` lists it, or a name."
        )
    pairs = enumerate(zip(present.references, owners, strict=True))
    kept = [place for place, pair in pairs if not set(pair) & set(names)]
    memory.replace_exemplars(take_exemplars(present, kept))
    store_head(memory)
    return len(owners) - len(kept)


def warnings_about(vectors: MemoryVectors, hashes: Collection[str] | None = None) -> list[str]:
    """Return a sentence for each image, of some files or all, that is an exemplar of several categories."""
    return [f"equal images of different categories: {', '.join(same)}" for same in equal_images(vectors, hashes)]


def stored_exemplars(vectors: MemoryVectors) -> ExemplarSet:
    """Return the exemplars of a memory as one set."""
    counts = np.diff(vectors.exemplar_offsets).tolist()
    ids = [category.id for category, count in zip(vectors.categories, counts, strict=True) for _ in range(count)]
    return ExemplarSet(ids, vectors.exemplar_references, vectors.exemplar_hashes, vectors.exemplars)


def take_exemplars(exemplars: ExemplarSet, places: Sequence[int]) -> ExemplarSet:
    """Return some exemplars of a set."""
    return ExemplarSet(
        [exemplars.category_ids[place] for place in places],
        [exemplars.references[place] for place in places],
        [exemplars.hashes[place] for place in places],
        exemplars.vectors[list(places)],
    )


def join_exemplars(one: ExemplarSet, other: ExemplarSet) -> ExemplarSet:
    """Return the exemplars of two sets as one."""
    return ExemplarSet(
        [*one.category_ids, *other.category_ids],
        [*one.references, *other.references],
        [*one.hashes, *other.hashes],
        np.concatenate([one.vectors, other.vectors]),
    )


def _distinct(added: ExemplarSet, present: ExemplarSet, place: Path) -> list[str]:
    """Return references that no other image of the memory has: with the name of their place where they had."""
    hash_of = dict(zip(present.references, present.hashes, strict=True))
    return [
        reference if hash_of.get(reference, digest) == digest else f"{place}/{reference}"
        for reference, digest in zip(added.references, added.hashes, strict=True)
    ]


def _sha256(item: ImageItem) -> str:
    """Return the sha256 of a file; empty where it cannot be read, of which its decoder then says more."""
    try:
        return file_sha256(item.path)
    except OSError:
        return ""
