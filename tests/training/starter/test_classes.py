import sys

import torch
from safetensors.torch import load_file

from training.starter import classes


def test_the_command_writes_the_vectors_of_all_classes(tmp_path, monkeypatch):
    vectors = torch.eye(3)
    monkeypatch.setattr(classes, "class_vectors", lambda: vectors)
    monkeypatch.setattr(sys, "argv", ["classes", str(tmp_path / "classes.safetensors")])
    classes.main()
    assert torch.equal(load_file(tmp_path / "classes.safetensors")["class_vectors"], vectors)
