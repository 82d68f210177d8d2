"""A localhost server that sends files, well or badly, and what the tests of weights publish on it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from samptag.core.model import ModelConfig, SampleCNN
from samptag.core.weights import ModelCard, save_model

# Two tests wait for so long; a pause of the machine that is longer would fail them.
SILENCE_SECONDS = 2.0
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7480000\n"


class FileServer:
    """Serves `content` under every path, or the files of a folder by their names.

    Each GET is answered by the next of `answers`, then by the last one. `requests` has the Range header (or None) of
    each request, `sent` the number of bytes sent by file name.
    """

    def __init__(self, content: bytes | Path = b"", *answers: Callable[[Answer], None]) -> None:
        self.content = content
        self.answers = list(answers) or [whole]
        self.requests: list[str | None] = []
        self.sent: Counter[str] = Counter()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        if isinstance(content, bytes):
            self.url += "weights.bin"

    def __enter__(self) -> FileServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.give(whole)

            def do_GET(self) -> None:
                self.give(site.answers.pop(0) if len(site.answers) > 1 else site.answers[0])

            def give(self, answer: Callable[[Answer], None]) -> None:
                site.requests.append(self.headers["Range"])
                try:
                    answer(Answer(site, self))
                except FileNotFoundError:
                    self.send_error(404)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                """Keep the test output clean."""

        return Handler


class Answer:
    """One request being answered."""

    def __init__(self, site: FileServer, handler: BaseHTTPRequestHandler) -> None:
        self.site = site
        self._handler = handler
        self._name = handler.path.rsplit("/", 1)[-1]
        self.content = site.content if isinstance(site.content, bytes) else (site.content / self._name).read_bytes()

    def start(self) -> int:
        """The first byte asked for by the Range header."""
        match = re.fullmatch(r"bytes=(\d+)-", self._handler.headers["Range"] or "")
        return int(match[1]) if match else 0

    def send(self, code: int, body: bytes, *, start: int = 0, length: int | None = None) -> None:
        """Head and body; a partial answer when `start` is not 0, `length` instead of the true Content-Length."""
        self.head(code, start=start, total=start + len(body), length=len(body) if length is None else length)
        self.write(body)

    def head(self, code: int, *, start: int, total: int, length: int) -> None:
        self._handler.send_response(code)
        self._handler.send_header("Content-Length", str(length))
        if code == 206:
            self._handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self._handler.end_headers()

    def write(self, block: bytes) -> None:
        if self._handler.command != "HEAD":
            self.site.sent[self._name] += len(block)
            self._handler.wfile.write(block)
            self._handler.wfile.flush()


def whole(answer: Answer) -> None:
    start = answer.start()
    if start >= len(answer.content):
        answer.send(416, b"")
    else:
        answer.send(206 if start else 200, answer.content[start:], start=start)


def elsewhere(answer: Answer) -> None:
    """The last 1000 bytes, whatever was asked for."""
    start = len(answer.site.content) - 1000
    answer.send(206, answer.site.content[start:], start=start)


def without_ranges(answer: Answer) -> None:
    answer.send(200, answer.content)


def dropped(answer: Answer) -> None:
    """The connection ends in the middle of what is left, range or not."""
    content, start = answer.content, answer.start()
    answer.head(206 if start else 200, start=start, total=len(content), length=len(content) - start)
    answer.write(content[start : (start + len(content)) // 2])


def dropped_without_ranges(answer: Answer) -> None:
    content = answer.content
    answer.send(200, content[: len(content) // 2], length=len(content))


def altered(answer: Answer) -> None:
    content = bytearray(answer.content)
    content[len(content) * 2 // 3] ^= 1
    start = answer.start()
    answer.send(206 if start else 200, bytes(content[start:]), start=start)


def shorter(answer: Answer) -> None:
    """A truncated file on the server, sent with its own right length."""
    answer.send(200, answer.content[:-100])


def dribbled(answer: Answer) -> None:
    _send_slowly(answer, seconds=0.6)


def slow(answer: Answer) -> None:
    """All of the file, a little at a time, for longer in all than the longest silence allowed."""
    _send_slowly(answer, seconds=1.2 * SILENCE_SECONDS)


def _send_slowly(answer: Answer, *, seconds: float) -> None:
    content = answer.content
    answer.head(200, start=0, total=len(content), length=len(content))
    step = len(content) // 30 + 1
    for offset in range(0, len(content), step):
        answer.write(content[offset : offset + step])
        time.sleep(seconds / 30)


def stalled(answer: Answer) -> None:
    """A third of the file, then silence."""
    content = answer.content
    answer.head(200, start=0, total=len(content), length=len(content))
    answer.write(content[: len(content) // 3])
    answer.site.closing.wait()


def not_found(answer: Answer) -> None:
    answer.send(404, b"no such file")


def failing(answer: Answer) -> None:
    answer.send(503, b"come back later")


def lfs_pointer(answer: Answer) -> None:
    answer.send(200, LFS_POINTER)


def web_page(answer: Answer) -> None:
    answer.send(200, b"<!DOCTYPE html><html><body>Please log in to the network</body></html>")


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def small_weights(
    path: Path, *, seed: int = 0, tags: tuple[str, ...] = ("guitar", "sitar", "harp"), licence: str = "CC0"
) -> Path:
    """A weights file of the paper's smallest 3^n net (2 MB), its card named as the file."""
    torch.manual_seed(seed)
    config = ModelConfig(n=3, first_filter=27, first_stride=27, n_tags=len(tags))
    card = ModelCard(
        name=path.stem,
        config=config,
        tags=tags,
        licence=licence,
        training_data="none: random weights of a test",
        description="Random weights of a test",
        citation="none",
        split="a split",
        metrics={"roc_auc": 0.51234567, "pr_auc": 0.25},
    )
    save_model(path, SampleCNN(config), card=card)
    return path


def registry_entry(name: str, content: bytes, **changes: Any) -> dict[str, Any]:
    """A bundled entry for a file of that content; `changes` replace its values, None takes a key away."""
    entry = {
        "name": name,
        "description": "weights of a test",
        "file": f"{name}.safetensors",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "format": "samptag",
        "licence": "CC0",
        "citation": "none",
        "training_data": "none",
        "sample_rate": 22_050,
        "tags": ["guitar", "sitar", "harp"],
    }
    return {key: value for key, value in (entry | changes).items() if value is not None}


def bundle_entry(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """A remote entry for the TensorFlow checkpoint whose two files lie in `folder`."""
    index = (folder / ".index").read_bytes()
    sums = {"size": len(index), "sha256": hashlib.sha256(index).hexdigest()}
    remote = {"file": None, "url": "http://127.0.0.1:9/.data-00000-of-00001", "sample_rate": 16_000, "index": sums}
    return registry_entry(name, (folder / ".data-00000-of-00001").read_bytes(), **(remote | changes))


def write_registry(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "registry.json"
    path.write_text(json.dumps({"schema": "samptag.registry/1", "tag_lists": {}, "weights": entries}))
    return path
