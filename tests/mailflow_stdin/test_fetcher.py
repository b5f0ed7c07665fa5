"""Exactly one message, whatever it is and however it comes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.errors import BadMailError, MailflowError, UnavailableError
from mailflow.kinds import Fetched, Runtime
from mailflow.log import Logger
from mailflow.mail import Envelope, OctetFile, Octets, read
from mailflow.net import Halt
from mailflow.query import Query
from mailflow.verdicts import Fate
from mailflow_stdin import fetcher as module
from mailflow_stdin.fetcher import StdinFetcher, StdinOptions

FROM = b"From ann@example.org  Fri Nov 21 01:02:03 2025\n"


@pytest.fixture
def halt() -> Iterator[Halt]:
    halt = Halt()
    yield halt
    halt.close()


@pytest.fixture
def runtime(tmp_path: Path, halt: Halt) -> Runtime:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Runtime("stdin", "test", halt, Logger(), str(scratch))


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have octets arrive on stdin, through a pipe, in these pieces."""
    threads = []

    def arrive(*pieces: bytes) -> None:
        reader, writer = os.pipe()
        monkeypatch.setattr(module, "STDIN", reader)

        def write() -> None:
            with open(writer, "wb", buffering=0) as pipe:
                for piece in pieces:
                    pipe.write(piece)

        threads.append(threading.Thread(target=write))
        threads[-1].start()

    yield arrive
    for thread in threads:
        thread.join()


def fetch(runtime: Runtime, **options: object) -> Fetched:
    """The one message; a large one is read before its file is gone."""
    with StdinFetcher(StdinOptions(options), runtime) as fetcher:
        [item] = fetcher.listing(Query.always)
        [got] = fetcher.retrieve([item.key])
        assert (item.key, item.size) == (got.key, got.content.size)
        fetcher.settle(got.key, Fate.DONE)
        return got._replace(content=Octets(read(got.content)))


def octets(got: Fetched) -> bytes:
    return read(got.content)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (b"A: b\n\nx\n", b"A: b\r\n\r\nx\r\n"),
        (b"A: b\r\n\nx\r", b"A: b\r\n\r\nx\r"),
        (FROM + b"A: b\n\n" + FROM + b">From x\n", None),
        (FROM.replace(b"\n", b"\r\n") + b"A: b\r\n", b"A: b\r\n"),
        (b"no header, \0, \xff, and no line end", b"no header, \0, \xff, and no line end"),
        (b"\n", b"\r\n"),
        ("\ufeffSubject: x\n".encode("utf-16"), "\ufeffSubject: x\n".encode("utf-16")),
    ],
)
def test_f11_every_octet_but_the_line_ends_stays(
    runtime: Runtime, give: Callable[..., None], given: bytes, taken: bytes | None
) -> None:
    give(given)
    if taken is None:
        taken = given[len(FROM) :].replace(b"\n", b"\r\n")
    elif b"\0\n" in given:
        taken = given.replace(b"\n", b"\r\n")
    assert octets(fetch(runtime)) == taken


@pytest.mark.parametrize("cut", range(1, 12))
def test_line_ends_may_fall_apart_in_the_pipe(
    runtime: Runtime, give: Callable[..., None], cut: int
) -> None:
    data = b"A: b\r\n\r\n\n\rx"
    give(data[:cut], data[cut:])
    assert octets(fetch(runtime)) == b"A: b\r\n\r\n\r\n\rx"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"x"])
