"""A review in a real browser: what is said lands on the disk, the memory learns, and nobody else gets in."""

import contextlib
import json
import shutil
import threading
import time

import httpx2 as httpx
import pytest
import yaml
from PIL import Image

from memory import ExemplarSet, Memory
from memory.remote import CALIBRATION
from recognizer import Recognizer
from recognizer.cli.stored_features import opened_features
from recognizer.corrections.log import CorrectionLog, read_corrections
from recognizer.demo import DATA
from recognizer.exemplars import chosen_settings
from recognizer.images import ImageLimits
from recognizer.memory_settings import carried_settings, memory_identity, sealed
from recognizer.review.app import make_review_app
from recognizer.review.session import ReviewSession
from recognizer.review.word import kept_word
from recognizer.serving.listening import listen
from recognizer.serving.server import make_server
from recognizer.serving.settings import ServeSettings
from recognizer.settings import load_settings
from tests.recognizer.commands import call
from tests.remembering import remembering

HOSTILE = '"><img src=x onerror=alert(1)>'
WORD = "word"


@pytest.fixture(scope="module")
def results(tmp_path_factory, demo_memory, encoders_loaded_once):
    place = tmp_path_factory.mktemp("review")
    (place / "photos").mkdir()
    for number, photo in enumerate(sorted((DATA / "photos").glob("*.jpg"))[:4]):
        Image.open(photo).resize((160, 120)).save(place / "photos" / f"{number}.png")
    shutil.copy(place / "photos" / "0.png", place / "photos" / "copy.png")
    (place / "photos" / "broken.png").write_bytes(b"no image")
    shutil.copytree(demo_memory, place / "memory")
    outcome = call(
        *("run", place / "photos", "--memory", place / "memory"),
        *("--output", place / "rows.jsonl", "--features", place / "features", "--precision", "fp32"),
    )
    assert outcome[0] == 0
    return place


@contextlib.contextmanager
def reviewing(place, encoder, *, port=0):
    session = ReviewSession(
        results=place / "rows.jsonl",
        memory=place / "memory",
        log=CorrectionLog(place / "c.jsonl"),
        report=place / "page",
        encoder=lambda: encoder,
        open_features=lambda encoder: opened_features(str(place / "features"), encoder, ImageLimits()),
        settings_of=lambda opened: load_settings(None, [], base=carried_settings(opened)),
        warn=print,
    )
    settings = ServeSettings()
    server = make_server(lambda _: make_review_app(session, word=WORD, settings=settings), settings)
    listening = listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def place(results, tmp_path):
    copy = tmp_path / "review"
    shutil.copytree(results, copy)
    info = json.loads((copy / "rows.jsonl.run.json").read_text())
    assert info["input_root"] == str(results / "photos")
    return copy


def until(page, condition):
    """Wait for a condition; `wait_for_function` would need `eval`, which the page forbids."""
    end = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def saved(page, count):
    until(page, "!report.review.waiting.length")
    until(page, f"document.getElementById('review-status').textContent.startsWith('{count} row')")


def test_a_person_corrects_by_keys_and_the_memory_learns(browser, place, starter):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    with reviewing(place, remembering(starter)) as address:
        page.goto(f"{address}/{WORD}/")
        until(page, "document.getElementById('sort').value === 'review'")
        order = page.evaluate("[...report.filters.order].map((row) => report.columns.path[row])")
        assert order[-1] == "broken.png"
        assert abs(order.index("0.png") - order.index("copy.png")) > 1  # copies do not come in a row
        chosen = "report.columns.path[report.list.row()]"
        page.wait_for_selector(".review .accept")
        begun = page.evaluate(chosen)
        page.keyboard.press("2")
        saved(page, 1)
        assert page.evaluate(chosen) == order[1]
        page.wait_for_selector(f"#detail[data-row='{page.evaluate('report.list.row()')}'] .accept")
        page.keyboard.press("u")
        saved(page, 2)
        page.keyboard.press("z")
        saved(page, 1)
        assert page.evaluate(chosen) == order[1]
        page.keyboard.press("n")
        page.keyboard.type(HOSTILE)
        page.wait_for_selector(".found .new")
        page.keyboard.press("Enter")
        saved(page, 2)
        latest = read_corrections(place / "c.jsonl").latest()
        rows = {row["path"]: row for row in map(json.loads, (place / "rows.jsonl").read_text().splitlines())}
        assert latest[begun].new == rows[begun]["candidates"][1]["category"]
        assert latest[order[1]].new == HOSTILE
        page.click("#review-learn")
        page.wait_for_selector("#notes li")
        assert "2 exemplars, 1 new category" in page.inner_text("#notes")
        assert "0 images encoded" in page.inner_text("#notes")
        until(page, "document.getElementById('sort').value === 'review'")
        assert [page.evaluate("report.columns.path[report.filters.order[0]]")] != [begun]
        learnt = {row["path"]: row for row in map(json.loads, (place / "rows.learnt.jsonl").read_text().splitlines())}
        assert learnt[order[1]]["label"] == HOSTILE
    page.close()
    assert wrong == []
    assert HOSTILE in [category.name for category in Memory.open(place / "memory").bare_categories()]


def test_what_could_not_be_sent_is_sent_when_the_server_is_back_and_stands_once(browser, place, starter):
    encoder = remembering(starter)
    page = browser.new_page()
    with reviewing(place, encoder) as address:
        page.goto(f"{address}/{WORD}/")
        page.wait_for_selector(".review .accept")
    page.keyboard.press("1")
    until(page, "document.getElementById('review-status').textContent.includes('not saved yet')")
    with reviewing(place, encoder, port=int(address.rpartition(":")[2])):
        saved(page, 1)
    page.close()
    assert len(read_corrections(place / "c.jsonl").all) == 1


