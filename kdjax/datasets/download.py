"""Downloads with checksums and mirrors that end in bounded time, offline too, and leave no incomplete file."""

import functools
import hashlib
import http.client
import queue
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kdjax.errors import BadInput
from kdjax.progress import Progress, say

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

    hops = {url: _first_hop(url) for url in urls}

    def connect(url: str) -> Iterator[None]:
        socket.create_connection(hops[url], timeout=patience).close()
        yield None

    answers: queue.Queue[Any] = queue.Queue()
    for url in urls:
        _in_thread(functools.partial(connect, url), answers)
    deadline, reason = time.monotonic() + patience, "no answer"
    for _ in urls:
        try:
            failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if failure is None:
            return
        reason = str(failure)
    hosts = ", ".join(dict.fromkeys(host for host, _ in hops.values()))
    raise Unavailable(f"{hosts} cannot be reached ({reason}): offline? Connect, or give the files' folder as --raw-dir")


def _first_hop(url: str) -> tuple[str, int]:
    """Host and port that a request for `url` connects to: its site or a proxy. Raises Unavailable: a proxy is none."""
    parts = site = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(site.scheme)
    try:
        if proxy and not urllib.request.proxy_bypass(site.hostname or ""):
            parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        remedy = f"correct or unset {site.scheme}_proxy"
        raise Unavailable(f"the proxy of the environment is no address ({error}): {remedy}") from None


def fetch(urls: Sequence[str], md5: str, *, attempts: int = 3, stall: float = 8.0, pause: float = 1.0) -> bytes:
    """The content of a file at the first of `urls` that serves it correctly.

    An attempt is given up when no 64 KiB (nor the end of the file) arrive in `stall` seconds. Where nothing arrives,
    this takes `attempts·stall + (attempts − 1)·pause` seconds: 26 by default.

    The `urls` are tried in turn, `attempts` times in all; `md5` (hex) is that of the right content. Raises Unavailable:
    no attempt succeeded; the message gives the address and the reason of the last one.
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
            say(reason)
            if isinstance(failure, _Refused):
                addresses.remove(url)
    raise Unavailable(f"download failed, {reason}; try again later, or give the files' folder as --raw-dir")


def _attempt(url: str, stall: float) -> bytes:
    """The complete answer to one request."""
    abandoned = threading.Event()

    def request() -> Iterator[int | bytes]:
        # This timeout only ends a thread that is no longer waited for.
        with urllib.request.urlopen(url, timeout=2 * stall) as response:
            yield int(response.headers.get("Content-Length") or 0)
            while not abandoned.is_set() and (block := response.read(BLOCK)):
                yield block
        yield b""

    blocks: queue.Queue[Any] = queue.Queue()
    _in_thread(request, blocks)
    content = bytearray()
    try:
        total = _next(blocks, stall)
        with Progress(f"downloading {url}", total) as progress:
            while block := _next(blocks, stall):
                content += block
                if total:
                    progress.update(len(content), f"of {total / 1e6:.1f} MB")
    finally:
        abandoned.set()
    if len(content) < total:
        raise _Failed(f"cut off after {len(content):,} of {total:,} bytes")
    return bytes(content)


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


def _in_thread(work: Callable[[], Iterator[Any]], items: queue.Queue[Any]) -> None:
    """Puts what `work` yields, or its error, into a queue. Nothing but a thread bounds the time of a name look-up."""

    def run() -> None:
        try:
            for item in work():
                items.put(item)
        except (OSError, http.client.HTTPException, ValueError) as error:
            items.put(error)

    threading.Thread(target=run, daemon=True).start()
