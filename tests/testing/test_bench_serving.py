"""The bench of the POP3 server: a wrong answer is no figure, and goals are reckoned as said."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import corpus, figures, held, processes, report, soak, soaking
from bench.figures import Figure, Goal, Goals, Measured
from bench.load import Generator, LoadError
from bench.measure import Launcher
from bench.row import Contender, Options, Outcome, Row
from bench.rows import serve, spool
from bench.servers import Mailflow
from mailflow.mail import Octets
from mailflow.testing.gateway import Gateway

SCRIPT = Path(sys.executable).with_name("mailflow")
MAILS = list(corpus.messages(20, size=2000))
FIGURES = (
    Figure("sessions a second", "/s"),
    Figure("99 of 100 take", "s"),
    Figure("memory", "octets"),
)

needs_compiler = pytest.mark.interop("g++")


class Drop:
    """Serves these messages, with CRLF, to anybody and any number of sessions."""

    def __init__(self, mails: list[bytes]) -> None:
        self.mails = [mail.replace(b"\n", b"\r\n") for mail in mails]

    def login(self, who: object) -> Drop:
        return self

    def items(self) -> list[Any]:
        from mailflow.kinds import Item

        return [Item(f"k{number}", len(mail)) for number, mail in enumerate(self.mails)]

    def read(self, key: str) -> Octets:
        return Octets(self.mails[int(key[1:])])

    def close(self, delete: object = ()) -> None:
        pass


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator(tmp_path_factory.mktemp("load"))


def serving(mails: list[bytes], clients: int) -> Gateway:
    return Gateway({f"user{number}": Drop(mails) for number in range(clients)})


@needs_compiler
@pytest.mark.parametrize("mode", ["sessions", "flight"])
def test_complete_sessions_are_counted(generator: Generator, mode: str) -> None:
    with serving(MAILS, 3) as gateway:
        found = generator.run(mode, gateway.port, 3, 20, warm=0.1, seconds=0.3)
    assert found.sessions > 5
    assert 0 < found.p50 <= found.p99 < 1
    assert found.seconds == pytest.approx(0.3, abs=0.1)


@needs_compiler
def test_the_octets_of_flights_are_counted(generator: Generator) -> None:
    with serving(MAILS, 2) as gateway:
        found = generator.run("retrieve", gateway.port, 2, 20, warm=0.1, seconds=0.3)
    assert found.octets > sum(map(len, MAILS))


@needs_compiler
@pytest.mark.parametrize("mode", ["sessions", "flight", "retrieve"])
def test_fewer_messages_than_there_must_be_are_no_figure(generator: Generator, mode: str) -> None:
    with serving(MAILS[:19], 1) as gateway, pytest.raises(LoadError):
        generator.run(mode, gateway.port, 1, 20, warm=0.1, seconds=0.2)


@needs_compiler
@pytest.mark.parametrize("mode", ["sessions", "retrieve"])
def test_a_refused_log_in_is_no_figure(generator: Generator, mode: str) -> None:
    with serving(MAILS, 1) as gateway, pytest.raises(LoadError, match="refused"):
        generator.run(mode, gateway.port, 2, 20, warm=0.1, seconds=5)


def test_what_is_served_is_compared_with_what_was_filled_in() -> None:
    with serving(MAILS, 1) as gateway:
        assert held.fault(gateway.port, MAILS) == ""
        assert held.fault(gateway.port, MAILS[1:]) == "what is served is not what was filled in"
        assert held.fault(gateway.port, [MAILS[0] + b"x\n", *MAILS[1:]])


@pytest.mark.parametrize("maildrop", ["spool", "maildir"])
def test_each_maildrop_serves_what_was_filled_in(tmp_path: Path, maildrop: str) -> None:
    server = Mailflow(SCRIPT, tmp_path, maildrop, 0)
    server.fill(2, MAILS)
    server.fill(1, MAILS[:1], first=2)
    with server:
        assert held.fault(server.port, MAILS) == ""
        held.quit_(held.log_in(server.port, 1, 20))
        assert held.first_line(server.port, 2) > 0
        held.quit_(held.log_in(server.port, 2, 1))


def test_sessions_that_wait_are_those_that_have_listed_their_drop() -> None:
    with serving(MAILS, 2) as gateway, held.Sessions(gateway.port, 2, 20) as sessions:
        sessions.check()
        with pytest.raises(LoadError, match="20 messages instead of 19"):
            held.log_in(gateway.port, 0, 19)


def test_a_family_of_processes_is_measured_as_one() -> None:
    code = "b = bytearray(30_000_000); b[::4096] = bytes(len(b[::4096])); sum(range(3_000_000))"
    child = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code + '; input()'!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as process:
        while processes.memory(process.pid) < 30_000_000 or processes.cpu(process.pid) < 0.02:
            assert process.poll() is None
        assert len(processes.family(process.pid)) == 2
        assert processes.threads(process.pid) == 2
        assert processes.descriptors(process.pid) >= 6
        assert processes.memory(process.pid, "Anonymous") >= 30_000_000
        process.communicate(b"\n")


# Goals


def measured(name: str, **values: list[float]) -> Measured:
    return Measured(name, {key.replace("_", " "): found for key, found in values.items()})


def verdict(goal: Goal, *found: Measured) -> dict[str, Any]:
    roles = {each.name: "ours" if each.name in ("spool", "maildir") else "gauge" for each in found}
    return figures.verdict(Goals(FIGURES, (goal,)), found, roles)


MORE = Goal("sessions a second", 1.5, ("tuned", "other"), more=True, aim=2.5)


def test_a_rate_is_to_be_a_multiple_of_the_best_gauge() -> None:
    others = (
        measured("tuned", sessions_a_second=[90, 100, 900]),
        measured("other", sessions_a_second=[50]),
    )
    said = verdict(MORE, measured("spool", sessions_a_second=[140, 150, 160]), *others)
    assert said["met"]
    assert said["reached"] == "sessions a second 1.50 x (spool)"
    assert said["target"] == "sessions a second at least 1.5 x tuned and other, better 2.5"
    assert not verdict(MORE, measured("spool", sessions_a_second=[149]), *others)["met"]


def test_each_maildrop_of_ours_must_reach_the_goal() -> None:
    tuned = measured("tuned", sessions_a_second=[100])
    ours = measured("spool", sessions_a_second=[200]), measured("maildir", sessions_a_second=[100])
    assert not verdict(MORE, *ours, tuned)["met"]


def test_less_is_better_where_the_goal_is_at_most() -> None:
    goal = Goal("99 of 100 take", 1.0, ("tuned", "other"))
    others = (
        measured("tuned", **{"99_of_100_take": [0.2]}),
        measured("other", **{"99_of_100_take": [0.1]}),
    )
    assert verdict(goal, measured("spool", **{"99_of_100_take": [0.1]}), *others)["met"]
    assert not verdict(goal, measured("spool", **{"99_of_100_take": [0.11]}), *others)["met"]


def test_a_bound_needs_no_gauge() -> None:
    goal = Goal("memory", 16384)
    said = verdict(goal, measured("spool", memory=[16000]))
    assert said["met"]
    assert said["reached"] == "memory 15.6 KiB (spool)"
    assert not verdict(goal, measured("spool", memory=[16385]))["met"]


@pytest.mark.parametrize("void", ["spool", "tuned"])
def test_who_was_void_reaches_no_goal_and_is_no_gauge(void: str) -> None:
    found = [measured("spool", sessions_a_second=[200]), measured("tuned", sessions_a_second=[100])]
    for each in found:
        each.fault = "lost one" if each.name == void else ""
    assert not verdict(MORE, *found)["met"]


def test_a_row_of_figures_stands_in_the_page_with_its_span() -> None:
    target = Goals(FIGURES[:2], (MORE,))
    found = [
        measured("spool", sessions_a_second=[300, 310, 290], **{"99_of_100_take": [0.0123]}),
        measured("tuned", sessions_a_second=[100], **{"99_of_100_take": [1.5]}),
    ]
    contenders = [
        Contender(each.name, role, dict)
        for each, role in zip(found, ("ours", "gauge"), strict=True)
    ]
    row = Row("a-row", "A row", "What was measured.", lambda row, options: Outcome([], []), target)
    entry = report.record(row, Outcome(found, contenders), {})
    text = report.as_rst(entry)
    assert "- 300 /s (290 /s to 310 /s)" in text
    assert "- 12.3 ms" in text
    assert "- 1.50 s" in text
    assert report.outcome_text(entry).endswith("Reached: sessions a second 3.00 x (spool): met.")
    assert "300 /s" in report.as_text(entry)


# The soak


def samples(*memory: int) -> list[list[float]]:
    return [[5.0 * n, each << 20, 50, 4, n] for n, each in enumerate(memory)]


def test_memory_that_grows_to_the_end_is_not_flat() -> None:
    flat = samples(20, 30, 40, 41, 40, 42, 41, 40)
    assert soak.judged(flat, [])["met"]
    assert not soak.judged(samples(20, 30, 40, 43, 46, 49, 52, 55), [])["met"]
    assert not soak.judged(flat, ["a wrong answer"])["met"]
    assert not soak.judged(flat[:3], [])["met"]


def test_descriptors_that_are_not_given_back_are_not_flat() -> None:
    growing = [[5.0 * n, 30 << 20, 50 + 10 * n, 4, n] for n in range(8)]
    assert not soak.judged(growing, [])["met"]


def test_the_soak_stands_in_the_page_once_it_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "PATH", tmp_path / "soak.json")
    assert soak.page() == ""
    found = samples(20, 30, 40, 41, 40, 42, 41, 40)
    record = {
        "date": "2026-01-01", "machine": {"kernel": "Linux 6"}, "seed": 3, "minutes": 2.0,
        "clients": 4, "sessions": {"list": 1234, "read": 2}, "fed": 20, "faults": [],
        **soak.judged(found, []),
    }  # fmt: skip
    soak.PATH.write_text(json.dumps(record))
    text = soak.page()
    assert text.startswith(f"{soak.TITLE}\n~~~")
    assert "1,236 sessions (1,234 list, 2 read); 20 mails through the pipeline." in text
    assert (
        "40.5 MiB in the second quarter, 40.5 MiB in the last one;\ndescriptors 50 and 50: flat"
        in text
    )


class Where:
    """An installation as the clients of the soak see it, but for its server."""

    trust = ""

    def __init__(self, port: int) -> None:
        self.ports = dict.fromkeys(("none", "starttls", "implicit"), port)


class ClearClient(soaking.Client):
    def _connect(self) -> soaking.Wire:
        return soaking.Wire(self._where.ports, "none", 0, "")


@pytest.fixture
def client() -> Any:
    drop = Drop(MAILS)
    with Gateway({"user0": drop}) as gateway:
        where: Any = Where(gateway.port)
        client = ClearClient(where, "user0", 0, random.Random(1))
        client.expected = Counter(map(soaking.digest, MAILS))
        yield client, drop


def test_a_client_of_the_soak_is_content_with_what_must_be_there(client: Any) -> None:
    for kind in ("list", "read", "leave", "reset", "burst", "top", "garbage", "silent", "half"):
        getattr(client[0], f"_{kind}")()
    assert client[0].known


def test_a_client_of_the_soak_sees_that_a_mail_is_lost(client: Any) -> None:
    client[1].mails.pop()
    with pytest.raises(soaking.SoakError, match="19 messages instead of 20"):
        client[0]._list()


def test_a_client_of_the_soak_sees_that_a_mail_has_changed(client: Any) -> None:
    client[0]._burst()
    client[1].mails[3] = client[1].mails[3].replace(b"Subject", b"subject")
    with pytest.raises(soaking.SoakError, match="is not what it was"):
        client[0]._burst()


def test_a_client_of_the_soak_sees_that_a_mail_is_there_twice(client: Any) -> None:
    client[1].mails[3] = client[1].mails[4]
    with pytest.raises(soaking.SoakError, match="is not what it was"):
        client[0]._burst()


def test_a_client_of_the_soak_sees_that_a_deleted_mail_is_there_again(client: Any) -> None:
    client[0].gone.add(b"k3")
    with pytest.raises(soaking.SoakError, match="there again"):
        client[0]._list()


def test_a_client_of_the_soak_sees_that_two_sessions_have_a_drop(client: Any) -> None:
    with pytest.raises(soaking.SoakError, match="a second session is told"):
        client[0]._twice()


# Whole rows, with few messages


def few(tmp_path: Path, launcher: Launcher, scale: int) -> Options:
    return Options(launcher, tmp_path, SCRIPT, tmp_path, repetitions=1, scale=scale, context=False)


def row_named(name: str) -> Row:
    (found,) = [row for row in (*serve.ROWS, *spool.ROWS) if row.name == name]
    return found


@pytest.mark.interop("dovecot-pop3d", "mpop")
@pytest.mark.parametrize(
    ("name", "scale", "who"),
    [
        ("serve-idle", 1000, ["mailflow, spool", "mailflow, maildir", "Dovecot tuned"]),
        ("serve-100000", 5000, ["mailflow, spool", "mailflow, maildir", "Dovecot tuned"]),
        ("spool-loopback", 100, ["mailflow", "mpop", "the limit"]),
    ],
)
def test_nobody_is_void_in_a_row(tmp_path: Path, name: str, scale: int, who: list[str]) -> None:
    row = row_named(name)
    tmp_path.chmod(0o711)
    with Launcher() as launcher:
        found = row.run(row, few(tmp_path, launcher, scale))
    assert [(each.name, each.fault) for each in found.series] == [(name, "") for name in who]
    assert report.verdict(row, found)["reached"]
