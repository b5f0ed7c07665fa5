"""How the spool might keep bodies, each way measured: python -m bench.spool_bodies DIRECTORY

Rule of the file: the ways take turns, and every one is as durable as the next, with its index in
the same kind of SQLite file; what is written is sent back whole, as the gateway would send it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

REPETITIONS = 8


class Way(ABC):
    """An index, and bodies somewhere. `put` is back once all is on the disk."""

    columns = "number INTEGER PRIMARY KEY, file INTEGER, start INTEGER, octets INTEGER"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bodies").mkdir(parents=True)
        self.index = sqlite3.connect(directory / "index.db", isolation_level=None)
        self.index.execute("PRAGMA journal_mode = WAL")
        self.index.execute("PRAGMA synchronous = FULL")
        self.index.execute(f"CREATE TABLE messages ({self.columns})")
        self.count = 0

    @abstractmethod
    def put(self, bodies: list[bytes]) -> None: ...

    @abstractmethod
    def send(self, to: socket.socket) -> int:
        """All that is there, in order, to a socket; gives the octets."""

    def name(self, rows: Iterable[tuple[object, ...]]) -> None:
        self.index.execute("BEGIN IMMEDIATE")
        self.index.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", list(rows))
        self.index.execute("COMMIT")

    def next(self) -> int:
        self.count += 1
        return self.count

    def flush_directory(self) -> None:
        descriptor = os.open(self.directory / "bodies", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def _send_files(self, to: socket.socket) -> int:
        total, name, file = 0, None, -1
        rows = self.index.execute("SELECT file, start, octets FROM messages ORDER BY number")
        runs: list[list[int]] = []
        for number, start, octets in rows.fetchall():
            if runs and runs[-1][0] == number and sum(runs[-1][1:]) == start:
                runs[-1][2] += octets
            else:
                runs.append([number, start, octets])
        for number, start, octets in runs:
            if number != name:
                if file >= 0:
                    os.close(file)
                file, name = os.open(self.directory / "bodies" / str(number), os.O_RDONLY), number
            end = start + octets
            while start < end:
                start += os.sendfile(to.fileno(), file, start, end - start)
            total += octets
        os.close(file)
        return total


class Rows(Way):
    """A row of SQLite each."""

    columns = "number INTEGER PRIMARY KEY, a INTEGER, b INTEGER, body BLOB"

    def put(self, bodies: list[bytes]) -> None:
        self.name((self.next(), 0, 0, body) for body in bodies)

    def send(self, to: socket.socket) -> int:
        total = 0
        for number in range(1, self.count + 1):
            (body,) = self.index.execute(
                "SELECT body FROM messages WHERE number = ?", (number,)
            ).fetchone()
            to.sendall(body)
            total += len(body)
        return total


class FileEach(Way):
    """A file each, their flushes by eight threads at once."""

    def put(self, bodies: list[bytes]) -> None:
        rows, files = [], []
        for body in bodies:
            number = self.next()
            files.append(_write(self.directory / "bodies" / str(number), [body]))
            rows.append((number, number, 0, len(body)))
        _flush(files)
        self.flush_directory()
        self.name(rows)

    def send(self, to: socket.socket) -> int:
        return self._send_files(to)


class FileOfGroup(Way):
    """One file for all of a flush."""

    def put(self, bodies: list[bytes]) -> None:
        numbers = [self.next() for _ in bodies]
        _flush([_write(self.directory / "bodies" / str(numbers[0]), bodies)])
        self.flush_directory()
        self.name(_laid(numbers, numbers[0], 0, bodies))

    def send(self, to: socket.socket) -> int:
        return self._send_files(to)


class Appended(Way):
    """One file for many flushes, up to 32 MiB, each behind the last."""

    octets = 0
    file = -1
    number = 0

    def put(self, bodies: list[bytes]) -> None:
        numbers = [self.next() for _ in bodies]
        fresh = self.file < 0 or self.octets > 32 << 20
        if fresh:
            if self.file >= 0:
                os.close(self.file)
            self.number, self.octets = numbers[0], 0
            path = self.directory / "bodies" / str(self.number)
            self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        start = self.octets
        self.octets += os.writev(self.file, bodies)
        os.fdatasync(self.file)
        if fresh:
            self.flush_directory()
        self.name(_laid(numbers, self.number, start, bodies))

    def send(self, to: socket.socket) -> int:
        return self._send_files(to)


WAYS = (Rows, FileEach, FileOfGroup, Appended)


def _laid(
    numbers: list[int], file: int, start: int, bodies: list[bytes]
) -> Iterable[tuple[int, int, int, int]]:
    for number, body in zip(numbers, bodies, strict=True):
        yield number, file, start, len(body)
        start += len(body)


def _write(path: Path, bodies: list[bytes]) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.writev(descriptor, bodies)
    return descriptor


def _flush(files: list[int]) -> None:
    def work(share: list[int]) -> None:
        for descriptor in share:
            os.fsync(descriptor)
            os.close(descriptor)

    threads = min(8, len(files))
    started = [threading.Thread(target=work, args=(files[n::threads],)) for n in range(threads)]
    if threads == 1:
        work(files)
        return
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _drain(reader: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    while reader.recv_into(buffer):
        pass


def measure(
    way: type[Way], directory: Path, *, size: int, at_once: int, messages: int
) -> list[float]:
    """Messages a second written, and octets a second sent."""
    made = way(directory)
    bodies = [os.urandom(64) * (size // 64) for _ in range(at_once)]
    os.sync()
    started = time.perf_counter()
    for _ in range(messages // at_once):
        made.put(bodies)
    wrote = time.perf_counter() - started
    ours, theirs = socket.socketpair()
    drain = threading.Thread(target=_drain, args=(theirs,))
    drain.start()
    started = time.perf_counter()
    octets = made.send(ours)
    sent = time.perf_counter() - started
    ours.close()
    drain.join()
    theirs.close()
    assert octets == messages * len(bodies[0])
    return [messages / wrote, octets / sent]


def main(where: str) -> None:
    print(
        f"{'way':12} {'octets':>8} {'at once':>8} {'messages/s':>12} {'best':>7} {'sent MB/s':>10}"
    )
    for size, at_once, messages in (
        (20_000, 1, 200), (20_000, 100, 2000), (1_000_000, 1, 40), (1_000_000, 20, 100),
    ):  # fmt: skip
        found: dict[type[Way], list[list[float]]] = {way: [] for way in WAYS}
        for turn in range(REPETITIONS):
            for way in (*WAYS[turn % len(WAYS) :], *WAYS[: turn % len(WAYS)]):
                directory = Path(where) / f"{way.__name__}-{size}-{at_once}-{turn}"
                figures = measure(way, directory, size=size, at_once=at_once, messages=messages)
                found[way].append(figures)
                shutil.rmtree(directory)
        for way, all_ in found.items():
            wrote, sent = ([each[n] for each in all_] for n in range(2))
            print(
                f"{way.__name__:12} {size:8} {at_once:8} {statistics.median(wrote):12.0f}"
                f" {max(wrote):7.0f} {statistics.median(sent) / 1e6:10.0f}"
            )


if __name__ == "__main__":
    main(sys.argv[1])
