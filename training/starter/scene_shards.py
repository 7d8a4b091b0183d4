"""Shards of scenes composed from the fetched pictures.

usage: python -m training.starter.scene_shards PICTURES FOLDER [--count 10000] [--seed 0] [--size 224] [--plain 0.0]
                                       [--sets stamps qabcs ...] [--backgrounds scratch] [--development]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. Only names of the training folds are
used; with --development, only those of the development fold. The held-out fold is never used.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from recognizer.console import note, progress_bar
from training.data.record import to_fields
from training.data.shards import ShardSample, write_shards
from training.starter.composer import Composer, GroundedSettings
from training.starter.emoji import STYLES, emoji
from training.starter.furniture import furniture
from training.starter.pictures import (
    DEVELOPMENT,
    TRAINING,
    Picture,
    backgrounds,
    costumes,
    demo_photographs,
    in_folds,
    qabcs,
    stamps,
)
from training.starter.scene_texts import SceneTexts
from training.starter.wordnet import WordNet

Purpose = Literal["training", "development"]
FOLDS_OF: dict[Purpose, tuple[int, ...]] = {"training": TRAINING, "development": (DEVELOPMENT,)}
GROUNDS: dict[str, Callable[[Path], list[Path]]] = {"scratch": backgrounds, "demo": demo_photographs}
SETS = ("stamps", "qabcs", "costumes", "furniture", *STYLES)
_JPEG_QUALITY = 90


def load_pictures(root: Path, sets: Iterable[str] = SETS) -> list[Picture]:
    """List the pictures of several sets, of all folds.

    Args:
        root: the folder that `fetch_pictures.sh` fills.
        sets: some of `SETS`.

    Raises:
        FileNotFoundError: a set is missing.
        KeyError: a name is not in `SETS`.
    """
    listers: dict[str, Callable[[Path], list[Picture]]] = {
        "stamps": stamps,
        "qabcs": qabcs,
        "costumes": costumes,
        "furniture": furniture,
    }
    for style in STYLES:
        listers[style] = lambda root, style=style: emoji(root, style)  # type: ignore[misc]
    return [picture for name in sets for picture in listers[name](root)]


def make_composer(
    root: Path,
    pictures: Sequence[Picture],
    *,
    seed: int,
    purpose: Purpose = "training",
    grounds: str = "scratch",
    settings: GroundedSettings | None = None,
) -> Composer:
    """Make the composer of scenes for one purpose from pictures of all folds.

    Args:
        root: the folder that `fetch_pictures.sh` fills; WordNet is read from it if it is there.
        pictures: of all folds; those of other folds are left out, and their names never appear in a text.
        seed: of every choice.
        purpose: determines the folds.
        grounds: source of the backgrounds, one of `GROUNDS`.
        settings: sizes and numbers.

    Raises:
        FileNotFoundError: there are no backgrounds.
        ValueError: no picture is left.
    """
    folds = FOLDS_OF[purpose]
    usable = in_folds(pictures, folds)
    names = {picture.name for picture in usable}
    reserved = sorted({picture.name for picture in pictures} - names)
    texts = SceneTexts(folds, WordNet.where_fetched(root), reserved=reserved)
    return Composer(usable, GROUNDS[grounds](root), texts, seed=seed, settings=settings)


def scene_samples(composer: Composer, count: int) -> Iterator[ShardSample]:
    """Compose scenes 0 to count - 1 as shard samples."""
    for number in range(count):
        image, record = composer(number)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_JPEG_QUALITY)
        yield ShardSample(f"{number:08d}", stream.getvalue(), to_fields(record))


def main() -> None:
    """Write the shards for the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=224, help="side of a scene in pixels")
    parser.add_argument(
        "--plain", type=float, default=0.0, help="share of scenes with one object on a plain background"
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--backgrounds", choices=list(GROUNDS), default="scratch")
    parser.add_argument("--development", action="store_true")
    arguments = parser.parse_args()
    purpose: Purpose = "development" if arguments.development else "training"
    composer = make_composer(
        arguments.pictures,
        load_pictures(arguments.pictures, arguments.sets),
        seed=arguments.seed,
        purpose=purpose,
        grounds=arguments.backgrounds,
        settings=GroundedSettings(size=arguments.size, plain=arguments.plain),
    )
    with progress_bar(arguments.count, "scenes", "composing") as advance:
        paths = write_shards(_counted(scene_samples(composer, arguments.count), advance), arguments.folder)
    chosen = ("seed", "count", "size", "plain", "sets", "backgrounds")
    facts = {name: getattr(arguments, name) for name in chosen} | {"purpose": purpose}
    (arguments.folder / "scenes.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    note(f"{len(paths)} shards in {arguments.folder}")


def _counted(samples: Iterable[ShardSample], advance: Callable[[int], None]) -> Iterator[ShardSample]:
    for sample in samples:
        yield sample
        advance(1)


if __name__ == "__main__":
    main()
