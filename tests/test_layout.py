"""The tree itself: each module has a test file, no module is long, and tests use public names alone."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("memory", "recognizer", "rerank", "training")
MOST_LINES = 400
MODULES = sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


def places_of_tests(module):
    """Where the tests of a module may be: a file of its name in the mirrored folder, or one named after its folder."""
    folder = Path("tests") / module.parent
    yield folder / f"test_{module.stem.strip('_')}.py"
    if len(module.parts) > 2:  # a whole package is too much for one file
        yield folder / f"test_{folder.name}.py"
        yield folder.parent / f"test_{folder.name}.py"


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_uses(source):
    """Lines where a module reaches into a private name of another object or module, in code or as text to patch."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in {
                "self",
                "cls",
                *sys.stdlib_module_names,
            }:
                continue
            case ast.Attribute(attr=name) if is_private(name):
                yield node.lineno, ast.unparse(node)
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in PACKAGES:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names if is_private(alias.name))
            case ast.Call(
                func=ast.Name(id=call) | ast.Attribute(attr=call), args=[*_, ast.Constant(value=str(text)), _]
            ):
                if call in {"setattr", "setitem"} and is_private(text.rpartition(".")[2]):
                    yield node.lineno, ast.unparse(node)


def test_each_module_has_a_test_file():
    tested = [module for module in MODULES if module.stem not in ("__init__", "errors")]
    missing = {
        str(module): [*map(str, places_of_tests(module))]
        for module in tested
        if not any((ROOT / place).is_file() for place in places_of_tests(module))
    }
    assert missing == {}


def test_no_module_is_long():
    lengths = {str(module): len((ROOT / module).read_text().splitlines()) for module in MODULES}
    assert {module: length for module, length in lengths.items() if length > MOST_LINES} == {}


def test_tests_use_public_names_alone():
    uses = {str(test): list(private_uses((ROOT / test).read_text())) for test in TESTS}
    assert {test: found for test, found in uses.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "scorer._fold",
        "scorer()._fold",
        "from recognizer.score import _chunks",
        "setattr(scorer, '_fold', 1)",
        "patch.setattr(score, '_CHUNK', 7)",
        "patch.setattr('recognizer.score._CHUNK', 7)",
    ],
)
def test_a_private_use_is_found(source):
    assert len(list(private_uses(source))) == 1


def test_public_uses_and_those_of_the_object_itself_are_allowed():
    source = "import os\nos._exit(0)\nself._x = scorer.fold\nscorer.__class__\npatch.setattr(score, 'CHUNK', 7)"
    assert list(private_uses(source)) == []
