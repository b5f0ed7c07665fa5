"""`mailflow mail`: the mailbox of one account by hand, at a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot

from .command import CANARY, Done, Shop

pytestmark = pytest.mark.interop("dovecot-imapd")


def post(subject: str, sender: str = "Ann <ann@example.org>") -> bytes:
    return f"From: {sender}\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


class Office:
    """The command, and an account `work` in the user's defaults.toml."""

    def __init__(self, shop: Shop, dovecot: Dovecot) -> None:
        self.shop = shop
        self.dovecot = dovecot
        self.user = f"u{os.urandom(6).hex()}"
        dovecot.add_user(self.user, CANARY)
        self.table = (
            f'[account.work]\nuse = "imap"\nhost = "127.0.0.1"\nport = {dovecot.imap_port}\n'
            f'tls = "none"\nuser = "{self.user}"\npassword = {shop.secret()}\n'
        )
        self.defaults = shop.home / ".config" / "mailflow" / "defaults.toml"
        self.defaults.parent.mkdir(parents=True)
        self.defaults.write_text(self.table)

    def deliver(self, *subjects: str, folder: str = "INBOX") -> None:
        self.dovecot.deliver(self.user, *map(post, subjects), folder=folder)

    def left(self, folder: str = "INBOX") -> int:
        return len(self.dovecot.messages(self.user, folder))

    def __call__(self, *words: str, stdin: bytes = b"") -> Done:
        done = self.shop("mail", *words, stdin=stdin)
        assert done.status == 0, done
        return done

    def refused(self, *words: str) -> Done:
        done = self.shop("mail", *words)
        assert done.status
        return done


@pytest.fixture
def office(shop: Shop, dovecot: Dovecot) -> Office:
    return Office(shop, dovecot)


class TestLooking:
    def test_folders_say_what_they_are_for_and_their_names_in_python(self, office: Office) -> None:
        lines = office("folders", "work").out.splitlines()
        assert lines[1].split() == ["INBOX", "inbox"]
        assert ["Sent", "sent", "sent"] in [line.split() for line in lines]
        found = json.loads(office("folders", "work", "--json").out)
        assert {"name": "INBOX", "delimiter": ".", "purpose": "", "table": "inbox"} in found

    def test_a_list_is_the_newest_first_with_all_that_is_needed_to_choose(
        self, office: Office
    ) -> None:
        office.deliver("one", "two")
        lines = office("list", "work").out.splitlines()
        assert lines[0].split() == ["UID", "CREATED", "SIZE", "FLAGS", "FROM", "SUBJECT"]
        assert [line.split()[0] for line in lines[1:]] == ["2", "1"]
        assert lines[1].endswith("Ann <ann@example.org>  two")

    def test_a_list_is_ordered_cut_and_of_several_folders(self, office: Office) -> None:
        office.deliver("b", "a", "c")
        office.deliver("d", folder="Archive")
        rows = office("list", "work", "--order", "subject", "--limit", "2", "--folder", "INBOX",
                      "--folder", "\\Archive").out.splitlines()  # fmt: skip
        assert [(row.split()[0], row.split()[-1]) for row in rows[1:]] == [
            ("INBOX", "a"), ("INBOX", "b"), ("Archive", "d"),
        ]  # fmt: skip
        for purpose in ("\\Archive", "Arch*"):  # which may be several
            heading, row = office("list", "work", "--folder", purpose).out.splitlines()
            assert (heading.split()[0], row.split()[0]) == ("FOLDER", "Archive")

    def test_a_list_as_json_has_every_field_that_needs_no_body(self, office: Office) -> None:
        assert json.loads(office("list", "work", "--json").out) == []
        office.deliver("one", "two")
        found = json.loads(office("list", "work", "--json", "--where", "uid is 1").out)
        (row,) = found
        assert (row["uid"], row["subject"], row["seen"]) == (1, "one", False)
        assert {"id", "created", "size", "flags", "from", "to", "mime"} <= row.keys()
        assert "content" not in row

    def test_a_count_is_a_number_or_one_for_each_folder(self, office: Office) -> None:
        office.deliver("one", "two")
        assert office("count", "work").out == "2\n"
        assert office("count", "work", "--where", 'subject is "one"').out == "1\n"
        found = json.loads(office("count", "work", "--folder", "*", "--json").out)
        assert (found["INBOX"], found["Trash"]) == (2, 0)

    def test_a_message_is_printed_octet_for_octet(self, office: Office) -> None:
        office.deliver("one", "two")
        assert office("get", "work", "2").out.encode() == post("two").replace(b"\r\n", b"\r\n")
        assert office("get", "work", "--where", 'subject is "one"').out == post("one").decode()

    def test_a_message_is_printed_as_json_with_its_texts_and_attachments(
        self, office: Office
    ) -> None:
        office.deliver("one")
        (row,) = json.loads(office("get", "work", "1", "--json").out)
        assert row["content"] == [{"mime": "text/plain", "text": "hello\r\n"}]
        assert row["attachments"] == []

    def test_many_messages_are_written_a_file_each_and_over_none(
        self, office: Office, tmp_path: Path
    ) -> None:
        office.deliver("one", "two")
        where = tmp_path / "out"
        office("get", "work", "--where", "all", "--to", str(where))
        assert {path.name: path.read_bytes() for path in where.iterdir()} == {
            "INBOX.1.eml": post("one"), "INBOX.2.eml": post("two"),
        }  # fmt: skip
        done = office.refused("get", "work", "1", "--to", str(where))
        assert "INBOX.1.eml: File exists" in done.err

    def test_looking_marks_nothing(self, office: Office) -> None:
        office.deliver("one")
        office("get", "work", "1")
        assert office("count", "work", "--where", "seen").out == "0\n"

    def test_what_is_not_there_is_69_and_several_are_64(self, office: Office) -> None:
        office.deliver("one", "two")
        assert office.refused("get", "work", "9").status == 69
        assert office.refused("list", "work", "--folder", "No such").status == 69
        several = office.refused("get", "work", "1", "2")
        assert (several.status, several.out) == (64, "")
        assert "--to DIRECTORY" in several.err


