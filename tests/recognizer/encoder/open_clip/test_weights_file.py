"""Weights from a file that is damaged, of another kind or of another network."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save as save_safetensors

import recognizer
import training
from recognizer.encoder import Encoder, EncoderUnavailable
from recognizer.encoder.open_clip.weights_file import first_sentence

EXPECTED = "expected is a state dict in the layout of open_clip or Transformers, as .pt, .pth, .bin or .safetensors"
SEED = 3  # of the fuzz


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def archive(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.fixture(scope="session")
def state(checkpoints):
    """The state dict of a small network."""
    return torch.load(checkpoints["tiny-vit"], weights_only=True)


def fault(tmp_path, name, content, model="tiny-vit"):
    """Load a file of this content; return what is said about it."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EncoderUnavailable) as caught:
        Encoder.load(model, str(path), device="cpu")
    message = str(caught.value)
    start, end = f"{path} could not be read as a checkpoint: it ", f"; {EXPECTED}"
    assert message.startswith(start)
    assert message.endswith(end)
    assert "\n" not in message
    return message.removeprefix(start).removesuffix(end)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.pt", b"", "is empty"),
        ("empty.safetensors", b"", "is empty"),
        ("empty.npz", b"", "is empty"),
        ("text.pt", b"not a checkpoint", "is not a PyTorch file, or is damaged"),
        ("zeros.pt", bytes(1000), "is not a PyTorch file, or is damaged"),
        ("text.safetensors", b"not a checkpoint", "is not a safetensors file, or is cut short"),
        ("page.bin", b"\n<!DOCTYPE html><html>", "is a web page or XML"),
        ("pointer.bin", b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        ("keras.pt", b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        ("llama.pt", b"GGUF" + bytes(99), "is a GGUF file"),
        ("packed.pt", gzip.compress(b"x", mtime=0), "is a gzip archive"),
        ("photo.pt", b"\xff\xd8\xff\xe0" + bytes(99), "is a JPEG image"),
        ("array.npy", b"\x93NUMPY" + bytes(50), "is a NumPy array"),
        ("torn.npz", b"PK\x03\x04aaaa", "is a PyTorch file or other zip archive that is damaged"),
        ("numpy.npz", archive(a=np.zeros(3)), "is a NumPy archive of another network"),
        ("numpy.pt", archive(a=np.zeros(3)), "is a NumPy archive; give it the suffix .npz"),
        ("objects.npz", archive(a=np.array([{}], dtype=object)), "is a NumPy archive of another network"),
        ("list.pt", saved([1, 2]), "holds a list, not a state dict"),
        ("tensor.pt", saved(torch.zeros(3)), "holds a Tensor, not a state dict"),
        ("none.pt", saved(None), "holds a NoneType, not a state dict"),
        ("inside.pt", saved({"state_dict": [1]}), "holds a list, not a state dict"),
        ("nothing.pt", saved({}), "holds no state dict of names and tensors"),
        ("numbers.pt", saved({1: torch.zeros(3)}), "holds no state dict of names and tensors"),
        ("words.pt", saved({"a": "b"}), "holds no state dict of names and tensors"),
    ],
)
def test_another_kind_of_file_is_named(checkpoints, tmp_path, name, content, said):
    assert fault(tmp_path, name, content).startswith(said)


@pytest.mark.filterwarnings("ignore")  # torch calls its own scripts deprecated
def test_a_torchscript_archive_is_not_opened(checkpoints, tmp_path):
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    assert fault(tmp_path, "script.pt", stream.getvalue()).startswith("is a TorchScript archive, which holds code")


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_a_file_cut_anywhere_is_a_sentence(state, tmp_path, kind):
    content = {
        "zip": lambda: saved(state),
        "old": lambda: saved(state, _use_new_zipfile_serialization=False),
        "safetensors": lambda: save_safetensors(state),
    }[kind]()
    rng = random.Random(SEED)
    suffix = ".safetensors" if kind == "safetensors" else ".pt"
    for length in (1, 3, 9, 30, len(content) - 1, *(rng.randrange(len(content)) for _ in range(5))):
        said = fault(tmp_path, f"cut{suffix}", content[:length])
        assert "damaged" in said or "cut short" in said, length


def test_a_suffix_of_the_other_format_is_named(state, tmp_path):
    assert "give it the suffix .safetensors" in fault(tmp_path, "tensors.pt", save_safetensors(state))
    assert "give it the suffix .pt" in fault(tmp_path, "pickled.safetensors", saved(state))


