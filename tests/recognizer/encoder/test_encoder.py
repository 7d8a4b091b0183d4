import numpy as np
import pytest
import torch
from PIL import Image

from recognizer.encoder import Encoder, EncoderError, ImageFeatures, WindowSettings
from tests.recognizer.encoder.test_trained_file import ANCHORS, GRAIN, trained_file
from tests.reference import voted_boxes


def test_images_are_pixels_in_batches(tiny_vit, pictures):
    pixels, frames = zip(*(tiny_vit.preprocess(picture) for picture in pictures), strict=True)
    at_once = tiny_vit.encode_pixels(torch.stack(pixels), frames)
    in_batches = tiny_vit.encode_images(pictures, batch_size=3)
    assert len(in_batches) == len(pictures)
    for field in ("image", "regions", "boxes_xyxy", "region_weight", "region_area"):
        np.testing.assert_allclose(getattr(in_batches, field), getattr(at_once, field), atol=1e-5)
        assert getattr(at_once, field).dtype == np.float32


ROUTES = {
    "alone": ([[0], [3], [4]], 1),
    "together": ([[0, 1, 2, 3, 4]], 5),
    "reversed": ([[4, 3, 2, 1, 0]], 32),
    "beside copies": ([[4, 1, 4, 3, 0, 1, 2, 4]], 32),
}


def trained_encoder(checkpoints, tmp_path, settings, **chosen) -> Encoder:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(trained_file(checkpoints, "tiny-vit", settings).to_bytes())
    return Encoder.load(str(path), **chosen)


KINDS = [
    *["tiny-vit", "tiny-coca-pool", "tiny-resnet", "tiny-pooled", "tiny-convnext", "tiny-one-block"],
    *["queries", "anchors", "starter", "untrained starter"],
]


def load_kind(kind, checkpoints, tmp_path, **chosen) -> Encoder:
    match kind:
        case "queries" | "anchors":
            settings = GRAIN if kind == "queries" else ANCHORS.model_copy(update={"vote_overlap": 0.3})
            return trained_encoder(checkpoints, tmp_path, settings, **chosen)
        case "starter":
            return Encoder.load(**chosen)
        case "untrained starter":
            return Encoder.load(pretrained="conse", **chosen)
        case name:
            return Encoder.load(name, checkpoints[name], **chosen)


@pytest.fixture(params=["fp32", "bf16"])
def precision(request) -> str:
    return request.param


@pytest.fixture(params=KINDS)
def any_encoder(request, checkpoints, tmp_path, precision) -> Encoder:
    return load_kind(request.param, checkpoints, tmp_path, device="cpu", precision=precision)


def test_features_are_the_same_bytes_whatever_the_batch(any_encoder, pictures):
    five = [*pictures, pictures[0].rotate(180)]
    seen: dict[int, set[bytes]] = {position: set() for position in range(len(five))}
    for batches, batch_size in ROUTES.values():
        for batch in batches:
            features = any_encoder.encode_images([five[position] for position in batch], batch_size=batch_size)
            for row, position in enumerate(batch):
                one = features.take(row)
                arrays = (one.image, one.regions, one.boxes_xyxy, one.region_weight, one.region_area)
                seen[position].add(b"".join(array.tobytes() for array in arrays))
    assert [len(values) for values in seen.values()] == [1] * len(five)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_finds_what_the_cpu_finds(kind, checkpoints, tmp_path, pictures, cuda):
    on_cpu, on_gpu = (
        load_kind(kind, checkpoints, tmp_path, device=device, precision="fp32") for device in ("cpu", cuda)
    )
    expected = on_cpu.encode_images(pictures)
    for batch_size in (1, 3, 32):
        features = on_gpu.encode_images(pictures, batch_size=batch_size)
        np.testing.assert_allclose(features.image, expected.image, atol=1e-4)
        np.testing.assert_allclose(features.regions, expected.regions, atol=1e-3)
        np.testing.assert_allclose(features.region_weight, expected.region_weight, atol=1e-3)
        np.testing.assert_allclose(features.boxes_xyxy, expected.boxes_xyxy, atol=0.1)
    texts = ["a photo of a dog", "cat"]
    np.testing.assert_allclose(on_gpu.encode_texts(texts), on_cpu.encode_texts(texts), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_bf16_on_a_gpu_stays_near(kind, checkpoints, tmp_path, pictures, cuda):
    exact, fast = (
        load_kind(kind, checkpoints, tmp_path, device=cuda, precision=precision).encode_images(pictures)
        for precision in ("fp32", "bf16")
    )
    assert (exact.image * fast.image).sum(-1).min() > 0.99


def test_features_do_not_depend_on_the_order_of_pixels_in_memory(tiny_vit, pictures):
    pixels, frames = zip(*(tiny_vit.preprocess(picture) for picture in pictures), strict=True)
    stacked = torch.stack(pixels)
    by_order = [
        tiny_vit.encode_pixels(stacked.contiguous(memory_format=order), frames)
        for order in (torch.contiguous_format, torch.channels_last)
    ]
    assert np.array_equal(by_order[0].regions, by_order[1].regions)
    assert np.array_equal(by_order[0].image, by_order[1].image)


@pytest.mark.parametrize("corner_xy", [(30, 30), (420, 180)])
def test_the_best_region_covers_most_of_the_object(starter, photos, corner_xy):
    with Image.open(photos / "bricks.jpg") as bricks, Image.open(photos / "cat.jpg") as cat:
        canvas = bricks.resize((700, 350))
        canvas.paste(cat.resize((240, 150)), corner_xy)
    features = starter.encode_images([canvas])
    likeness = features.regions[0] @ starter.encode_texts(["cat"])[0]
    best = int(np.where(features.region_weight[0] >= 0.5, likeness, -1).argmax())
    x0, y0, x1, y1 = features.boxes_xyxy[0, best]
    width = min(x1, corner_xy[0] + 240) - max(x0, corner_xy[0])
    height = min(y1, corner_xy[1] + 150) - max(y0, corner_xy[1])
    assert width > 0
    assert height > 0
    assert width * height > 0.5 * 240 * 150


def test_grey_and_thin_images_are_encoded(tiny_vit):
    odd = [
        Image.new("L", (40, 30), 99),
        Image.new("RGB", (1, 500)),
        Image.new("RGB", (500, 1)),
        Image.new("RGB", (1, 1)),
    ]
    features = tiny_vit.encode_images(odd)
    assert np.isfinite(features.regions).all()
    assert features.boxes_xyxy[1, :, 2].max() <= 1


@pytest.mark.parametrize(
    "pixels", [torch.zeros(1, 3, 56, 56), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 56, 56)]
)
def test_pixels_that_are_not_the_encoders_are_refused(tiny_vit, pixels):
    _, frame = tiny_vit.preprocess(Image.new("RGB", (5, 5)))
    with pytest.raises(ValueError, match=r"expected \(\d, 3, 56, 56\)"):
        tiny_vit.encode_pixels(pixels, [frame] * len(pixels))


