import pytest

from recognizer.results import CandidateRow, ErrorRow, EvidenceRow, ResultRow, RunInfo, RunSetup


@pytest.fixture(scope="session")
def make_row():
    """Makes the row of an image: failed where its number is in `bad`, with text that is hard on line formats."""

    def make(number, bad=(), key=None):
        path = key or f"{number:03d}.jpg"
        if number in bad:
            return ErrorRow(path=path, code="E_TRUNCATED", reason="the JPEG ends early")
        evidence = [
            EvidenceRow(
                term="image_name", description="", region=None, box_xyxy=None, value=0.5, weight=0.4, contribution=0.2
            ),
            EvidenceRow(
                term="region_description",
                description="=a,b\n\u2028\"c'",
                region=number % 3,
                box_xyxy=(1, 2.125, 30, 40),
                value=0.25,
                weight=0.4,
                contribution=0.1,
            ),
        ]
        candidates = [
            CandidateRow(category="ca\nt", group="pets", score=0.3, confidence=0.75, evidence=evidence),
            CandidateRow(category="=cmd()", score=0.1 + number, confidence=0.25),
        ]
        return ResultRow(
            path=path, label="ca\nt", confidence=0.75, calibrated=False, unknown=None, candidates=candidates
        )

    return make


@pytest.fixture(scope="session")
def setup_of():
    def make(**settings):
        return RunSetup(
            command=["recognizer", "run", "photos"],
            model={"name": "starter", "fingerprint": "f00d"},
            memory={"path": "memory", "version": 3, "digest": "d00d", "index": "exact"},
            settings={"top_k": 5, "score": {"image_name": 0.4}, **settings},
            device="cpu",
            input_root="/photos",
        )

    return make


@pytest.fixture
def info(setup_of):
    setup = setup_of(templates=("a {}", "the {}"))
    return RunInfo(
        output="results.jsonl",
        format="jsonl",
        command=setup.command,
        model=setup.model,
        memory=setup.memory,
        settings=setup.settings,
        device="cpu",
        input_root="/photos",
        count=9,
    )
