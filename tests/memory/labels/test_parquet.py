import base64
import csv
import datetime
import io
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Category, LabelError, Memory, read_labels
from tests.memory.fake_encoder import HashEncoder
from tests.memory.labels.test_labels import shape

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)
TITLES = ["name", "group", "description", "descriptions", "Aliases", "synonyms", "note"]


def write(tmp_path, columns, name="labels.parquet", **options):
    path = tmp_path / name
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(tmp_path, columns, **options):
    return read_labels(write(tmp_path, columns), **options)


def exported(categories, folder):
    memory = Memory.build(categories, folder, encoder=HashEncoder(dim=8), templates=["a {}", "the {}"])
    stream = io.StringIO()
    memory.export(stream, vectors=True)
    return stream.getvalue()


def test_the_same_categories_in_csv_and_parquet_give_the_same_memory(tmp_path):
    rows = [
        ("red fox", "canid", "red fur", "long legs; white tip", "fox;Vulpes vulpes", "", "1"),
        ("emu", "", "", "", "", "", ""),
        ("", "", "", "", "", "", ""),
        (" red fox", "canid", "a bushy tail", "white tip", "", "reynard", "2"),
        ("crane", "bird", "", "red crown", "", "", "3"),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (tmp_path / "a" / "labels").open("w", newline="") as stream:
        csv.writer(stream).writerows([TITLES, *rows])
    texts = {title: list(column) for title, column in zip(TITLES, zip(*rows, strict=True), strict=True)}
    lists = {t: [c.split(";") if c else None for c in texts[t]] for t in ("descriptions", "Aliases", "synonyms")}
    wanted = read_labels(tmp_path / "a" / "labels")
    assert shape(wanted)[0] == ("red fox", "canid", ["red fur", "long legs", "white tip", "a bushy tail"])
    assert wanted[0].aliases == ("fox", "Vulpes vulpes", "reynard")
    export = exported(wanted, tmp_path / "a" / "memory")
    for columns in (texts, texts | lists):
        labels = read_labels(write(tmp_path / "b", columns, "labels"))
        assert (list(labels), [c.id for c in labels]) == (list(wanted), [c.id for c in wanted])
        assert labels.format == "Parquet"
        assert exported(labels, tmp_path / "b" / "memory") == export


@given(st.lists(st.tuples(*[TEXTS] * len(TITLES)), min_size=1, max_size=6))
def test_any_texts_are_read_from_parquet_as_from_csv(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("labels")
    (folder / "csv").mkdir()
    with (folder / "csv" / "labels").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([TITLES, *rows])
    write(folder, dict(zip(TITLES, map(list, zip(*rows, strict=True)), strict=True)), "labels", row_group_size=2)

    def outcome(path, format):
        try:
            return list(read_labels(path, format=format, key="name,group"))
        except LabelError as error:
            return error.message

    assert outcome(folder / "labels", "auto") == outcome(folder / "csv" / "labels", "csv")


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_texts_may_have_any_type_of_texts(tmp_path, kind):
    names = pa.array(["cat", "dög", None, "cat"]).cast(pa.string() if pa.types.is_dictionary(kind) else kind)
    names = names.dictionary_encode() if pa.types.is_dictionary(kind) else names
    path = write(tmp_path, {"name": names, "description": ["x", "y", None, None]})
    assert pq.read_schema(path).field("name").type in (kind, pa.dictionary(pa.int32(), pa.string()))
    assert shape(read_labels(path)) == [("cat", "", ["x"]), ("dög", "", ["y"])]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string_view())], ids=str
)
def test_lists_may_have_any_type_of_texts(tmp_path, kind):
    texts = pa.array([["x; y ", None, ""], [], None], kind)
    labels = read(tmp_path, {"name": ["cat", "dog", "emu"], "description": texts, "synonyms": texts})
    assert shape(labels) == [("cat", "", ["x; y"]), ("dog", "", []), ("emu", "", [])]
    assert [category.aliases for category in labels] == [("x; y",), (), ()]


def test_numbers_are_read_as_texts(tmp_path):
    columns = {"name": [123, 7], "rate": pa.array([0.1, float("nan")], pa.float32()), "whole": [2.0, None]}
    columns |= {"known": [True, None], "day": [datetime.date(2024, 2, 29), None]}
    first, second = read(tmp_path, columns)
    assert first == Category("123", metadata={"rate": "0.1", "whole": "2", "known": "true", "day": "2024-02-29"})
    assert second == Category("7")


def test_columns_that_hold_neither_texts_nor_numbers_are_left_out_and_said(tmp_path):
    picture = pa.array([{"bytes": b"x", "path": "cat.jpg"}])
    labels = read(tmp_path, {"name": ["cat"], "image": picture, "vector": [[1.0]], "raw": [b"\xff"], "id": [4]})
    assert list(labels) == [Category("cat", metadata={"id": "4"})]
    (note,) = labels.notes
    assert note == (
        "columns that are neither texts nor numbers are left out: 'image' (struct<bytes: binary, path: string>), "
        "'vector' (list<element: double>), 'raw' (binary)"
    )


