"""Tags of open_clip that tests make up, and a browser for the tests of pages: Debian's chromium, started once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Any]], None]:
    """A function that gives a model tags of open_clip, as {tag: config}."""

    import open_clip

    def give(model: str, tags: dict[str, Any]) -> None:
        known = open_clip.get_pretrained_cfg

        def config(name: str, tag: str) -> Any:
            return tags.get(tag, {}) if name == model else known(name, tag)

        for module in (open_clip, open_clip.factory):
            monkeypatch.setattr(module, "get_pretrained_cfg", config)
        monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: list(tags) * (name == model))

    return give


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = CHROMIUM if os.path.exists(CHROMIUM) else shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