class TestChanging:
    def test_flags_are_set_and_cleared(self, office: Office) -> None:
        office.deliver("one", "two")
        assert office("update", "work", "1", "--set", "seen").out == "INBOX: 1 message changed\n"
        assert office("count", "work", "--where", "seen").out == "1\n"
        done = office("update", "work", "--all", "--clear", "seen", "--set", "flagged", "--json")
        assert json.loads(done.out) == {"INBOX": 2}
        assert office("count", "work", "--where", "flagged and not seen").out == "2\n"

    def test_messages_are_deleted_in_every_folder(self, office: Office) -> None:
        office.deliver("gumby", "other")
        office.deliver("gumby", folder="Archive")
        out = office("delete", "work", "--folder", "*", "--where", 'subject contains "GUMBY"').out
        assert {"INBOX: 1 message deleted", "Archive: 1 message deleted"} <= set(out.splitlines())
        assert (office.left(), office.left("Archive")) == (1, 0)

    @pytest.mark.parametrize("words", [("delete",), ("update", "--set", "deleted")])
    def test_a_dry_run_shows_what_it_is_about_and_changes_nothing(
        self, office: Office, words: tuple[str, ...]
    ) -> None:
        office.deliver("one", "two")
        command, *rest = words
        out = office(command, "work", "--where", 'subject is "two"', *rest, "--dry-run").out
        assert "two" in out
        assert "one" not in out
        assert out.splitlines()[-1].startswith("INBOX: 1 message would be ")
        counted = office(command, "work", "--all", *rest, "--dry-run", "--json").out
        assert json.loads(counted) == {"INBOX": 2}
        assert office.left() == 2
        assert office("count", "work", "--where", "deleted").out == "0\n"

    @pytest.mark.parametrize("words", [
        ("delete", "work"), ("delete", "work", "--all", "--where", "seen"),
        ("update", "work", "--set", "seen"), ("update", "work", "1"),
        ("update", "work", "1", "--set", "seen", "--clear", "seen"),
        ("update", "work", "1", "--set", "recent"), ("delete", "work", "0"),
        ("list", "work", "--where", "subjct is 'x'"), ("list", "work", "--order", "colour"),
        ("list", "work", "--where", 'recipient is "ann@example.org"'),
        ("list", "work", "--folder", "Nowhere*"), ("get", "work"),
    ])  # fmt: skip
    def test_what_is_not_said_clearly_is_64_and_changes_nothing(
        self, office: Office, words: tuple[str, ...]
    ) -> None:
        office.deliver("one")
        done = office.refused(*words)
        assert done.status == 64, done
        assert office.left() == 1

    def test_a_message_is_inserted_octet_for_octet(self, office: Office) -> None:
        octets = post("new", "Ben <ben@example.org>")
        dry = office("insert", "work", "--folder", "Drafts", "--dry-run", stdin=octets)
        assert dry.out == f"Drafts: {len(octets)} octets would be inserted\n"
        assert office.left("Drafts") == 0
        key = office("insert", "work", "--folder", "Drafts", "--set", "draft", stdin=octets).out
        assert key.startswith("Drafts;")
        assert office("get", "work", "--folder", "Drafts", "1").out.encode() == octets
        assert office("count", "work", "--folder", "Drafts", "--where", "draft").out == "1\n"
        refused = office.refused("insert", "work")
        assert refused[::2] == (65, "mailflow: stdin is empty: expected one message\n")

    def test_a_message_is_inserted_into_the_folder_that_is_for_it(self, office: Office) -> None:
        octets = post("new")
        key = office("insert", "work", "--folder", r"\Drafts", stdin=octets).out
        assert key.startswith("Drafts;")
        done = office.shop("mail", "insert", "work", "--folder", "*", stdin=octets)
        assert done.status == 64
        assert "these are several folders" in done.err

    def test_a_flag_that_is_both_set_and_cleared_is_named(self, office: Office) -> None:
        done = office.refused("update", "work", "1", "--set", "seen", "--clear", "seen")
        assert done.status == 64
        assert "--set seen and --clear seen: say one of the two" in done.err


