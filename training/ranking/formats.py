"""The files of questions and answers about images that the trainers of multimodal LLMs read.

Each part (`train`, `held_out`) has a file in three formats; `README.md` beside them says which trainer reads which.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from memory.durable import replacing
from recognizer.results.errors import OutputUnusable
from rerank.prompt import shown

Part = Literal["train", "held_out"]
PARTS: tuple[Part, ...] = ("train", "held_out")

_TAG = "<image>"
# The tag between the marks that InternLM-XComposer takes its first image from.
_RAR_TAG = f"<Img index=1>{_TAG}</Img>"
_DATASET_INFO = "dataset_info.json"
_README = "README.md"
_README_TEXT = """\
# Questions that teach a multimodal LLM to rank

Written by `recognizer rank-data`. No category of the part `train` occurs in the part `held_out`: train on the first,
measure on the second.

| file | for |
|---|---|
| `PART.messages.jsonl` | ms-swift: `--dataset PART.messages.jsonl` |
| `PART.messages.jsonl`, `dataset_info.json` | LLaMA-Factory: `dataset_dir` is this folder, `dataset: ranking_PART` |
| `PART.trl.jsonl` | TRL's SFTTrainer, after `dataset.cast_column("images", datasets.List(datasets.Image()))` |
| `PART.rar.json` | RAR's own code (InternLM-XComposer conversations) |

Images beside this folder have paths relative to it, so that both can be moved together: start the trainer in this
folder. Other images have absolute paths.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image.

    Attributes:
        image: absolute path of the image file.
        question: text of the question without tags, see `without_tags`.
        answer: the expected reply of the MLLM.
    """

    image: str
    question: str
    answer: str


def without_tags(text: str, longest: int) -> str:
    """Return a text as a prompt shows it, without anything that a trainer or a tokenizer takes for a tag.

    Trainers count `<image>`, `<video>` and `<audio>` in the text, and tokenizers have special tokens such as
    `<|im_end|>`. All of them begin with `<`, which is replaced by a quotation mark of similar shape.
    """
    return shown(text, longest).replace("<", "‹")


def write_formats(parts: Mapping[Part, Sequence[Sample]], output: Path) -> list[Path]:
    """Write all files; those of a part without samples are deleted, so that no file of an earlier run remains.

    Args:
        parts: the samples of each part.
        output: folder, created if missing.

    Returns:
        The files written.

    Raises:
        OutputUnusable: the folder cannot be created.
        memory.errors.WriteFailed: a file cannot be written; every file is complete or unchanged.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnusable(f"{output}: cannot be created: {error.strerror or error}") from error
    written: list[Path] = []
    info: dict[str, Any] = {}
    for part in PARTS:
        samples = [replace(sample, image=_portable(sample.image, output)) for sample in parts.get(part, ())]
        files: dict[str, Callable[[TextIO, Sequence[Sample]], None]] = {
            f"{part}.rar.json": _write_rar,
            f"{part}.messages.jsonl": _write_messages,
            f"{part}.trl.jsonl": _write_trl,
        }
        for name, write in files.items():
            if not samples:
                (output / name).unlink(missing_ok=True)
                continue
            with replacing(output / name) as draft, draft.open("w", encoding="utf-8", newline="\n") as stream:
                write(stream, samples)
            written.append(output / name)
        if samples:
            info[f"ranking_{part}"] = _dataset_info(f"{part}.messages.jsonl")
    with replacing(output / _DATASET_INFO) as draft:
        draft.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    with replacing(output / _README) as draft:
        draft.write_text(_README_TEXT, encoding="utf-8")
    return [*written, output / _DATASET_INFO, output / _README]


def _portable(image: str, output: Path) -> str:
    """Return the path relative to the output for an image in or beside it, so that they can be moved together."""
    beside = Path(image).is_relative_to(Path(os.path.abspath(output)).parent)
    return os.path.relpath(image, output) if beside else image


def _dataset_info(file_name: str) -> dict[str, Any]:
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }


def _write_rar(stream: TextIO, samples: Sequence[Sample]) -> None:
    stream.write("[\n")
    for number, sample in enumerate(samples):
        conversations = [
            {"from": "user", "value": f"{_RAR_TAG}\n{sample.question}"},
            {"from": "assistant", "value": sample.answer},
        ]
        line = json.dumps({"id": number, "image": [sample.image], "conversations": conversations}, ensure_ascii=False)
        stream.write(f"{line},\n" if number + 1 < len(samples) else f"{line}\n")
    stream.write("]\n")


def _write_messages(stream: TextIO, samples: Sequence[Sample]) -> None:
    _write_lines(stream, ((sample, _TAG + sample.question, sample.answer) for sample in samples))


def _write_trl(stream: TextIO, samples: Sequence[Sample]) -> None:
    _write_lines(
        stream,
        (
            (
                sample,
                [{"type": "image"}, {"type": "text", "text": sample.question}],
                [{"type": "text", "text": sample.answer}],
            )
            for sample in samples
        ),
    )


def _write_lines(stream: TextIO, rows: Iterable[tuple[Sample, object, object]]) -> None:
    for sample, question, answer in rows:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        stream.write(json.dumps({"messages": messages, "images": [sample.image]}, ensure_ascii=False) + "\n")
