import shutil

import numpy as np
import pytest
from PIL import Image

from memory import Category, EncoderMismatch, Memory
from recognizer import Encoder, Recognizer
from recognizer.approximate import ApproximateRetriever
from recognizer.errors import RecognizerError
from recognizer.images import ImageError, ImageInputError, ImageItem, ImageTypeError
from recognizer.results import ErrorRow, encode_row
from recognizer.retrieval import ExactRetriever
from recognizer.settings import load_settings


def test_photographs_of_the_demo_are_recognised(demo_recognizer, photos):
    names = ["astronaut", "cat", "coffee", "rocket", "cameraman"]
    rows = demo_recognizer.recognize([Image.open(photos / f"{name}.jpg").convert("RGB") for name in names], keys=names)
    labels = {row.path: row.label for row in rows}
    assert labels["cat"] == "tabby cat"
    assert labels["coffee"] == "cup of coffee"
    assert labels["rocket"] == "rocket launch"


def test_evidence_of_each_candidate_adds_up_and_lies_in_the_image(demo_recognizer, photos):
    photograph = Image.open(photos / "coffee.jpg")
    row = demo_recognizer.recognize([photograph])[0]
    assert len(row.candidates) == 5
    for candidate in row.candidates:
        assert sum(piece.contribution for piece in candidate.evidence) == pytest.approx(candidate.score, abs=1e-5)
        for piece in candidate.evidence:
            if piece.box_xyxy is not None:
                x0, y0, x1, y1 = piece.box_xyxy
                assert 0 <= x0 < x1 <= photograph.width
                assert 0 <= y0 < y1 <= photograph.height
    scores = [candidate.score for candidate in row.candidates]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_a_gpu_ranks_as_the_cpu(demo_recognizer, demo_memory, photos, cuda, precision, near):
    images = sorted(photos.glob("*.jpg"))
    expected = demo_recognizer.recognize(images)
    encoder = Encoder.load(device=cuda, precision=precision)
    by_two, at_once = (
        Recognizer(
            encoder, Memory.open(demo_memory), settings=load_settings(None, [f"run.batch_size={size}"])
        ).recognize(images)
        for size in (2, 32)
    )
    for found in (by_two, at_once):
        for row, other in zip(found, expected, strict=True):
            scores = {candidate.category: candidate.score for candidate in other.candidates}
            for candidate in row.candidates:
                assert candidate.score == pytest.approx(scores.get(candidate.category, candidate.score), abs=near)
            if precision == "fp32":
                assert [c.category for c in row.candidates] == [c.category for c in other.candidates]


def test_confidence_is_marked_uncalibrated_and_unknown_left_open(demo_recognizer, photos):
    row = demo_recognizer.recognize([Image.open(photos / "cat.jpg")])[0]
    assert row.calibrated is False
    assert row.unknown is None
    assert 0 < row.confidence <= 1


def test_calibrated_threshold_decides_unknown(demo_memory, starter, photos):
    photograph = Image.open(photos / "cat.jpg")
    for threshold, unknown in ((0.0, False), (1.0, True)):
        settings = load_settings(overrides=["score.calibrated=true", f"score.unknown_threshold={threshold}"])
        row = Recognizer(starter, Memory.open(demo_memory), settings=settings).recognize([photograph])[0]
        assert row.unknown is unknown


def test_memory_of_another_encoder_is_refused_with_both_names(demo_memory):
    other = Encoder.load("starter", "conse", device="cpu", precision="fp32")
    with pytest.raises(EncoderMismatch, match=r"starter.*starter"):
        Recognizer(other, Memory.open(demo_memory))


def test_fewer_categories_than_asked_for(starter, tmp_path, photos):
    Memory.build([Category("cat"), Category("dog")], tmp_path / "m", encoder=starter, templates=["{}"])
    row = Recognizer(starter, Memory.open(tmp_path / "m")).recognize([Image.open(photos / "cat.jpg")])[0]
    assert [candidate.category for candidate in row.candidates] == ["cat", "dog"]
    assert sum(candidate.confidence for candidate in row.candidates) == pytest.approx(1)


def test_approximate_search_agrees_with_exact_on_a_small_memory(starter, demo_memory, tmp_path, photos):
    exact = Memory.open(demo_memory)
    Memory.build(exact.vectors.categories, tmp_path / "m", encoder=starter, templates=exact.templates, index="hnsw")
    images = [Image.open(path) for path in sorted(photos.glob("*.jpg"))]
    approximate = Recognizer(starter, Memory.open(tmp_path / "m")).recognize(images)
    for one, other in zip(approximate, Recognizer(starter, exact).recognize(images), strict=True):
        assert [c.category for c in one.candidates] == [c.category for c in other.candidates]
        np.testing.assert_allclose([c.score for c in one.candidates], [c.score for c in other.candidates], atol=1e-6)


def test_no_images_give_no_rows(demo_recognizer):
    assert demo_recognizer.recognize([]) == []


def test_index_is_chosen_by_the_settings_and_else_by_the_memory(starter, demo_memory, tmp_path):
    exact = Memory.open(demo_memory)
    Memory.build(exact.vectors.categories, tmp_path / "m", encoder=starter, templates=exact.templates, index="hnsw")
    for index, folder, retriever in (
        ("auto", demo_memory, ExactRetriever),
        ("auto", tmp_path / "m", ApproximateRetriever),
        ("exact", tmp_path / "m", ExactRetriever),
    ):
        settings = load_settings(overrides=[f"run.index={index}"])
        assert isinstance(Recognizer(starter, Memory.open(folder), settings=settings).retriever, retriever)