class TestAccounts:
    def test_an_account_may_stand_in_the_file_that_is_named(self, office: Office) -> None:
        office.deliver("one")
        office.defaults.unlink()
        file = office.shop.home / "other.toml"
        file.write_text(office.table)
        assert office("count", "work", "--file", str(file)).out == "1\n"
        done = office.refused("count", "work")
        assert done.status == 78
        assert "there is no [account.work]" in done.err

    def test_an_account_may_be_a_url_with_its_password_in_netrc(self, office: Office) -> None:
        office.deliver("one")
        netrc = office.shop.home / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login {office.user} password {CANARY}\n")
        netrc.chmod(0o600)
        url = f"imap://{office.user}@127.0.0.1:{office.dovecot.imap_port}?tls=none"
        assert office("count", url).out == "1\n"

    def test_a_wrong_password_is_77_in_one_line(self, office: Office) -> None:
        office.shop.secret(value="canary-3x7q-wrong")
        done = office.refused("count", "work")
        assert done.status == 77
        assert len(done.err.splitlines()) == 1
        assert done.err.endswith("Authentication failed; check `user` and `password`\n")

    def test_a_server_that_is_away_is_75(self, office: Office) -> None:
        text = office.table.replace(f"{office.dovecot.imap_port}", "1")
        office.defaults.write_text(text)
        assert office.refused("count", "work").status == 75


PIGEON = '''
from mailflow import Item, Octets, Options, hookimpl
from mailflow.kinds import Folder, Found
from mailflow.options import Text

class Options(Options):
    host = Text("Where the loft is.")

class Loft:
    """Keeps mail on paper."""

    options = Options
    schemes = {"pigeon": {}}

    def __init__(self, options, runtime):
        self.source = options.host

    def __enter__(self): return self
    def __exit__(self, *error): pass
    def folders(self): return [Folder("INBOX")]
    def count(self, folder, chosen): return 1
    def update(self, folder, chosen, flags): return 1
    def delete(self, folder, chosen): return 1
    def insert(self, folder, content, flags=(), date=None): return "k"
    def select(self, folder, chosen, *, reach="listing", order="-uid", start=0, stop=None):
        octets = b"From: " + self.source.encode() + b"\\r\\nSubject: coo\\r\\n\\r\\n"
        yield Found(Item("k", len(octets), 0.0, frozenset(), folder, 7), Octets(octets))

@hookimpl
def mailflow_register(register):
    register.mailbox(Loft)
'''


def test_a_plugin_of_others_may_bring_a_mailbox(shop: Shop) -> None:
    shop.plugin("pigeon", PIGEON)
    done = shop("mail", "list", "pigeon://loft.example.org")
    assert done.status == 0, done
    assert done.out.splitlines()[1].split() == [
        "7", "1970-01-01", "00:00:00", "40", "loft.example.org", "coo",
    ]  # fmt: skip
    file = shop.home / "x.toml"
    file.write_text('[account.roof]\nuse = "pigeon"\nhost = "roof.example.org"\n')
    assert "roof.example.org" in shop("mail", "list", "roof", "--file", str(file)).out


def test_a_mailbox_that_lacks_a_call_is_told_before_it_is_used(shop: Shop) -> None:
    shop.plugin("pigeon", PIGEON.replace("def insert(", "def put("))
    done = shop("mail", "list", "pigeon://loft.example.org")
    assert done.status == 78
    assert "mailbox `pigeon` has no insert()" in done.err
