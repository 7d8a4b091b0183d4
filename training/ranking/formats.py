"""Questions about images with their answers, as the files that trainers of multimodal LLMs read.

Per part (`train`, `held_out`):

- `PART.rar.json`: RAR's conversations, one JSON list.
- `PART.messages.jsonl`: chat messages with an image tag, for ms-swift (`--dataset PART.messages.jsonl`) and for
  LLaMA-Factory, whose `dataset_info.json` names the parts `ranking_train` and `ranking_held_out`.
- `PART.trl.jsonl`: chat messages with lists of contents, for TRL's SFTTrainer; `images` holds paths, which
  `dataset.cast_column("images", datasets.List(datasets.Image()))` opens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image.

    Attributes:
        image: absolute path.
        question: free of tags, see `without_tags`.
        answer: as the MLLM shall write it.
    """

    image: str
    question: str
    answer: str


def without_tags(text: str, longest: int) -> str:
    """Return what a prompt shows of a text, with nothing in it that a trainer or a tokenizer takes for a tag.

    Trainers count `<image>`, `<video>` and `<audio>` in the text, tokenizers know `<|im_end|>` and others. All of them
    begin with `<`, which becomes a quotation mark of like shape.
    """
    return shown(text, longest).replace("<", "‹")


def write_formats(parts: Mapping[Part, Sequence[Sample]], output: Path) -> list[Path]:
    """Write all files; those of a part without samples are deleted, so that none of an earlier run stays.

    Args:
        parts: the samples of each part.
        output: folder, made if it is not there.

    Returns:
        The files written.

    Raises:
        OutputUnusable: the disk refuses; every file is whole or as it was.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnusable(f"{output}: cannot be made: {error.strerror or error}") from error
    written: list[Path] = []
    info: dict[str, Any] = {}
    for part in PARTS:
        samples = parts.get(part, ())
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
    return [*written, output / _DATASET_INFO]


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
