"""The list in the docstring of `tests/reference.py` holds."""

import ast
import pydoc
import re
from pathlib import Path

from tests import reference

TESTS = Path(__file__).parent
PARTNERS = re.findall(r"^- (\w+) = ([\w.]+)\n  in (.+\.py)::(\w+)$", reference.__doc__, re.MULTILINE)


def functions(path):
    return {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_each_slow_function_has_a_partner_and_a_test():
    assert len(PARTNERS) == reference.__doc__.count("\n- ")
    for slow, clever, path, test in PARTNERS:
        assert callable(getattr(reference, slow))
        assert callable(pydoc.locate(clever)), clever
        assert test in functions(TESTS / path), test


def test_each_function_is_a_partner_or_used_by_one():
    known = functions(TESTS / "reference.py")
    used = {"numerical_gradient"}
    waiting = [slow for slow, *_ in PARTNERS]
    while waiting:
        name = waiting.pop()
        used.add(name)
        called = {node.id for node in ast.walk(known[name]) if isinstance(node, ast.Name)}
        waiting += (called & known.keys()) - used
    assert known.keys() - used == set()