def test_skipped_rows_are_marked_and_of_a_failed_image_the_page_says_why_nothing_happens(browser, place, starter):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    status = "document.getElementById('review-status').textContent"
    with reviewing(place, remembering(starter)) as address:
        page.goto(f"{address}/{WORD}/")
        page.wait_for_selector(".review .accept")
        skipped = page.evaluate("report.columns.path[report.list.row()]")
        page.keyboard.press("x")
        saved(page, 0)
        assert page.evaluate(status) == "0 rows corrected, 1 skipped, all saved"
        assert page.locator(".card .badge.skipped").count() == 1
        page.reload()
        until(page, "document.getElementById('sort').value === 'review'")
        page.click("label.status.skipped")
        assert page.evaluate("[...report.filters.order].map((row) => report.columns.path[row])") == [skipped]
        page.wait_for_selector("#detail .badge.skipped")
        page.keyboard.press("1")
        saved(page, 1)
        until(page, "!document.querySelector('.badge.skipped')")
        page.keyboard.press("c")
        page.evaluate("document.getElementById('list').focus()")  # from the box of the filter
        page.keyboard.press("End")
        for key in ("1", "u", "x", "n"):
            page.evaluate("document.getElementById('review-status').textContent = ''")
            page.keyboard.press(key)
            until(page, f"{status} === 'broken.png could not be recognised, so there is nothing to correct'")
    page.close()
    assert list(read_corrections(place / "c.jsonl").latest()) == [skipped]


def test_a_description_is_added_and_the_folder_scored_again(place, starter):
    with reviewing(place, remembering(starter)) as address, httpx.Client(base_url=f"{address}/{WORD}/") as client:
        opened = Memory.open(place / "memory")
        content = {"calibration": memory_identity(opened), "score": {"calibrated": True}}
        (opened.directory / CALIBRATION).write_text(sealed(yaml.safe_dump(content)))
        known = client.get("review/categories", params={"search": "astro"}).json()
        assert known[0]["name"] == "astronaut"
        told = client.post(
            "review/describe",
            json={"name": "astronaut", "text": "a helmet under the arm; white, thick hoses;"},
            timeout=60,
        )
        assert told.status_code == 200, told.text
        assert "astronaut is described" in told.json()["message"]
        assert "is ignored: it was fitted on other tables" in told.json()["message"]
        assert client.post("review/describe", json={"name": "unicorn", "text": "a horn"}).status_code == 400
        assert client.post("review/describe", json={"name": "astronaut", "text": " ; "}).status_code == 400
    texts = Memory.open(place / "memory").vectors.descriptions
    assert {"a helmet under the arm", "white, thick hoses"} <= set(texts)
    fresh = Recognizer(starter, Memory.open(place / "memory")).recognize([place / "photos" / "0.png"])[0]
    learnt = [json.loads(line) for line in (place / "rows.learnt.jsonl").read_text().splitlines()]
    assert next(row for row in learnt if row["path"] == "0.png")["candidates"][0]["category"] == (
        fresh.candidates[0].category
    )


def test_a_description_chooses_the_head_of_the_exemplars_again(place, starter):
    opened = Memory.open(place / "memory")
    owners = [category.id for category in opened.vectors.categories[:2]]
    hashes = ["0" * 64, "1" * 64]
    opened.replace_exemplars(ExemplarSet(owners, ["0.png", "1.png"], hashes, opened.vectors.names[:2]))
    with reviewing(place, remembering(starter)) as address, httpx.Client(base_url=f"{address}/{WORD}/") as client:
        described = {"name": "astronaut", "text": "a helmet under the arm"}
        assert client.post("review/describe", json=described, timeout=60).status_code == 200
    fresh = Memory.open(place / "memory")
    assert chosen_settings(fresh.vectors).items() <= fresh.settings["score"].items()


def test_only_who_knows_the_word_gets_in_and_nothing_outside_of_the_page_is_served(place, starter):
    said = [{"id": "1", "key": "0.png", "verdict": "category", "new": "owl"}]
    with reviewing(place, remembering(starter)) as address, httpx.Client(base_url=address) as client:
        assert client.get("/").status_code == 404
        assert client.get("/wrong/index.html").status_code == 404
        assert client.post("/wrong/review/corrections", json=said).status_code == 404
        assert client.get(f"/{WORD}/..%2frows.jsonl").status_code == 404
        assert client.get(f"/{WORD}/%2fetc%2fpasswd").status_code == 404
        post = f"/{WORD}/review/corrections"
        assert client.post(post, json=said, headers={"origin": "http://evil.example"}).status_code == 403
        assert client.post(post, json=said, headers={"host": "evil.example"}).status_code == 421
        assert client.post(post, json=[{**said[0], "key": "nothing.png"}]).status_code == 400
        assert client.post(post, json=[{**said[0], "new": None}]).status_code == 400
        assert client.post(post, json=[{**said[0], "verdict": "maybe"}]).status_code == 400
        assert read_corrections(place / "c.jsonl").all == []
        assert client.post(post, json=said).status_code == 200
    assert [one.new for one in read_corrections(place / "c.jsonl").all] == ["owl"]


def test_the_word_of_a_review_is_the_same_after_a_restart_and_nobody_else_can_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    word = kept_word(tmp_path / "rows.jsonl")
    assert kept_word(tmp_path / "rows.jsonl") == word
    assert kept_word(tmp_path / "others.jsonl") != word
    (kept,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.read_text() == word)
    assert kept.stat().st_mode & 0o077 == 0
    kept.write_text("guess")
    assert len(kept_word(tmp_path / "rows.jsonl")) > 20
