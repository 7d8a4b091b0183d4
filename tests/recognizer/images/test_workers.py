import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from recognizer.images import Fit, ImageError, ImageLimits, decode_image
from recognizer.images.worker import Task
from recognizer.images.workers import WorkerPool, WorkerPoolClosed, WorkerStock, WorkerUnavailable

HOSTILE = (sys.executable, "-P", str(Path(__file__).with_name("hostile_worker.py")))
SHORT = ImageLimits(max_seconds=0.5)
MIB = 2**20


@pytest.fixture
def stock():
    stock = WorkerStock()
    yield stock
    stock.keep(0)


@pytest.fixture
def hostile():
    stock = WorkerStock(HOSTILE)
    yield stock
    stock.keep(0)


@pytest.fixture
def folder(tmp_path, gradient):
    for name in ("good", "crash", "exit", "raise", "hang", "spin", "print", "nonsense", "negative", "longer", "weak"):
        gradient.save(tmp_path / f"{name}.png")
    return tmp_path


def code_of(pool, path, **options):
    with pytest.raises(ImageError) as caught:
        pool.decode(path, **options)
    return caught.value.code


def attempts(folder, name):
    """The process ids of those that tried an image."""
    lines = [line.split() for line in (folder / "attempts").read_text().splitlines()]
    return [pid for tried, pid in lines if tried == name]


def children():
    return {child.pid for child in psutil.Process().children()}


def assert_same(one, other):
    assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert (one.displayed_size_hw, one.sha256, one.format) == (other.displayed_size_hw, other.sha256, other.format)


def test_images_are_those_of_this_process_bit_for_bit(stock, tmp_path, gradient, photos):
    turned = Image.Exif()
    turned[0x0112] = 6
    paths = [photos / "cat.jpg"]
    for number, (suffix, options) in enumerate(
        [("jpg", {"exif": turned}), ("png", {}), ("webp", {}), ("gif", {}), ("tif", {}), ("avif", {}), ("jp2", {})]
    ):
        paths.append(tmp_path / f"{number}.{suffix}")
        gradient.save(paths[-1], **options)
    paths.append(tmp_path / "deep.png")
    Image.fromarray(np.arange(6000, dtype=np.uint16).reshape(60, 100)).save(paths[-1])
    with closing(WorkerPool(1, stock=stock)) as pool:
        for path in paths:
            for target_size_hw in (None, (30, 20)):
                options = {"target_size_hw": target_size_hw}
                assert_same(pool.decode(path, **options), decode_image(path, **options))


@pytest.mark.parametrize("geometry", ["squash", "crop", "letterbox"])
def test_an_image_resized_by_a_worker_is_that_of_this_process_bit_for_bit(stock, tmp_path, gradient, photos, geometry):
    turned = Image.Exif()
    turned[0x0112] = 6
    gradient.resize((450, 300)).save(tmp_path / "turned.jpg", exif=turned)  # decoded at a reduced scale
    gradient.save(tmp_path / "small.png")
    fit = Fit((48, 64), geometry, "bilinear", 200)
    with closing(WorkerPool(1, stock=stock)) as pool:
        for path in (photos / "cat.jpg", tmp_path / "turned.jpg", tmp_path / "small.png"):
            fitted, sha256 = pool.decode_fitted(path, Task(ImageLimits(), fit.size_hw, fit))
            here = decode_image(path, target_size_hw=fit.size_hw)
            assert np.array_equal(fitted.pixels, fit.pixels(here.image))
            assert fitted.decoded_size_hw == (here.image.height, here.image.width)
            assert (fitted.displayed_size_hw, sha256) == (here.displayed_size_hw, here.sha256)


