"""Downloads against a real HTTP server on loopback: each way to go wrong ends soon, and leaves no file."""

import contextlib
import dataclasses
import hashlib
import http.server
import inspect
import queue
import socket
import threading
import time

import pytest

from kdjax.config import DataConfig
from kdjax.datasets import CATALOG, load
from kdjax.datasets.download import Unavailable, check_online, fetch
from kdjax.errors import BadInput
from tests.raw_files import assert_same, write_random_idx

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = {"stall": 0.5, "pause": 0.01}


@contextlib.contextmanager
def serving(answer):
    """A server on a free port of loopback; `answer(handler, number)` writes the answer to request `number`."""
    requests = []
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.release = release
            with contextlib.suppress(ConnectionError):
                answer(self, len(requests) - 1)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", requests
        finally:
            release.set()
            server.shutdown()
            thread.join()


def send(handler, content, length=None):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def good(handler, number):
    send(handler, CONTENT)


def missing(handler, number):
    handler.send_error(404)


def broken(handler, number):
    handler.send_error(503)


def wrong(handler, number):
    send(handler, CONTENT[:-1] + b"?")


def cut_off(handler, number):
    send(handler, CONTENT[:100_000], len(CONTENT))


def hanging(handler, number):
    handler.release.wait(20)


def hanging_in_the_middle(handler, number):
    send(handler, CONTENT[:100_000], len(CONTENT))
    handler.wfile.flush()
    handler.release.wait(20)


def trickling(handler, number):
    send(handler, b"", len(CONTENT))
    while not handler.release.wait(0.05):
        handler.wfile.write(b"x")


def not_http(handler, number):
    handler.wfile.write(b"\x00garbage\r\n\r\n")


def test_a_good_download_is_what_was_sent():
    with serving(good) as (url, requests):
        assert fetch([url + "file"], MD5, **QUICK) == CONTENT
    assert requests == ["/file"]


@pytest.mark.parametrize(
    ("answer", "reason", "tried"),
    [
        (missing, "HTTP 404", 1),
        (wrong, "checksum", 1),
        (broken, "HTTP 503", 3),
        (cut_off, "cut off after 100,000 of 256,000 bytes", 3),
        (hanging, "nothing came for 0.5 s", 3),
        (hanging_in_the_middle, "nothing came for 0.5 s", 3),
        (trickling, "nothing came for 0.5 s", 3),
        (not_http, "garbage", 3),
    ],
)
def test_a_bad_download_ends_in_bounded_time_and_says_why(answer, reason, tried):
    with serving(answer) as (url, requests):
        start = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            fetch([url + "file"], MD5, **QUICK)
        assert time.monotonic() - start < 3 * QUICK["stall"] + 5
    assert reason in str(caught.value) and url in str(caught.value) and "\n" not in str(caught.value)
    assert len(requests) == tried


@pytest.mark.parametrize("answer", [missing, wrong, broken, cut_off, hanging])
def test_the_next_mirror_is_tried(answer):
    with serving(answer) as (bad, _), serving(good) as (fine, _):
        assert fetch([bad + "file", fine + "file"], MD5, **QUICK) == CONTENT


def test_a_transfer_that_is_cut_off_once_is_tried_again():
    with serving(lambda handler, number: (good if number else cut_off)(handler, number)) as (url, requests):
        assert fetch([url], MD5, **QUICK) == CONTENT
    assert len(requests) == 2


def test_the_defaults_keep_the_promise_of_30_seconds():
    attempts, stall, pause = (
        inspect.signature(fetch).parameters[name].default for name in ("attempts", "stall", "pause")
    )
    probe = inspect.signature(check_online).parameters["patience"].default
    retries = attempts * stall + (attempts - 1) * pause
    assert probe < 5 and probe + retries <= 30


def test_offline_is_reported_soon(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        with pytest.raises(Unavailable, match=r"127.0.0.1 cannot be reached"):
            check_online([f"http://127.0.0.1:{unused.getsockname()[1]}/"])

    unanswered = queue.Queue()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: unanswered.get())
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"example.invalid cannot be reached"):
        check_online(["http://example.invalid/"], patience=0.2)
    assert time.monotonic() - start < 1
    unanswered.put([])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_no_address_is_one_line(monkeypatch, scheme):
    monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:port")
    monkeypatch.delenv("no_proxy", raising=False)
    wrong = f"the proxy of the environment is no address .*: correct or unset {scheme}_proxy"
    with pytest.raises(Unavailable, match=wrong):
        check_online([f"{scheme}://example.invalid/"])


def test_one_reachable_mirror_is_enough():
    with serving(good) as (url, _), socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        check_online([f"http://127.0.0.1:{unused.getsockname()[1]}/", url])


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A small MNIST on a loopback server; `official.answer` may be set to another answer."""

    class Official:
        answer = None
        files = tmp_path / "server"
        data = tmp_path / "data"

    Official.splits = write_random_idx(Official.files)
    spec = CATALOG["mnist"]

    def answer(handler, number):
        if Official.answer:
            Official.answer(handler, number)
        else:
            send(handler, (Official.files / handler.path.lstrip("/")).read_bytes())

    md5 = {name: hashlib.md5((Official.files / name).read_bytes()).hexdigest() for name in spec.md5}
    monkeypatch.setattr("kdjax.datasets.fetch", lambda urls, md5: fetch(urls, md5, **QUICK))
    with serving(answer) as (url, requests):
        monkeypatch.setitem(CATALOG, "mnist", dataclasses.replace(spec, mirrors=(url,), md5=md5))
        Official.requests = requests
        yield Official


def config(official, name="mnist", **more):
    return DataConfig(dataset=name, raw_dir=None, data_dir=official.data, **more)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_dataset_is_downloaded_once(official, name):
    for _ in range(2):
        found = load(config(official, name))
        assert found.name == "mnist" and found.hint is None
        assert_same({"train": found.train, "test": found.test}, official.splits)
    assert len(official.requests) == 4


@pytest.mark.parametrize("answer", [missing, wrong, cut_off, hanging])
def test_a_failed_download_leaves_nothing_and_only_auto_continues(official, answer, caplog):
    official.answer = answer
    with pytest.raises(BadInput, match=r"train-images-idx3-ubyte.gz"):
        load(config(official))
    assert [path.name for path in official.data.iterdir()] == [".lock"]
    found = load(config(official, "auto"))
    assert found.name == "mnist5k"
    assert found.hint == f"python -m kdjax.datasets --dataset mnist --data-dir {official.data}"
    assert [record.levelname for record in caplog.records if "full MNIST is not available" in record.message] == [
        "WARNING"
    ]
    assert [path.name for path in official.data.iterdir()] == [".lock"]


def test_damaged_data_are_downloaded_again_but_never_replaced_by_others(official, caplog):
    load(config(official))
    record = next((official.data / "mnist").rglob("*array_record*"))
    whole = record.read_bytes()
    record.write_bytes(whole[:-1] + b"?")
    official.answer = missing
    for name in ("mnist", "auto"):
        with pytest.raises(BadInput, match=r"differs from what was written.*cannot be prepared again") as caught:
            load(config(official, name))
        assert "\n" not in str(caught.value)
    official.answer = None
    found = load(config(official))
    assert_same({"train": found.train, "test": found.test}, official.splits)
    assert "preparing it again" in caplog.text