def test_columns_mean_what_they_mean_in_csv(tmp_path):
    (fox,) = read(tmp_path, {" scientificName": ["V. vulpes"], "order": ["Carnivora"], "family": ["Canidae"]})
    assert (fox.name, fox.group) == ("V. vulpes", "Carnivora > Canidae")
    labels = read(tmp_path, {"name": ["V. vulpes"], "Title": ["fox"]}, name_column="title", header=False)
    assert (labels[0].name, labels[0].metadata) == ("fox", {"name": "V. vulpes"})
    assert labels.format == "Parquet, names in the column 'Title'"
    fox, _ = read(tmp_path, {"name": ["fox", "canid"], "parent": ["canid", None]})
    assert fox.group == "canid"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"title": ["x"], "b": [1]}, ": the table has no 'name' column; its columns are 'title', 'b'. Say .* "
         "--name-column title\\.$"),
        ({"name": ["a", None], "b": [1, 2]}, ", at row 2, column 'name': the row has no name"),
        ({"name": [["a"]]}, ", at column 'name': the column holds list<element: string>, not texts"),
        ({"name": ["a"], "group": [{"x": 1}]}, ", at column 'group': the column holds struct<x: int64>, not texts"),
        ({"name": ["a"], "aliases": [[1]]}, "'aliases': the column holds list<element: int64>, not texts or lists of"),
        ({"name": ["a"] * 5000 + ["b\0"]}, r", at row 5001: the name 'b\\\\x00' contains a NUL"),
        ({"name": ["a", "b"], "descriptions": [[], ["x", "\0"]]}, ", at row 2: the description .* NUL"),
        ({"name": pa.array([b"a"] * 5000 + [b"\xff"])}, ", at row 5001, column 'name': the text is not UTF-8"),
        ({"name": ["a", "a"], "group": ["x", "y"]}, r"row 2: the name 'a' is in two groups: 'x' \(row 1\)"),
        ({"name": pa.array([], pa.string())}, ": the file has no category"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_row_and_column(tmp_path, columns, message):
    with pytest.raises(LabelError, match=rf"labels\.parquet{message}" if message[0] in ":," else message):
        read(tmp_path, columns)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"name,group\ncat,pet\n", "this is not a Parquet file, though it is read as one"),
        (b"PAR1", "the Parquet file is cut off: its end is missing"),
        (b"PAR1 and a bit more of it", "the Parquet file is cut off: its end is missing"),
        (b"PAR1----------\1\0\0\0PAR1", "the Parquet file cannot be read: "),
        (b"PARE----------\1\0\0\0PARE", "the Parquet file is encrypted. Write it without"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, content, message):
    (tmp_path / "labels.parquet").write_bytes(content)
    with pytest.raises(LabelError, match=f"labels.parquet: {message}"):
        read_labels(tmp_path / "labels.parquet")


def test_a_file_that_is_cut_or_damaged_is_refused(tmp_path):
    names = [f"thing {number}" for number in range(20_000)]
    path = write(tmp_path, {"name": names}, row_group_size=10_000, use_dictionary=False)
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    with pytest.raises(LabelError, match="its end is missing"):
        read_labels(path)
    path.write_bytes(content[:-6000] + bytes(4000) + content[-2000:])
    with pytest.raises(LabelError, match=r"at a row after [1-9]\d*: the Parquet file cannot be read"):
        read_labels(path)
    with pytest.raises(LabelError, match="cannot be read: No such file"):
        read_labels(tmp_path / "other.parquet")


class Keys(pe.KmsClient):
    """Keeps keys as they are."""

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plain_footer", [False, True])
def test_an_encrypted_file_is_refused(tmp_path, plain_footer):
    table, path = pa.table({"name": ["cat"]}), tmp_path / "labels.parquet"
    settings = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": ["name"]}, plaintext_footer=plain_footer
    )
    properties = pe.CryptoFactory(lambda _: Keys()).file_encryption_properties(pe.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(LabelError, match="the Parquet file is encrypted"):
        read_labels(path)


def test_the_format_can_be_said(tmp_path):
    path = write(tmp_path, {"name": ["cat"]}, "labels.txt")
    assert list(read_labels(path, format="parquet")) == list(read_labels(path)) == [Category("cat")]
    with pytest.raises(LabelError, match="this is a Parquet table"):
        read_labels(path, format="csv")


def test_rows_are_read_part_by_part(tmp_path, monkeypatch, request):
    monkeypatch.setattr("memory.merging.HELD_CATEGORIES", 0)
    names = [f"thing {number}" for number in range(12_000)]
    texts = [f"{name} {'is like this ' * 100}" for name in names]
    path = write(tmp_path, {"name": names, "description": texts}, use_dictionary=False)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    request.addfinalizer(lambda: pa.set_memory_pool(before))
    pa.set_memory_pool(pool)
    tracemalloc.start()
    labels = read_labels(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(labels), labels[11_999].name) == (12_000, "thing 11999")
    assert peak + pool.max_memory() < sum(map(len, texts))  # 15 MB