def test_rows_carry_the_keys_of_their_images(demo_recognizer, photos):
    photograph = Image.open(photos / "cat.jpg").convert("RGB")
    features = demo_recognizer.encoder.encode_images([photograph, photograph])
    rows = demo_recognizer.rows(features, [ImageItem(b"a/b.jpg", b"x"), ImageItem(b"\xff.jpg", b"y")])
    assert [(row.path, row.path_b64) for row in rows] == [("a/b.jpg", None), ("\\xff.jpg", "/y5qcGc=")]
    named = demo_recognizer.recognize([photograph], keys=["größe.jpg"])[0]
    assert (named.path, named.path_b64) == ("größe.jpg", None)


TURNS = {  # from displayed to stored pixels
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def test_a_photograph_stored_in_any_orientation_is_recognised_as_displayed(demo_recognizer, photos, tmp_path):
    upright = Image.open(photos / "rocket.jpg").convert("RGB")
    # Whole blocks of a JPEG: a turn then moves no pixel against the grid of the blocks.
    upright = upright.crop((0, 0, upright.width // 16 * 16, upright.height // 16 * 16))
    kinds = []
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright if turn is None else upright.transpose(turn)
        path = tmp_path / f"{orientation}.png"
        stored.save(path, exif=exif)
        jpeg = path.with_suffix(".jpg")
        stored.save(jpeg, exif=exif, quality=100, subsampling=0)
        with Image.open(jpeg) as image:
            image.load()
        kinds.append([path, path.read_bytes(), str(jpeg), image])
    for sources in zip(*kinds, strict=True):  # a file of JPEG is decoded at half its size, so kinds differ a little
        plain, *turned = demo_recognizer.recognize(sources)
        assert plain.label == "rocket launch"
        for row in turned:
            assert row.label == plain.label
            assert row.confidence == pytest.approx(plain.confidence, abs=0.01)
            for piece, expected in zip(row.candidates[0].evidence, plain.candidates[0].evidence, strict=True):
                assert (piece.region, piece.description) == (expected.region, expected.description)
                if expected.box_xyxy is not None:
                    np.testing.assert_allclose(piece.box_xyxy, expected.box_xyxy, atol=3)  # a JPEG is rounded anew


def test_files_that_cannot_be_decoded_are_error_rows_among_the_others(demo_recognizer, photos, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    rows = demo_recognizer.recognize([tmp_path / "text.jpg", photos / "cat.jpg", b"", tmp_path / "gone.jpg"])
    assert [row.label for row in rows] == [None, "tabby cat", None, None]
    assert [row.code for row in rows if isinstance(row, ErrorRow)] == ["E_NOT_IMAGE", "E_EMPTY", "E_NOT_FOUND"]
    with pytest.raises(ImageError, match=r"E_EMPTY: images\[1\]: the file has no bytes"):
        demo_recognizer.encoder.encode_images([photos / "cat.jpg", b""])


def test_what_is_no_image_is_refused_in_a_sentence(demo_recognizer, photos):
    for call in (demo_recognizer.recognize, demo_recognizer.encoder.encode_images):
        with pytest.raises(ImageTypeError, match=r"images\[1\] is of type int"):
            call([photos / "cat.jpg", 3])
    with pytest.raises(RecognizerError, match="1 keys for 2 images"):
        demo_recognizer.recognize([b"", b""], keys=["a"])


def test_many_images_are_recognised_in_batches_and_in_order(starter, demo_memory, photos):
    recognizer = Recognizer(starter, Memory.open(demo_memory), settings=load_settings(overrides=["run.batch_size=2"]))
    paths = [photos / f"{name}.jpg" for name in ("cat", "coffee", "rocket", "cat", "coffee")]
    labels = [row.label for row in recognizer.recognize(paths)]
    assert labels == ["tabby cat", "cup of coffee", "rocket launch", "tabby cat", "cup of coffee"]


def test_a_folder_gives_the_rows_of_its_files(demo_recognizer, photos, tmp_path):
    for name in ("cat.jpg", "coffee.jpg"):
        shutil.copy(photos / name, tmp_path / name)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "table.csv").touch()
    with pytest.warns(UserWarning, match="left out: 1 .csv"):
        demo_recognizer.recognize_folder(tmp_path)
    (tmp_path / "table.csv").rename(tmp_path / ".table.csv")
    said = []
    rows = list(demo_recognizer.recognize_folder(tmp_path, warn=said.append))
    assert said == ["left out: 1 hidden file"]
    (tmp_path / ".table.csv").unlink()
    assert [(row.path, row.label) for row in rows] == [
        ("cat.jpg", "tabby cat"),
        ("coffee.jpg", "cup of coffee"),
        ("empty.jpg", None),
    ]
    by_path = demo_recognizer.recognize(sorted(tmp_path.iterdir()))
    assert [row.path for row in by_path] == [row.path for row in rows]
    assert by_path[2] == rows[2]
    alone = demo_recognizer.recognize([tmp_path / "cat.jpg"])
    assert list(map(encode_row, alone)) == list(map(encode_row, demo_recognizer.recognize_folder(tmp_path / "cat.jpg")))
    with pytest.raises(ImageInputError, match="no such file"):
        demo_recognizer.recognize_folder(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ImageInputError, match=r"no images in .*bare"):
        demo_recognizer.recognize_folder(tmp_path / "bare")
