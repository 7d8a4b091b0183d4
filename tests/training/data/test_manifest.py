import pytest
from PIL import Image

from training.data.manifest import MOST_JSON_BYTES, Manifest, parse_line, write_manifest
from training.data.record import BadSample, Record, Region, Rejects, make_record
from training.errors import DataError


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b'{"image": "a.jpg", "n": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"image": "a.jpg", "caption": "' + b"x" * MOST_JSON_BYTES + b'"}', "JSON of more than 10000000 bytes"),
        (b"[1]", "not a JSON object"),
        (b'{"captions": ["a dog"]}', "no image path"),
        (b'{"image": 3}', "no image path"),
        (b'{"image": "gone.jpg"}', "missing image"),
        (b'{"image": "nul\\u0000.jpg"}', r"unreadable image \(E_READ\)"),
        (b'{"image": "half\\ud800.jpg"}', r"unreadable image \(E_READ\)"),
        (b'{"image": "."}', "missing image"),
        (b'{"image": "empty.jpg"}', r"unreadable image \(E_EMPTY\)"),
    ],
)
def test_a_bad_line_has_a_reason(tmp_path, line, reason):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "m.jsonl").write_bytes(line + b"\n")
    with pytest.raises(BadSample, match=f"^{reason}$"):
        Manifest(tmp_path / "m.jsonl").read(0)


def test_what_is_written_is_read(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    record = Record(
        ("a dog", "ein Hund: ä\n"), (Region((1, 2, 3, 4), ("dog", "pup"), 0.5), Region((0, 0, 9, 9), ("x",), 1))
    )
    assert write_manifest(tmp_path / "m.jsonl", [("a.png", record), ("gone.png", record)]) == 2
    manifest = Manifest(tmp_path / "m.jsonl")
    raw = manifest.read(0)
    assert len(manifest) == 2
    assert raw.key == "a.png"
    assert raw.image == (tmp_path / "a.png").read_bytes()
    assert make_record(raw.fields, (40, 60), Rejects()) == Record(("a dog", "ein Hund: ä"), record.regions)


def test_blank_lines_are_skipped_and_the_last_needs_no_end(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'\n{"image": "a"}\r\n  \n{"image": "b"}')
    manifest = Manifest(tmp_path / "m.jsonl")
    assert len(manifest) == 2
    with pytest.raises(BadSample, match="missing image"):
        manifest.read(1)


@pytest.mark.parametrize("content", [b"", b"\n \n", None])
def test_a_manifest_of_nothing_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.jsonl"):
        Manifest(tmp_path / "m.jsonl")


def test_a_line_is_an_object():
    assert parse_line(b'{"a": 1}\n') == {"a": 1}


def test_rows_are_found_in_a_long_manifest_with_blank_lines(tmp_path):
    lines = [b"" if number % 7 == 3 else b'{"image": "%d"}' % number for number in range(1000)]
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "998").write_bytes(b"last but one")
    manifest = Manifest(tmp_path / "m.jsonl")
    shown = [number for number in range(1000) if number % 7 != 3]
    assert manifest.block_sizes == (len(shown),) == (len(manifest),)
    assert manifest.read(shown.index(998)).image == b"last but one"
