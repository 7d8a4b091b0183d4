import sys

import pytest

from memory.lazy import lazy_names


def test_a_name_is_imported_at_its_first_use(tmp_path, monkeypatch):
    (tmp_path / "far_away.py").write_text("thing = 3\nother = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = lazy_names("near", {"thing": "far_away"})
    assert "far_away" not in sys.modules
    assert names("thing") == 3
    monkeypatch.delitem(sys.modules, "far_away")
    with pytest.raises(AttributeError, match="module 'near' has no attribute 'other'"):
        names("other")
