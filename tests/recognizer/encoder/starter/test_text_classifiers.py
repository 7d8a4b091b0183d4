"""Text classifiers, alone and on top of towers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recognizer.encoder import Encoder
from recognizer.encoder.encoder import load_parts
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.starter.extended_towers import ExtendedImageTower
from recognizer.encoder.starter.text_classifiers import TextClassifiers, TextClassifierSettings, signed_root
from recognizer.encoder.trained_file import TrainedFile
from tests.recognizer.encoder.test_trained_file import ANCHORS, CPU, GRAIN, base_spec, trained_file
from tests.reference import text_classifier_score

OWN, CHANNELS = 10, 12
SETTINGS = TextClassifierSettings(dim=6, texts=7, width=5, bandwidth=0.3, share=0.7, temperature=0.05)


def make(settings: TextClassifierSettings = SETTINGS, channels: int = CHANNELS) -> TextClassifiers:
    generator = torch.Generator().manual_seed(0)
    classifiers = TextClassifiers(settings, channels)
    classifiers.load_state_dict(
        {
            "texts": F.normalize(torch.randn(settings.texts, settings.dim, generator=generator), dim=-1),
            "coefficients": torch.randn(settings.texts, settings.width, generator=generator),
            "projection": torch.linalg.qr(torch.randn(channels, settings.width, generator=generator)).Q,
            "mean": torch.randn(channels, generator=generator),
        }
    )
    return classifiers


def test_a_cosine_is_that_of_the_plain_formula():
    torch.manual_seed(1)
    classifiers, texts, images, pooled = make(), torch.randn(4, OWN), torch.randn(3, OWN), torch.randn(3, CHANNELS)
    cosines = F.normalize(classifiers.extend_images(images, pooled), dim=-1) @ classifiers.extend_texts(texts).T
    for image, text in np.ndindex(3, 4):
        expected = text_classifier_score(
            texts[text].tolist(), images[image].tolist(), pooled[image].tolist(), classifiers
        )
        assert cosines[image, text].item() == pytest.approx(expected, abs=1e-5)


def test_texts_are_unit_rows_and_images_keep_their_length():
    classifiers, own, pooled = make(), torch.randn(2, 3, OWN), torch.randn(2, 3, CHANNELS)
    assert torch.allclose(classifiers.extend_texts(own[0]).norm(dim=-1), torch.ones(3))
    wider = classifiers.extend_images(own, pooled)
    assert wider.shape == (2, 3, OWN + SETTINGS.width)
    torch.testing.assert_close(wider.norm(dim=-1), own.norm(dim=-1))
    assert torch.equal(
        classifiers.extend_images(torch.zeros(1, OWN), pooled[0, :1]), torch.zeros(1, OWN + SETTINGS.width)
    )


def test_a_known_text_gets_what_is_known_where_the_kernel_is_narrow():
    narrow = make(SETTINGS.model_copy(update={"bandwidth": 1e-3}))
    torch.testing.assert_close(narrow.classifiers(narrow.texts), F.normalize(narrow.coefficients, dim=-1))


def test_the_root_keeps_signs_and_has_a_gradient_everywhere():
    values = torch.tensor([-4.0, -0.25, 0.0, 0.25, 9.0], requires_grad=True)
    rooted = signed_root(values)
    torch.testing.assert_close(rooted.detach(), torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0]), atol=1e-5, rtol=0)
    rooted.sum().backward()
    assert torch.isfinite(values.grad).all()


def file_with_classifiers(
    checkpoints: dict[str, str], name: str, *, decoder: bool
) -> tuple[TrainedFile, TextClassifiers]:
    spec = base_spec(checkpoints, name)
    parts = load_parts(spec, device=CPU, precision="fp32")
    blank = torch.zeros(1, 3, *parts.image_tower.preprocessing.size_hw)
    pooled = parts.image_tower.forward(blank).pooled
    classifiers = make(replace_dim(parts.text_tower.dim), pooled.shape[-1])
    tensors = {f"written.{key}": value for key, value in classifiers.state_dict().items()}
    file = TrainedFile(spec, None, {}, tensors, classifiers.settings)
    if decoder:
        made = trained_file(checkpoints, name, ANCHORS)
        file = replace(file, decoder=ANCHORS, tensors={**tensors, **made.tensors})
    return file, classifiers


def replace_dim(dim: int) -> TextClassifierSettings:
    return SETTINGS.model_copy(update={"dim": dim})


def test_a_decoder_leaves_the_identity_of_the_towers_alone(checkpoints, tmp_path):
    path = tmp_path / "trained.safetensors"

    def parts_of(file):
        path.write_bytes(file.to_bytes())
        return load_parts({"kind": "trained", "file": str(path)}, device=CPU, precision="fp32")

    base = load_parts(base_spec(checkpoints, "tiny-vit"), device=CPU, precision="fp32")
    assert base.tower_fingerprint == base.fingerprint
    grounded = parts_of(trained_file(checkpoints, "tiny-vit", GRAIN))
    assert grounded.tower_fingerprint == base.fingerprint != grounded.fingerprint
    bare, _ = file_with_classifiers(checkpoints, "tiny-vit", decoder=False)
    both, _ = file_with_classifiers(checkpoints, "tiny-vit", decoder=True)
    wider = parts_of(bare)
    assert wider.tower_fingerprint == parts_of(both).tower_fingerprint != base.fingerprint
    assert parts_of(both).fingerprint != wider.fingerprint
    other = parts_of(replace(bare, text_classifiers=bare.text_classifiers.model_copy(update={"share": 0.5})))
    assert other.tower_fingerprint != wider.tower_fingerprint


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-convnext"])
@pytest.mark.parametrize("decoder", [False, True], ids=["windows", "decoder"])
def test_a_file_widens_any_tower_with_tokens(checkpoints, tmp_path, pictures, name, decoder):
    file, classifiers = file_with_classifiers(checkpoints, name, decoder=decoder)
    path = tmp_path / "classifiers.safetensors"
    path.write_bytes(file.to_bytes())
    encoder = Encoder.load(str(path), device="cpu", precision="fp32")
    base = Encoder.from_spec(file.base, device="cpu", precision="fp32")
    assert encoder.dim == base.dim + SETTINGS.width
    assert encoder.default_temperature == SETTINGS.temperature
    assert encoder.card.fingerprint != base.card.fingerprint
    assert encoder.count_truncated(["a cat"]) == 0

    texts = encoder.encode_texts(["a cat", "a dog"])
    own = torch.from_numpy(base.encode_texts(["a cat", "a dog"]))
    np.testing.assert_allclose(texts, classifiers.extend_texts(own).numpy(), atol=1e-5)
    wider, narrow = encoder.encode_images(pictures), base.encode_images(pictures)
    np.testing.assert_allclose(np.linalg.norm(wider.regions, axis=-1), 1, atol=1e-5)
    kept = wider.image[:, : base.dim]
    np.testing.assert_allclose(kept / np.linalg.norm(kept, axis=1, keepdims=True), narrow.image, atol=1e-5)
    assert wider.image[:, base.dim :].any(axis=1).all()


def test_extended_towers_leave_the_final_tokens_alone(checkpoints, tmp_path):
    file, _ = file_with_classifiers(checkpoints, "tiny-vit", decoder=False)
    path = tmp_path / "classifiers.safetensors"
    path.write_bytes(file.to_bytes())
    parts = load_parts({"kind": "trained", "file": str(path)}, device=CPU, precision="fp32")
    assert isinstance(parts.image_tower, ExtendedImageTower)
    assert parts.text_tower.dim == parts.image_tower.dim
    pixels = torch.zeros(1, 3, *parts.image_tower.preprocessing.size_hw)
    output, inner = parts.image_tower.final_tokens(pixels), parts.image_tower.inner.final_tokens(pixels)
    assert torch.equal(output.tokens, inner.tokens)
    assert output.image is None


def test_classifiers_of_other_sizes_are_refused(checkpoints, tmp_path):
    file, _ = file_with_classifiers(checkpoints, "tiny-vit", decoder=False)
    other = replace(file, text_classifiers=SETTINGS.model_copy(update={"dim": 32, "texts": 9}))
    path = tmp_path / "classifiers.safetensors"
    path.write_bytes(other.to_bytes())
    with pytest.raises(EncoderError, match=r"set of text classifiers: .*texts has shape \(7, 32\), not \(9, 32\)"):
        Encoder.load(str(path))


def test_settings_survive_the_file(tmp_path, checkpoints):
    file, _ = file_with_classifiers(checkpoints, "tiny-vit", decoder=False)
    path = tmp_path / "classifiers.safetensors"
    path.write_bytes(file.to_bytes())
    assert TrainedFile.read(path).text_classifiers == file.text_classifiers
    plain = replace(file, text_classifiers=None, tensors={})
    path.write_bytes(plain.to_bytes())
    assert TrainedFile.read(path).text_classifiers is None
