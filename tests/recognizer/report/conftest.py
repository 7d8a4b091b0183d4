"""A page that is watched while a test uses it."""

import pytest


class Watched:
    """A page whose errors, dialogs and requests are written down; what a report may not do."""

    def __init__(self, page):
        self.page = page
        self.requests, self.wrong = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda popup: self.wrong.append(f"popup: {popup.url}"))

    def open(self, report):
        self.page.goto(report.index.resolve().as_uri())
        self.page.wait_for_selector(f'body[data-loaded="{report.rows}"]')
        return self.page


@pytest.fixture
def watched(browser):
    """Open a page that is looked after: at the end nothing may have gone wrong, and nothing have left the folder."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = Watched(context.new_page())
    yield page
    context.close()
    assert page.wrong == []
    assert [url for url in page.requests if not url.startswith("file://")] == []