def test_missing_other_and_misshapen_tensors_are_counted_and_the_first_three_named(state, tmp_path):
    lacking = {name: value for name, value in state.items() if "proj" not in name}
    assert fault(tmp_path, "some.pt", saved(lacking)) == (
        "lacks 32 of the network's 74 tensors: text_projection, visual.proj, "
        "visual.transformer.resblocks.0.attn.in_proj_weight, …"
    )
    assert fault(tmp_path, "more.pt", saved({**state, "extra": torch.zeros(1)})) == "has 1 others: extra"
    misshapen = {f"module.{name}": value for name, value in state.items()} | {"module.visual.proj": torch.zeros(7)}
    assert fault(tmp_path, "shape.pt", saved(misshapen)) == (
        "has 1 of another shape: visual.proj has shape (7,), not (64, 32)"
    )


def test_the_layout_of_transformers_is_named_where_it_does_not_fit(tmp_path):
    foreign = {"text_model.embeddings.token_embedding.weight": torch.zeros(2), "logit_scale": torch.zeros(())}
    said = fault(tmp_path, "hf.pt", saved(foreign), "RN50")
    assert said.startswith("is in the layout of Hugging Face Transformers, and converted to open_clip's does not fit")
    assert "it lacks 487 of the network's " in said
    assert "it has 1 of another shape: token_embedding.weight has shape (2,), not (49408, 512)" in said


def test_a_damaged_file_in_a_local_folder_is_named(tmp_path):
    config = {"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8}}
    config["vision_cfg"]["head_width"] = 8
    config["text_cfg"] = {"context_length": 8, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(save_safetensors(open_clip.CLIP(**config).state_dict())[:-5])
    with pytest.raises(EncoderUnavailable, match=r"open_clip_model\.safetensors could not .* damaged or cut short"):
        Encoder.load(f"local-dir:{tmp_path}")


def test_the_advice_of_torch_to_load_without_care_is_not_repeated():
    error = RuntimeError("Weights only load failed. Re-running with `weights_only` set to `False` will likely succeed")
    assert first_sentence(error) == "Weights only load failed"
    assert first_sentence(EOFError()) == "EOFError"


class Evil:
    """Creates a file when it is unpickled without care."""

    def __init__(self, call, *arguments):
        self._call = call, arguments

    def __reduce__(self):
        return self._call


_LOAD = """
import sys
import open_clip
from recognizer.encoder import Encoder, EncoderUnavailable
assert False, "asserts are off"
open_clip.add_model_config(sys.argv[1])
for path in sys.argv[2:]:
    try:
        Encoder.load("tiny-vit", path, device="cpu")
    except EncoderUnavailable as error:
        print(error)
"""


@pytest.fixture
def evil_files(tmp_path):
    """Checkpoints that would run code which touches a file; returns them with that file."""
    trace = tmp_path / "trace"
    command = f"touch {trace}"
    evil = {
        "system": Evil(os.system, command),
        "eval": Evil(eval, f"open({str(trace)!r}, 'w')"),
        "exec": Evil(exec, f"open({str(trace)!r}, 'w')"),
        "popen": Evil(subprocess.Popen, ["touch", str(trace)]),
    }
    forms = {
        "pt": lambda value: saved({"visual.proj": value}),
        "bin": lambda value: saved({"state_dict": value}, _use_new_zipfile_serialization=False),
        "pth": pickle.dumps,
        "npz": lambda value: archive(params=np.array([value], dtype=object)),
    }
    files = []
    for number, (name, value) in enumerate(evil.items()):
        for suffix in (list(forms) * 2)[number : number + 2]:  # each in two forms, and each form twice
            files.append(tmp_path / f"{name}.{suffix}")
            files[-1].write_bytes(forms[suffix](value))
    return files, trace


def test_no_code_of_a_checkpoint_runs(checkpoints, evil_files):
    files, trace = evil_files
    for path in files:
        with pytest.raises(EncoderUnavailable):
            Encoder.load("tiny-vit", str(path), device="cpu")
    assert not trace.exists()


@pytest.mark.slow  # imports everything once more, compiled without asserts
def test_no_code_of_a_checkpoint_runs_even_without_asserts(checkpoints, evil_files):
    files, trace = evil_files
    config = Path(checkpoints["tiny-vit"]).with_suffix(".json")
    done = subprocess.run(
        [sys.executable, "-O", "-c", _LOAD, str(config), *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(files)
    assert not trace.exists()


def test_every_torch_load_reads_tensors_alone():
    """Read the code: each call names `weights_only=True`, and nothing unpickles by itself."""
    loads = 0
    for package in (recognizer, training):
        for path in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                call = ast.unparse(node.func)
                assert call not in ("pickle.load", "pickle.loads", "torch.jit.load"), path
                if call == "torch.load":
                    loads += 1
                    assert "weights_only=True" in ast.unparse(node), path
                assert "allow_pickle=True" not in ast.unparse(node), path
    assert loads == 2