def test_no_images_are_refused(tiny_vit):
    with pytest.raises(ValueError, match="no images"):
        tiny_vit.encode_images([])


def test_no_texts_give_no_rows(tiny_vit):
    assert tiny_vit.encode_texts([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "abacus"}, "abacus"),
        ({"device": "cuda:99"}, "0 CUDA devices|does not exist"),
        ({"precision": "fp8"}, "fp8"),
        ({"pretrained": "openai"}, "no pretrained 'openai'; use grounded or conse"),
        ({"windows": WindowSettings()}, "leave windows out"),
    ],
)
def test_impossible_requests_are_refused(options, words):
    with pytest.raises(EncoderError, match=words):
        Encoder.load(**options)


@pytest.mark.parametrize("spec", [{}, {"kind": "oracle"}, {"kind": "starter", "settings": {"magic": 1}}])
def test_an_unknown_spec_is_refused(spec):
    with pytest.raises(EncoderError, match="unknown"):
        Encoder.from_spec(spec)


def test_features_that_do_not_belong_together_are_refused():
    arrays = {"image": (2, 4), "regions": (2, 3, 4), "boxes_xyxy": (2, 3, 4), "region_weight": (2, 2)}
    arrays["region_area"] = (2, 3)
    with pytest.raises(ValueError, match=r"region_weight has shape \(2, 2\)"):
        ImageFeatures(**{field: np.zeros(shape, dtype=np.float32) for field, shape in arrays.items()})


def test_counts_from_is_returned_as_half(checkpoints, tmp_path):
    weights = []
    for number, counts_from in enumerate((0.5, 0.25)):
        settings = GRAIN.model_copy(update={"counts_from": counts_from})
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(trained_file(checkpoints, "tiny-vit", settings).to_bytes())
        encoder = Encoder.load(str(path), device="cpu", precision="fp32")
        square = Image.new("RGB", (56, 56), "red")
        weights.append(encoder.encode_images([square]).region_weight.astype(float))
    trained, returned = weights
    assert np.allclose(returned, trained / (trained + (1 - trained) / 3), atol=1e-5)  # odds times 3


def test_boxes_that_overlap_are_returned_as_their_mean(checkpoints, tmp_path):
    features = []
    for number, vote_overlap in enumerate((None, 0.3)):
        settings = ANCHORS.model_copy(update={"vote_overlap": vote_overlap})
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(trained_file(checkpoints, "tiny-vit", settings).to_bytes())
        encoder = Encoder.load(str(path), device="cpu", precision="fp32")
        square = Image.effect_mandelbrot((56, 56), (-2, -1.5, 1, 1.5), 50).convert("RGB")
        features.append(encoder.encode_images([square]))
    plain, voted = features
    assert np.array_equal(plain.regions, voted.regions)
    assert np.array_equal(plain.image, voted.image)
    equally = np.full(len(plain.boxes_xyxy[0]), 1.0)  # untrained weights are all the same
    assert np.allclose(voted.boxes_xyxy[0], voted_boxes(plain.boxes_xyxy[0].tolist(), equally, 0.3), atol=1e-3)
    assert not np.allclose(voted.boxes_xyxy, plain.boxes_xyxy, atol=1)
