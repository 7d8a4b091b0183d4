import subprocess
import sys

import numpy as np
import pytest
from PIL import ImageChops

from memory import Category, Memory
from recognizer import Recognizer
from recognizer.errors import RecognizerError
from recognizer.images import draw_evidence
from recognizer.prior import Prior
from recognizer.settings import PRIOR, TERMS, load_settings
from recognizer.why import contribution, explain_image


@pytest.fixture(scope="module")
def explanation(demo_recognizer, photos):
    return explain_image(demo_recognizer, photos / "coffee.jpg")


def test_terms_of_both_candidates_add_up_to_their_scores(explanation):
    by_term = explanation.by_term()
    assert [term for term, _, _ in by_term] == list(TERMS[:4])  # the memory has no exemplars
    assert sum(winner for _, winner, _ in by_term) == pytest.approx(explanation.winner.score, abs=1e-5)
    assert sum(other for _, _, other in by_term) == pytest.approx(explanation.runner_up.score, abs=1e-5)
    for term, winner, _ in by_term:
        assert winner == contribution(explanation.winner.evidence, term)


def test_tables_show_the_comparison_and_every_piece(explanation):
    (heading, lines), *candidates = explanation.tables()
    assert heading[:3] == ["term", "cup of coffee", explanation.runner_up.category]
    assert [line[0] for line in lines] == [*TERMS[:4], "score"]
    assert lines[-1][1] == f"{explanation.winner.score:+.4f}"
    difference = explanation.winner.score - explanation.runner_up.score
    assert lines[-1][3] == f"{difference:+.4f}"
    for (_, rows), candidate in zip(candidates, (explanation.winner, explanation.runner_up), strict=True):
        assert [row[0] for row in rows] == [piece.term for piece in candidate.evidence]
        assert all(
            (row[5] == "") == (piece.box_xyxy is None) for row, piece in zip(rows, candidate.evidence, strict=True)
        )


def test_the_prior_has_a_line_and_the_whole_image_is_named_where_it_stands_in(starter, demo_memory, photos):
    memory = Memory.open(demo_memory)
    logarithms = np.linspace(-1, 1, len(memory.vectors.categories))
    settings = load_settings(overrides=["score.largest_region=0"])
    recognizer = Recognizer(starter, memory, settings=settings, prior=Prior(logarithms, ""))
    explanation = explain_image(recognizer, photos / "coffee.jpg")
    (_, lines), (_, pieces), _ = explanation.tables()
    assert [line[0] for line in lines] == [*TERMS[:4], PRIOR, "score"]
    assert sum(winner for _, winner, _ in explanation.by_term()) == pytest.approx(explanation.winner.score, abs=1e-5)
    assert {(row[0].startswith("region"), row[5]) for row in pieces} == {(True, "whole image"), (False, "")}


def test_picture_shows_the_regions(explanation):
    drawn = explanation.draw()
    bare = draw_evidence(explanation.image, [], [], title=f"{explanation.winner.confidence:.0%} cup of coffee")
    assert drawn.size == bare.size
    x0, _, x1, _ = ImageChops.difference(drawn, bare).getbbox()
    scale = bare.width / explanation.displayed_size_hw[1]
    left, _, right, _ = next(piece.box_xyxy for piece in explanation.winner.evidence if piece.box_xyxy)
    assert x0 == pytest.approx(left * scale, abs=3)
    assert x1 == pytest.approx(right * scale, abs=3)


def test_memory_of_one_category_has_no_runner_up(starter, photos, tmp_path):
    Memory.build([Category("cat")], tmp_path / "m", encoder=starter, templates=["{}"])
    explanation = explain_image(Recognizer(starter, Memory.open(tmp_path / "m")), photos / "cat.jpg")
    assert explanation.runner_up is None
    heading, lines = next(explanation.tables())
    assert heading[2] == "(no runner-up)"
    assert lines[-1][2] == "+0.0000"


def test_image_that_cannot_be_decoded_is_named(demo_recognizer, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"text")
    with pytest.raises(RecognizerError, match=r"broken\.jpg cannot be used"):
        explain_image(demo_recognizer, tmp_path / "broken.jpg")


def test_an_image_is_explained_without_what_only_other_memories_need(demo_memory, photos, tmp_path):
    code = (
        "import sys; from recognizer.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    unneeded = {'scipy', 'tokenizers', 'lancedb', 'faiss', 'memory.labels.read'} & set(sys.modules)\n"
        "    assert not unneeded, unneeded"
    )
    words = ["why", photos / "cat.jpg", "--memory", demo_memory, "--output", tmp_path / "why.png"]
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True)
    assert (tmp_path / "why.png").exists()