def test_an_image_resized_by_a_worker_fails_with_the_reason_of_decoding(stock, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with closing(WorkerPool(1, stock=stock)) as pool, pytest.raises(ImageError) as caught:
        pool.decode_fitted(tmp_path / "text.png", Task(ImageLimits(), None, Fit((48, 64), "crop", "bicubic", 0)))
    assert caught.value.code == "E_NOT_IMAGE"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_resizing_counts_against_the_memory_limit(stock, folder):
    large, small = (
        Task(ImageLimits(max_memory_bytes=32 * MIB), None, Fit((side, side), "squash", "bicubic", 0))
        for side in (4000, 400)
    )
    with closing(WorkerPool(1, stock=stock)) as pool:
        with pytest.raises(ImageError) as caught:
            pool.decode_fitted(folder / "good.png", large)
        assert caught.value.code == "E_MEMORY"
        fitted, _ = pool.decode_fitted(folder / "good.png", small)
        assert fitted.pixels.shape == (400, 400, 3)


def test_reasons_are_those_of_this_process(stock, tmp_path, gradient):
    gradient.save(tmp_path / "whole.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-100])
    with closing(WorkerPool(1, stock=stock)) as pool:
        for name in ("whole.png", "missing.png", "text.png", "torn.png", ".", "null\0byte", "long" * 100_000):
            for limits in (ImageLimits(max_pixels=100), ImageLimits(max_file_bytes=9, formats=["JPEG"]), ImageLimits()):
                if name == "whole.png" and limits == ImageLimits():
                    continue
                path = os.path.join(tmp_path, name)
                with pytest.raises(ImageError) as here:
                    decode_image(path, limits=limits)
                with pytest.raises(ImageError) as there:
                    pool.decode(path, limits=limits)
                assert str(there.value) == str(here.value)


def test_any_name_is_found_and_relative_ones_from_where_the_caller_is(stock, tmp_path, gradient, monkeypatch):
    name = b"\xff\xfe \xc3\xa9.png"
    with closing(WorkerPool(1, stock=stock)) as pool:
        stock.start()
        monkeypatch.chdir(tmp_path)
        with open(name, "wb") as stream:
            gradient.save(stream, "PNG")
        assert pool.decode(name).image.size == gradient.size
        assert pool.decode(os.fsdecode(name)).image.size == gradient.size


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("crash", "E_WORKER", "ended by SIGSEGV"),
        ("exit", "E_WORKER", "ended with exit code 3"),
        ("raise", "E_WORKER", "ended with exit code 1"),
        ("nonsense", "E_WORKER", "its reply made no sense"),
        ("negative", "E_WORKER", "its reply made no sense"),
        ("longer", "E_WORKER", "its reply made no sense"),
        ("hang", "E_TIMEOUT", "not decoded in 0.5 s"),
        ("spin", "E_TIMEOUT", "not decoded in 0.5 s"),
    ],
)
def test_image_that_ends_its_worker_is_tried_once_more_by_another_and_costs_itself_alone(
    hostile, folder, name, code, reason
):
    limits = SHORT if code == "E_TIMEOUT" else ImageLimits()
    good = decode_image(folder / "good.png")
    with closing(WorkerPool(2, stock=hostile)) as pool, ThreadPoolExecutor(4) as threads:
        before = [threads.submit(pool.decode, folder / "good.png") for _ in range(4)]
        bad = threads.submit(pool.decode, folder / f"{name}.png", limits=limits)
        after = [threads.submit(pool.decode, folder / "good.png") for _ in range(4)]
        with pytest.raises(ImageError, match=reason) as caught:
            bad.result()
        for each in before + after:
            assert_same(each.result(), good)
    assert caught.value.code == code
    assert len(set(attempts(folder, name))) == 2


def test_image_that_met_a_spoilt_worker_is_decoded(hostile, folder):
    with closing(WorkerPool(1, stock=hostile)) as pool:
        assert_same(pool.decode(folder / "weak.png"), decode_image(folder / "weak.png"))


def test_libraries_may_print_what_they_like(hostile, folder, capfd):
    with closing(WorkerPool(1, stock=hostile)) as pool:
        assert_same(pool.decode(folder / "print.png"), decode_image(folder / "print.png"))
    assert capfd.readouterr() == ("", "")


