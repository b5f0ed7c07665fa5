"""POP3 in a whole pipeline: from visit to visit nothing is lost, and nothing comes twice."""

from __future__ import annotations

import itertools
import ssl
import threading
import time

import pytest

import mailflow
from mailflow.testing.pop3 import CAPABILITIES, Faults, Pop3Server
from mailflow.testing.tls import Authority
from mailflow_maildir.distributor import MaildirDistributor
from mailflow_pop3.fetcher import Pop3Fetcher

from .conftest import SECRET


def post(number):
    return (
        b"From: ann@example.org\r\nSubject: %d\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n"
        % (number, number, b"x" * number)
    )  # fmt: skip


POSTS = [post(n) for n in range(1, 4)]


@pytest.fixture
def server():
    with Pop3Server({"red": SECRET}, {"red": POSTS}) as running:
        yield running


@pytest.fixture
def visit(tmp_path):
    """One run of a pipeline from these servers into a Maildir; gives its exit status."""

    def run(*servers, keep="0d", **options):
        fetches = [
            {
                "use": "pop3", "name": f"server{number}", "host": server.host,
                "port": server.port, "user": "red", "password": SECRET, "keep": keep,
                "timeout": "5s", **options,
            }
            for number, server in enumerate(servers)
        ]  # fmt: skip
        pipeline = {
            "pipeline": {"name": "red", "journal": str(tmp_path / "journal.db")},
            "fetch": fetches,
            "distribute": [{"use": "maildir", "path": str(tmp_path / "Mail")}],
        }
        return mailflow.run(pipeline, now=True)

    return run


@pytest.fixture
def mail(tmp_path):
    """What has come, as it was on the wire."""

    def read():
        new = tmp_path / "Mail" / "new"
        files = new.iterdir() if new.exists() else ()
        return sorted(file.read_bytes().replace(b"\n", b"\r\n") for file in files)

    return read


def said(server, keyword):
    return [line for line in server.commands if line.startswith(keyword)]


def test_pml12_list_at_start_retr_and_dele_for_each_quit_at_the_end(server, visit, mail):
    """PML-12."""
    assert visit(server) == 0
    assert mail() == POSTS
    assert server.messages("red") == []
    commands = [line for line in server.commands if line.split()[0] not in ("CAPA", "AUTH", "UIDL")]
    assert commands[0] == "LIST"
    assert sorted(commands[1:-1]) == sorted(f"{w} {n}" for w in ("RETR", "DELE") for n in (1, 2, 3))
    assert commands[-1] == "QUIT"


class TestGuesses:
    def test_what_came_lately_is_asked_for_ahead_at_the_next_visit(self, server, visit, mail):
        visit(server, keep="forever")
        server.commands.clear()
        server.deliver("red", post(4))
        assert visit(server, keep="forever") == 0
        assert mail() == [*POSTS, post(4)]
        assert said(server, "RETR") == ["RETR 4", "RETR 5", "RETR 6"]

    def test_quiet_visits_ask_for_less_and_less(self, server, visit):
        asked = []
        for _ in range(5):
            server.commands.clear()
            visit(server, keep="forever")
            asked.append(len(said(server, "RETR")))
        assert asked == [3, 3, 1, 1, 1]

    def test_where_mail_is_deleted_the_numbers_begin_anew(self, server, visit, mail):
        visit(server)
        for number in (4, 5, 6):
            server.deliver("red", post(number))
        server.commands.clear()
        assert visit(server) == 0
        assert mail() == [post(n) for n in range(1, 7)]
        assert said(server, "RETR") == ["RETR 1", "RETR 2", "RETR 3"]
        assert server.messages("red") == []

    def test_csp19_a_server_that_pipelines_no_more_is_not_asked_ahead(self, visit, mail):
        """CSP-19: what CAPA says today counts, whatever it said the last time."""
        with Pop3Server({"red": SECRET}, {"red": POSTS}) as server:
            visit(server, keep="forever")
            server.capabilities = [name for name in CAPABILITIES if name != "PIPELINING"]
            server.deliver("red", post(4))
            server.commands.clear()
            assert visit(server, keep="forever") == 0
            assert said(server, "RETR") == ["RETR 4"]
        assert mail() == [*POSTS, post(4)]

    @pytest.mark.parametrize("cut", range(150, 1100, 50))
    def test_f01_a_visit_cut_anywhere_loses_and_doubles_nothing(self, server, visit, mail, cut):
        visit(server, keep="forever")
        for number in (4, 5):
            server.deliver("red", post(number))
        server.faults = Faults(cut_at=cut)
        visit(server)
        server.faults = Faults()
        assert visit(server) == 0
        assert mail() == [post(n) for n in range(1, 6)]
        assert server.messages("red") == []

    def test_f29_a_clock_that_was_put_back_or_forward_changes_no_identity(
        self, server, visit, mail, monkeypatch
    ):
        now = time.time()
        for number, jump in enumerate((0, 10 * 365 * 86400, -3600, 0), 4):
            monkeypatch.setattr("mailflow_pop3.fetcher.time.time", lambda at=now + jump: at)
            assert visit(server, keep="forever") == 0
            server.deliver("red", post(number))
        monkeypatch.undo()
        assert visit(server, keep="forever") == 0
        assert mail() == [post(n) for n in range(1, 8)]


