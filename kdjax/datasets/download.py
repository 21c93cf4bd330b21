"""Downloads with checksums and mirrors that end in bounded time, offline too, and leave no incomplete file."""

import contextlib
import hashlib
import http.client
import logging
import queue
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kdjax.errors import BadInput

logger = logging.getLogger("kdjax.datasets")

BLOCK = 1 << 16


class Unavailable(BadInput):
    """A file could not be downloaded: there is no connection, or no address served the right content."""


class _Failed(Exception):
    """One attempt failed."""

    def __str__(self) -> str:
        # The reason may quote the server, which may send anything: reduced to one printable line.
        return " ".join("".join(char if char.isprintable() else " " for char in super().__str__()).split())


class _Refused(_Failed):
    """Another attempt at this address would fail in the same way."""


def check_online(urls: Sequence[str], patience: float = 4.0) -> None:
    """Raises `Unavailable` unless one of the hosts (or its proxy) can be reached within `patience` seconds."""

    def connect(url: str) -> Callable[[queue.Queue[Any]], None]:
        def work(answers: queue.Queue[Any]) -> None:
            try:
                socket.create_connection(_first_hop(url), timeout=patience).close()
                answers.put(None)
            except OSError as error:
                answers.put(error)

        return work

    # In threads: nothing else bounds the time of a name look-up.
    answers: queue.Queue[Any] = queue.Queue()
    for url in urls:
        _start(connect(url), answers)
    deadline, reason = time.monotonic() + patience, "no answer"
    for _ in urls:
        try:
            failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if failure is None:
            return
        reason = str(failure)
    hosts = ", ".join(dict.fromkeys(_first_hop(url)[0] for url in urls))
    raise Unavailable(f"{hosts} cannot be reached ({reason}): offline? Connect, or give the files' folder as --raw-dir")


def _first_hop(url: str) -> tuple[str, int]:
    """Host and port that a request for `url` connects to: the site's, or a proxy's."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def fetch(
    urls: Sequence[str],
    md5: str,
    *,
    attempts: int = 3,
    stall: float = 8.0,
    pause: float = 1.0,
) -> bytes:
    """The content of a file at the first of `urls` that serves it correctly.

    An attempt is given up when no 64 KiB (nor the end of the file) arrive in `stall` seconds. Where nothing arrives,
    this takes `attempts·stall + (attempts − 1)·pause` seconds: 26 by default.

    Args:
        urls: mirrors of one file, tried in turn.
        md5: the checksum (hex) of the right content.
        attempts: how often to try, all addresses together.
        stall: seconds without 64 KiB after which an attempt is given up.
        pause: seconds between attempts.

    Raises:
        Unavailable: no attempt succeeded; the message gives the address and the reason of the last one.
    """
    addresses, reason = list(urls), "no address is known"
    for attempt in range(attempts):
        if not addresses:
            break
        if attempt:
            time.sleep(pause)
        url = addresses[attempt % len(addresses)]
        try:
            data = _attempt(url, stall)
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
                raise _Refused("its checksum (MD5) differs from the published one")
            return data
        except _Failed as failure:
            reason = f"{url}: {failure}"
            logger.info("%s", reason)
            if isinstance(failure, _Refused):
                addresses.remove(url)
    raise Unavailable(f"download failed, {reason}; try again later, or give the files' folder as --raw-dir")


def _attempt(url: str, stall: float) -> bytes:
    """The complete answer to one request, which runs in a thread, so that every wait is bounded."""
    abandoned = threading.Event()

    def request(blocks: queue.Queue[Any]) -> None:
        try:
            # This timeout only ends a thread that is no longer waited for.
            with urllib.request.urlopen(url, timeout=2 * stall) as response:
                blocks.put(int(response.headers.get("Content-Length") or 0))
                while block := response.read(BLOCK):
                    blocks.put(block)
                    if abandoned.is_set():
                        return
            blocks.put(b"")
        except (OSError, http.client.HTTPException, ValueError) as error:
            blocks.put(error)

    blocks: queue.Queue[Any] = queue.Queue()
    _start(request, blocks)
    parts, received = [], 0
    try:
        total = _next(blocks, stall)
        with _progress(url, total) as advance:
            while block := _next(blocks, stall):
                parts.append(block)
                received += len(block)
                advance(len(block))
    finally:
        abandoned.set()
    if received < total:
        raise _Failed(f"cut off after {received:,} of {total:,} bytes")
    return b"".join(parts)


def _next(blocks: queue.Queue[Any], stall: float) -> Any:
    try:
        item = blocks.get(timeout=stall)
    except queue.Empty:
        raise _Failed(f"nothing came for {stall:g} s") from None
    if isinstance(item, urllib.error.HTTPError):
        item.close()
        raise (_Refused if item.code < 500 else _Failed)(f"HTTP {item.code} {item.reason}")
    if isinstance(item, Exception):
        raise _Failed(str(getattr(item, "reason", None) or item) or type(item).__name__)
    return item


def _start(work: Callable[[queue.Queue[Any]], None], answers: queue.Queue[Any]) -> None:
    threading.Thread(target=work, args=(answers,), daemon=True).start()


@contextlib.contextmanager
def _progress(url: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes each block's size: it moves a bar on a terminal; elsewhere, one line is logged."""
    if not sys.stderr.isatty():
        logger.info("downloading %s (%.1f MB)", url, total / 1e6)
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(url.rpartition("/")[2], total=total or None)
        yield lambda count: bar.advance(task, count)
