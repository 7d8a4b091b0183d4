from memory import Memory
from tests.memory.building import TEMPLATES, build


def test_info_says_what_there_is(categories, directory, encoder):
    build(categories, directory, encoder)
    info = Memory.open(directory).info()
    assert (info.version, info.categories, info.descriptions, info.exemplars, info.dim) == (1, 4, 4, 0, 16)
    assert info.encoder == encoder.card
    assert info.templates == TEMPLATES
    assert info.index == "exact"
    assert info.bytes_on_disk == sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())
