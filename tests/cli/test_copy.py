"""`mailflow copy`: a one-off pipeline from two URLs, and `--dry-run` of what would run."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.smtp import SmtpSink

from .command import CANARY, FETCH, HOOK, MAIL, Shop, pop3

TWO = b"From: bob@example.org\nSubject: two\nMessage-ID: <2@x>\n\nsecond\n"


@pytest.fixture
def server() -> Iterator[Pop3Server]:
    with pop3(MAIL.replace(b"\n", b"\r\n"), TWO.replace(b"\n", b"\r\n")) as server:
        yield server


def url(shop: Shop, server: Pop3Server, more: str = "") -> str:
    shop.secret()
    return f"pop3://red@127.0.0.1:{server.port}?tls=none&password_file={shop.home}/secret{more}"


DESTINATION = "maildir:~/Maildir"


class TestCopy:
    def test_every_message_goes_and_stays(self, shop: Shop, server: Pop3Server) -> None:
        done = shop("copy", url(shop, server), DESTINATION)
        assert (done.status, done.out, done.err) == (0, "2 messages copied\n", "")
        assert sorted(shop.maildir) == sorted([MAIL, TWO])
        assert len(server.messages("red")) == 2

    @pytest.mark.parametrize("place", ["maildir:~/Maildir", "mbox:~/mbox"])
    def test_a_place_is_not_copied_into_itself(
        self, shop: Shop, server: Pop3Server, place: str
    ) -> None:
        assert shop("copy", url(shop, server), place).status == 0
        for more in ([], ["--dry-run"], ["--delete"]):
            done = shop("copy", *more, place, place)
            assert (done.status, done.out) == (64, "")
            assert "is both source and destination" in done.err

    def test_a_maildir_is_copied_into_a_folder_of_its_own(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        assert shop("copy", url(shop, server), DESTINATION).status == 0
        done = shop("copy", DESTINATION, DESTINATION + "?folder=Old")
        assert (done.status, done.out) == (0, "2 messages copied\n")

    def test_a_second_run_copies_only_what_is_new(self, shop: Shop, server: Pop3Server) -> None:
        shop("copy", url(shop, server), DESTINATION)
        server.deliver("red", TWO.replace(b"two", b"three").replace(b"<2@", b"<3@"))
        done = shop("copy", url(shop, server, "&timeout=9s"), f"maildir://{shop.home}/Maildir")
        assert done.out == "1 message copied\n"
        assert len(shop.maildir) == 3

    def test_delete_deletes_what_is_copied_now_and_was_before(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        shop("copy", "--limit", "1", url(shop, server), DESTINATION)
        assert len(server.messages("red")) == 2
        shop("copy", "--delete", url(shop, server), DESTINATION)
        assert len(shop.maildir) == 2
        assert server.messages("red") == []

    def test_where_chooses(self, shop: Shop, server: Pop3Server) -> None:
        shop("copy", "--where", 'subject is "two"', url(shop, server), DESTINATION)
        assert shop.maildir == [TWO]

    def test_to_a_mail_server(self, shop: Shop, server: Pop3Server) -> None:
        with SmtpSink() as sink:
            target = f"smtp://127.0.0.1:{sink.port}?tls=none"
            who = ("--sender", "ann@example.org", "--to", "bob@example.org")
            done = shop("copy", *who, url(shop, server), target)
            assert (done.status, done.err) == (0, "")
            assert {each.sender for each in sink.messages} == {"ann@example.org"}
            assert [each.recipients for each in sink.messages] == [("bob@example.org",)] * 2

    @pytest.mark.parametrize("said", [(), ("--to", "b@x"), ("--sender", "a@x")])
    def test_a_mail_server_needs_to_know_who_sends_and_who_gets_it(
        self, shop: Shop, said: tuple[str, ...]
    ) -> None:
        done = shop("copy", *said, "pop3s://a@h?password_env=X", "smtp://h")
        assert done.status == 64
        assert "--sender ADDRESS --to ADDRESS" in done.err

    def test_what_fails_is_the_status_of_a_run_and_is_tried_again(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        (shop.home / "Maildir").write_text("in the way")
        done = shop("copy", url(shop, server), DESTINATION)
        assert done.status == 75
        assert done.err.endswith("mailflow: 2 not copied; see `mailflow queue list`\n")
        found = json.loads(shop("copy", "--json", url(shop, server), DESTINATION).out)
        assert found == {"messages": 0, "waiting": 2, "status": 75}
        (shop.home / "Maildir").unlink()
        done = shop("copy", url(shop, server), DESTINATION)
        assert (done.status, done.out, done.err) == (0, "2 messages copied\n", "")
        assert len(shop.maildir) == 2

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--where", "subjct is 1"), "--where: "),
            (("--to", "no one"), "--to: expected addresses"),
        ],
    )
    def test_a_wrong_option_is_64(self, shop: Shop, words: tuple[str, ...], said: str) -> None:
        done = shop("copy", *words, "pop3s://a@h?password_env=X", DESTINATION)
        assert done.status == 64
        assert said in done.err

    def test_c02_a_wrong_url_is_one_line_without_its_password(self, shop: Shop) -> None:
        done = shop("copy", f"pop3s://ann:{CANARY}@h", DESTINATION)
        assert done.status == 64
        assert done.err.count("\n") == 1
        assert "?password_file=PATH" in done.err

    def test_a_password_is_asked_of_a_human_and_not_echoed(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        ours, theirs = pty.openpty()
        source = f"pop3://red@127.0.0.1:{server.port}?tls=none"
        child = shop.start("copy", source, DESTINATION, stdin=theirs, start_new_session=True)
        asked = b""
        while not asked.endswith(b": "):  # from here on it is not echoed
            asked += os.read(child.stderr.fileno(), 4096)
        os.write(ours, CANARY.encode() + b"\n")
        done = shop.end(child)
        os.set_blocking(ours, False)
        with suppress(BlockingIOError):
            assert CANARY.encode() not in os.read(ours, 4096)
        os.close(ours)
        os.close(theirs)
        assert (done.status, done.out) == (0, "2 messages copied\n")
        assert asked.decode() == f"Password of red@127.0.0.1:{server.port}: "

    def test_nothing_is_asked_where_no_human_sits(self, shop: Shop) -> None:
        done = shop("copy", "pop3s://ann@h", DESTINATION)
        assert done.status == 64
        assert "no password is known" in done.err


class TestDryRun:
    def test_a_copy_lists_what_it_would_take_and_changes_nothing(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        done = shop("copy", "--dry-run", "--delete", url(shop, server), DESTINATION)
        assert done.status == 0
        lines = done.out.splitlines()
        assert lines[0].split() == ["SIZE", "DATE", "KEY"]
        assert lines[-1].startswith("source: 2 of 2 messages would be fetched")
        assert sorted(path.name for path in shop.home.iterdir()) == ["secret"]
        assert len(server.messages("red")) == 2

    def test_what_was_copied_is_listed_no_more(self, shop: Shop, server: Pop3Server) -> None:
        shop("copy", "--limit", "1", url(shop, server), DESTINATION)
        words = ("--dry-run", "--delete", "--json")
        (found,) = [json.loads(shop("copy", *words, url(shop, server), DESTINATION).out)]
        assert (found["listed"], len(found["fetched"]), len(found["settled"])) == (2, 1, 1)
        assert len(server.messages("red")) == 2
        assert len(shop.maildir) == 1

    def test_a_run_says_what_its_sources_have_and_what_is_due(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        (shop.home / "Maildir").write_text("in the way")
        assert shop("run", file).status == 75
        shop.change("UPDATE delivery SET due = 0")
        before = shop.rows("SELECT * FROM delivery"), shop.rows("SELECT * FROM mail")
        server.deliver("red", TWO.replace(b"two", b"three").replace(b"<2@", b"<3@"))
        done = shop("run", "--dry-run", file)
        assert (done.status, done.err) == (0, "")
        lines = done.out.splitlines()
        assert lines[0].startswith("red: pop3: 1 of 1 message would be fetched, ")
        assert len(lines) == 3
        assert all(line.endswith("due at maildir") for line in lines[1:])
        assert (shop.rows("SELECT * FROM delivery"), shop.rows("SELECT * FROM mail")) == before
        assert len(server.messages("red")) == 1

    def test_a_source_out_of_reach_is_said_and_hides_no_other(
        self, shop: Shop, server: Pop3Server
    ) -> None:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        other = shop.home / "blue.toml"
        other.write_text(FETCH.replace("{port}", "1").replace("{secret}", shop.secret())
                         .replace("{home}", str(shop.home)))  # fmt: skip
        done = shop("run", "--dry-run", str(other), file)
        assert done.status == 75
        assert "mailflow: blue: pop3: " in done.err
        assert "red: pop3: 2 of 2" in done.out

    def test_a_pipeline_that_is_handed_mail_has_nothing_to_ask(self, shop: Shop) -> None:
        done = shop("run", "--dry-run", shop.write(HOOK))
        assert (done.status, done.out, done.err) == (0, "", "")
        assert not shop.journal.exists()