def test_a_large_message_is_a_file_and_the_same_octets(
    runtime: Runtime, give: Callable[..., None], end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_SIZE", 4096)
    data = b"A: b\n\n" + b"".join(b"%d\r\n\n\r\r\n" % n for n in range(200_000)) + end
    give(FROM + data)
    with StdinFetcher(StdinOptions(), runtime) as fetcher:
        [item] = fetcher.listing(Query.always)
        [got] = fetcher.retrieve([item.key])
        assert isinstance(got.content, OctetFile)
        assert os.stat(got.content.path).st_mode & 0o777 == 0o600
        expected = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert read(got.content) == expected
        assert got.content.size == len(expected)
        assert got.envelope == Envelope("ann@example.org", ())
        [head] = fetcher.heads([item.key])
        assert read(head.content) == b"A: b\r\n"
    assert os.listdir(runtime.scratch) == []


def test_the_key_is_of_envelope_and_content_alone(
    runtime: Runtime, give: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(data: bytes, **options: object) -> str:
        give(data)
        return fetch(runtime, **options).key

    first = key(FROM + b"A: b\n\nx\n")
    assert len(first) == 40
    assert key(FROM.replace(b"01:02:03", b"05:06:07") + b"A: b\n\nx\n") == first
    assert key(b"A: b\r\n\r\nx\r\n", sender="ann@example.org") == first
    keys = {
        first,
        key(b"A: b\n\nx\n"),
        key(b"A: b\n\nx\n", sender=""),
        key(b"A: b\n\nx\n", sender="ann@example.org", recipients=("a@x.org",)),
        key(b"A: b\n\nx\n", sender="ann@example.org", recipients=("a@x.org", "b@x.org")),
        key(b"A: b\n\ny\n", sender="ann@example.org"),
    }
    assert len(keys) == 6
    small = b"A: b\n\n" + b"x\n" * 300_000
    whole = key(small)
    monkeypatch.setattr(module, "IN_MEMORY", 1 << 16)
    assert key(small) == whole


def test_a_key_that_is_not_of_this_message_gives_nothing(
    runtime: Runtime, give: Callable[..., None]
) -> None:
    give(b"A: b\n\n")
    with StdinFetcher(StdinOptions(), runtime) as fetcher:
        fetcher.listing(Query.always)
        assert list(fetcher.retrieve(["other"])) == list(fetcher.heads(["other"])) == []


@pytest.mark.parametrize("given", [b"", FROM])
def test_c06_no_message_is_no_mail(
    runtime: Runtime, give: Callable[..., None], given: bytes
) -> None:
    give(given)
    with pytest.raises(BadMailError, match="stdin is empty: expected one message"):
        fetch(runtime)


def test_c06_a_terminal_sends_no_mail(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setattr(module, "STDIN", theirs)
    with pytest.raises(UnavailableError, match="stdin is a terminal"):
        fetch(runtime)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("closed", [True, False])
def test_c06_stdin_may_be_closed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(module, "STDIN", reader)
    os.close(writer)
    if closed:
        os.close(reader)
    else:
        monkeypatch.setattr(sys, "stdin", None)  # as Python says it; the number is another file's
    with pytest.raises(UnavailableError, match="stdin is closed"):
        fetch(runtime)
    if not closed:
        os.close(reader)


def test_c06_what_cannot_be_read_is_for_later(
    runtime: Runtime, give: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(b"x" * 2_000_000)
    real = os.read

    def failing(descriptor: int, size: int) -> bytes:
        monkeypatch.setattr(os, "read", real)
        list(iter(lambda: real(descriptor, size), b""))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "read", failing)
    with pytest.raises(UnavailableError, match="cannot take the message from stdin: Input/output"):
        fetch(runtime)


def test_d01_a_full_scratch_disk_is_for_later_and_leaves_nothing(
    runtime: Runtime, give: Callable[..., None]
) -> None:
    import resource

    give(b"x" * 1_500_000, b"y" * 50_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(UnavailableError, match="File too large"):
            fetch(runtime)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        list(iter(lambda: os.read(module.STDIN, 1 << 16), b""))
    assert os.listdir(runtime.scratch) == []


def test_a_stop_ends_the_wait_for_a_silent_sender(
    runtime: Runtime, halt: Halt, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(module, "STDIN", reader)
    timer = threading.Timer(0.05, halt.set)
    timer.start()
    with pytest.raises(MailflowError, match="stopped on request"):
        fetch(runtime)
    timer.join()
    os.close(reader)
    os.close(writer)


def test_a_pipe_that_does_not_block_is_waited_for(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setattr(module, "STDIN", reader)

    def write() -> None:
        os.write(writer, b"A: b\n\n")
        os.close(writer)

    timer = threading.Timer(0.05, write)
    timer.start()
    assert octets(fetch(runtime)) == b"A: b\r\n\r\n"
    timer.join()


def test_progress_is_told(runtime: Runtime, give: Callable[..., None]) -> None:
    told: list[int] = []
    give(b"A: b\n\n")
    fetch(runtime._replace(progress=told.append))
    assert sum(told) == 6


MEASURE = """
import resource, sys
from mailflow.kinds import Runtime
from mailflow.log import Logger
from mailflow.net import Halt
from mailflow.query import Query
from mailflow_stdin.fetcher import StdinFetcher, StdinOptions
with StdinFetcher(StdinOptions(), Runtime("s", "p", Halt(), Logger(), sys.argv[1])) as fetcher:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [item] = fetcher.listing(Query.always)
    print(item.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_c06_memory_is_flat_for_a_message_of_any_size(tmp_path: Path) -> None:
    source = tmp_path / "message"
    with open(source, "wb") as file:
        file.write(b"A: b\n\n")
        file.truncate(150_000_000)
    with open(source, "rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path)],
            stdin=stdin, capture_output=True, text=True, check=True,
        )  # fmt: skip
    size, grown = map(int, done.stdout.split())
    assert size == 150_000_002
    assert grown < 8 << 10  # KiB