def test_chatter_of_libtiff_does_not_reach_the_terminal(stock, tmp_path, gradient, capfd):
    path = tmp_path / "a.tif"
    gradient.save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[8 : len(data) // 2] = bytes(len(data) // 2 - 8)
    path.write_bytes(data)
    with pytest.raises(ImageError):
        decode_image(path)
    assert capfd.readouterr().err  # otherwise this test shows nothing
    with closing(WorkerPool(1, stock=stock)) as pool:
        assert code_of(pool, path) == "E_DECODE"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_image_that_takes_more_memory_than_the_limit_is_refused(stock, tmp_path):
    Image.new("RGB", (4000, 4000)).save(tmp_path / "large.png")
    Image.new("RGB", (400, 400)).save(tmp_path / "small.png")
    limits = ImageLimits(max_memory_bytes=32 * MIB)
    with closing(WorkerPool(1, stock=stock)) as pool:
        assert code_of(pool, tmp_path / "large.png", limits=limits) == "E_MEMORY"
        assert pool.decode(tmp_path / "small.png", limits=limits).image.size == (400, 400)
        assert pool.decode(tmp_path / "large.png").image.size == (4000, 4000)


def webp_of_34_bytes():
    """A lossless WebP that claims 9,000×9,000 pixels."""
    bits = (9000 - 1) | (9000 - 1) << 14
    chunk = b"VP8L" + struct.pack("<I", 14) + b"\x2f" + struct.pack("<I", bits) + b"\0" * 9
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiff_of_zeros():
    """5,000×5,000 samples of 32 bits, in one strip that is 1,000 times smaller."""
    strip = zlib.compress(bytes(5000 * 5000 * 4))
    tags = [(256, 4, 5000), (257, 4, 5000), (258, 3, 32), (259, 3, 8), (262, 3, 1), (273, 4, 8 + 2 + 9 * 12 + 4)]
    tags += [(278, 4, 5000), (279, 4, len(strip)), (339, 3, 3)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + strip


@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (webp_of_34_bytes, {"E_DECODE"}),
        (tiff_of_zeros, {"E_MEMORY"}),
        (lambda: b"P6\n" + b"#\n" * 8 * MIB + b"1 1\n255\nabc", {"E_TIMEOUT"}),  # one comment after the other
        (lambda: b"\xff\xd8" + b"\xff" * 16 * MIB, {"E_TIMEOUT"}),  # fill bytes
        (lambda: b"\xff\xd8" + b"\xff\xe5\0\x02" * 300_000, {"E_TRUNCATED", "E_TIMEOUT"}),  # empty segments
    ],
    ids=["webp", "tiff", "ppm", "jpeg-fill", "jpeg-segments"],
)
def test_hostile_file_ends_within_the_limits(stock, tmp_path, make, codes):
    (tmp_path / "hostile").write_bytes(make())
    Image.new("RGB", (400, 400)).save(tmp_path / "good.png")
    with closing(WorkerPool(1, stock=stock)) as pool:
        limits = ImageLimits(max_seconds=0.4 if "E_TIMEOUT" in codes else 30, max_memory_bytes=100 * MIB)
        assert code_of(pool, tmp_path / "hostile", limits=limits) in codes
        assert pool.decode(tmp_path / "good.png").image.size == (400, 400)


def test_callers_in_turn_take_one_worker(stock, folder):
    before = children()
    for _ in range(3):
        with closing(WorkerPool(4, stock=stock)) as pool:
            pool.decode(folder / "good.png")
    assert len(children() - before) == 1


def test_worker_started_ahead_is_the_one_that_is_used(hostile, folder):
    before = children()
    hostile.start()
    (started,) = children() - before
    hostile.start()
    with closing(WorkerPool(1, stock=hostile)) as pool:
        pool.decode(folder / "good.png")
    assert attempts(folder, "good") == [str(started)]
    assert children() - before == {started}


def test_closed_pool_leaves_one_idle_worker_and_lets_no_thread_wait(hostile, folder):
    before = children()
    pool = WorkerPool(3, stock=hostile)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(pool.decode, [folder / "good.png"] * 9))
        hanging = threads.submit(pool.decode, folder / "hang.png")
        while not attempts(folder, "hang"):
            time.sleep(0.01)
        pool.close()
        with pytest.raises(WorkerPoolClosed):
            hanging.result()
        with pytest.raises(WorkerPoolClosed):
            pool.decode(folder / "good.png")
    assert len(attempts(folder, "hang")) == 1
    assert len(children() - before) <= 1


def test_pool_lends_no_more_workers_than_it_may(hostile, folder):
    with closing(WorkerPool(2, stock=hostile)) as pool, ThreadPoolExecutor(8) as threads:
        list(threads.map(pool.decode, [folder / "good.png"] * 24))
    assert 1 <= len(set(attempts(folder, "good"))) <= 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((sys.executable, "-c", "raise SystemExit('no numpy here')"), "does not start: no numpy here"),
        ((sys.executable, "-c", "pass"), "does not start: ended with exit code 0"),
        ((sys.executable, "-c", "print('hello')"), "does not start"),
        (("/no/such/python",), "can be started with /no/such/python"),
    ],
)
def test_worker_that_does_not_start_is_no_fault_of_the_image(folder, command, words):
    with closing(WorkerPool(1, stock=WorkerStock(command))) as pool, pytest.raises(WorkerUnavailable, match=words):
        pool.decode(folder / "good.png")