class TestKeys:
    def test_f06_equal_uidls_come_once_each(self, server, visit, mail):
        server.mailbox("red").messages[:] = [("same", each) for each in POSTS]
        for _ in range(3):
            assert visit(server, keep="forever") == 0
        assert mail() == POSTS

    def test_f07_uidls_that_are_new_at_every_visit_bring_no_copies(self, server, visit, mail):
        numbers = itertools.count()
        for _ in range(4):
            messages = server.mailbox("red").messages
            messages[:] = [(f"new-{next(numbers)}", data) for _, data in messages]
            assert visit(server, keep="forever") == 0
        assert mail() == POSTS

    def test_f07_after_a_move_to_another_server_only_new_mail_comes(self, visit, mail):
        posts = [post(n) for n in range(1, 61)]
        with Pop3Server({"red": SECRET}, {"red": posts}) as server:
            visit(server, keep="forever")
            moved = server.mailbox("red")
            moved.messages[:] = [(f"moved-{n}", data) for n, data in enumerate(posts)]
            moved.deliver(post(61), "moved-61")
            server.commands.clear()
            assert visit(server, keep="forever") == 0
            read = {line for line in said(server, "RETR") if int(line.split()[1]) <= 60}
        assert sorted(mail()) == sorted([*posts, post(61)])
        assert read == set()  # their headers were enough

    @pytest.mark.parametrize("capabilities", [("PIPELINING", "TOP"), ()])
    def test_f08_without_uidl_nothing_comes_twice(self, visit, mail, capabilities):
        with Pop3Server({"red": SECRET}, {"red": POSTS}, capabilities=capabilities) as server:
            for _ in range(3):
                assert visit(server, keep="forever") == 0
            assert mail() == POSTS
            assert visit(server) == 0
            assert server.messages("red") == []
        assert mail() == POSTS

    def test_f08_malformed_uidls_are_keys_all_the_same(self, server, visit, mail):
        uidls = ["two words", "x" * 300, "caf\xe9"]
        server.mailbox("red").messages[:] = list(zip(uidls, POSTS, strict=True))
        for _ in range(3):
            assert visit(server, keep="forever") == 0
        assert mail() == POSTS

    def test_f13_a_server_that_deletes_nothing_brings_nothing_twice(self, server, visit, mail):
        server.faults = Faults(keep_deleted=True)
        for _ in range(3):
            assert visit(server) == 0
        assert mail() == POSTS


def test_csp21_a_slow_disk_does_not_stall_the_reader(visit, mail, monkeypatch):
    """CSP-21: the last message is here before the first one is saved."""
    posts = [post(n) for n in range(1, 151)]
    here = threading.Semaphore(0)
    all_here = []
    arrived, deliver = Pop3Fetcher._arrived, MaildirDistributor.distribute_many

    def reading(*words):
        here.release()
        return arrived(*words)

    def saving(*words):
        if not all_here:
            all_here.append(all(here.acquire(timeout=10) for _ in posts))
        return deliver(*words)

    monkeypatch.setattr(Pop3Fetcher, "_arrived", reading)
    monkeypatch.setattr(MaildirDistributor, "distribute_many", saving)
    with Pop3Server({"red": SECRET}, {"red": posts}) as server:
        assert visit(server) == 0
    assert all_here == [True]
    assert len(mail()) == 150


class TestFailures:
    def test_f04_the_next_account_goes_on_where_one_keeps_silent(self, server, visit, mail):
        with Pop3Server({"red": SECRET}, faults=Faults(stall_at=0)) as silent:
            assert visit(silent, server, timeout="0.3s") == 75
        assert mail() == POSTS

    def test_f09_a_message_that_is_gone_stops_no_other(self, server, visit, mail):
        server.faults = Faults(answers={"RETR 2": b"-ERR gone\r\n"})
        visit(server)
        assert mail() == [POSTS[0], POSTS[2]]
        server.faults = Faults()
        assert visit(server) == 0
        assert mail() == POSTS

    def test_f12_a_wrong_password_is_not_tried_at_every_run(self, server, tmp_path):
        """F12: no account is locked by a cron job."""
        fetch = {"use": "pop3", "host": server.host, "port": server.port, "user": "red"}
        pipeline = {
            "pipeline": {"name": "red", "journal": str(tmp_path / "journal.db")},
            "fetch": [{**fetch, "password": "wrong"}],
            "distribute": [{"use": "maildir", "path": str(tmp_path / "Mail")}],
        }
        assert mailflow.run(pipeline) == 77
        assert [mailflow.run(pipeline) for _ in range(3)] == [75] * 3
        assert len(said(server, "AUTH")) == 1

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    @pytest.mark.parametrize("setting", ["TLSv1.1", "a small key"])
    def test_f23_weak_tls_gets_no_password(self, visit, mail, tmp_path, setting):
        authority = Authority(tmp_path)
        with Pop3Server(
            {"red": SECRET}, {"red": POSTS}, tls=authority.issue(), implicit=True
        ) as server:
            if setting == "TLSv1.1":
                server.tls.minimum_version = ssl.TLSVersion.TLSv1
                server.tls.maximum_version = ssl.TLSVersion.TLSv1_1
                server.tls.set_ciphers("ALL:@SECLEVEL=0")
            else:
                server.tls.maximum_version = ssl.TLSVersion.TLSv1_2
                server.tls.set_ciphers("aNULL:@SECLEVEL=0")
            assert visit(server, tls="implicit", ca_file=authority.ca_file) == 77
            assert server.commands == []
        assert mail() == []

    def test_f28_two_runs_at_once_fetch_and_delete_once(self, server, visit, mail):
        statuses = []

        def run():
            statuses.append(visit(server, speculate=False))

        threads = [threading.Thread(target=run) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert statuses == [0, 0]
        assert mail() == POSTS
        assert sorted(said(server, "RETR")) == ["RETR 1", "RETR 2", "RETR 3"]
        assert server.messages("red") == []