def test_worker_imports_no_torch_and_nothing_from_the_current_folder(tmp_path):
    (tmp_path / "PIL.py").write_text("raise SystemExit('the wrong one')")
    code = "import sys, recognizer.images.worker; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
    script = f"""
import sys
sys.path.remove("")
from recognizer.images.workers import WorkerPool
sys.path.insert(0, "")
print(WorkerPool(1).decode({str(DATA / "photos" / "cat.jpg")!r}).image.size)
"""
    assert run_script(script, tmp_path, "-c").stdout.startswith("(")


# The programs below have no `if __name__ == "__main__"`, as scripts and notebooks do not.
DATA = Path(decode_image.__code__.co_filename).parents[1] / "demo_data"
PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from recognizer.images.workers import WorkerPool, WorkerStock
print("started", os.getpid(), flush=True)
stock = WorkerStock({command!r})
pool = WorkerPool(2, stock=stock)
"""


def run_script(script, folder, *options):
    return subprocess.run(
        [sys.executable, *options, script], capture_output=True, text=True, check=True, cwd=folder, timeout=60
    )


@pytest.mark.parametrize("way", ["file", "-c"])
def test_program_without_a_main_guard_runs_once(tmp_path, photos, way):
    program = PROGRAM.format(command=(sys.executable, "-P", "-m", "recognizer.images.worker"))
    program += f"print(pool.decode({str(photos / 'cat.jpg')!r}).image.size)\n"
    if way == "file":
        (tmp_path / "program.py").write_text(program)
        ran = run_script(str(tmp_path / "program.py"), tmp_path)
    else:
        ran = run_script(program, tmp_path, "-c")
    assert ran.stdout.count("started") == 1
    assert ran.stdout.endswith(f"{decode_image(photos / 'cat.jpg').image.size}\n")
    assert ran.stderr == ""


@pytest.fixture(params=[3])
def program(folder, request):
    """Runs a program with one worker that is idle and one that hangs; returns it and their processes.

    The parameter is the number of seconds after which the one that hangs ends by itself.
    """
    source = (
        PROGRAM.format(command=HOSTILE)
        + f"""
from contextlib import suppress
from recognizer.images import ImageLimits
from recognizer.images.workers import WorkerPoolClosed
folder = Path({str(folder)!r})
limits = ImageLimits(max_seconds={request.param})
def hang():
    with suppress(WorkerPoolClosed):
        pool.decode(folder / "spin.png", limits=limits)
threading.Thread(target=hang).start()
pool.decode(folder / "good.png")
while "spin" not in (folder / "attempts").read_text():
    time.sleep(0.01)
try:
    print("working", flush=True)
    time.sleep(600)
finally:
    pool.close()
    stock.keep(0)
"""
    )
    running = subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in the background with interrupts ignored, and children take that over.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
    with running:
        assert running.stdout.readline().startswith("started")
        assert running.stdout.readline() == "working\n"
        workers = psutil.Process(running.pid).children()
        assert len(workers) == 2
        yield running, workers
        running.kill()


def test_killed_program_leaves_no_process(program):
    running, workers = program
    running.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


@pytest.mark.parametrize("program", [600], indirect=True)
def test_interrupted_program_ends_its_workers_without_a_word_of_theirs(program):
    running, workers = program
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert said.count("Traceback") == 1  # the program's own, as it catches nothing
    assert said.strip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_the_second_try_gets_a_new_worker_though_others_are_idle(hostile, folder):
    before = children()
    first = hostile.take()
    hostile.start()
    hostile.put(first)
    idle = {str(pid) for pid in children() - before}
    with closing(WorkerPool(1, stock=hostile)) as pool:
        pool.decode(folder / "weak.png")
    tried, again = attempts(folder, "weak")
    assert len(idle) == 2
    assert tried in idle
    assert again not in idle


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_leaves_the_idle_workers_to_its_parent(tmp_path, photos):
    script = f"""
import os
from recognizer.images.workers import STOCK, WorkerPool
path = {str(photos / "cat.jpg")!r}
WorkerPool(1).decode(path)
child = os.fork()
size = WorkerPool(1).decode(path).image.size
if child:
    os.waitpid(child, 0)
    size = WorkerPool(1).decode(path).image.size
print(size, flush=True)
"""
    ran = run_script(script, tmp_path, "-W", "error", "-c")
    assert len(set(ran.stdout.splitlines())) == 1
    assert len(ran.stdout.splitlines()) == 2
    assert ran.stderr == ""
