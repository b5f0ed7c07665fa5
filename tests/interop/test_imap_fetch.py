"""Fetching from two real IMAP servers, while another mail program is at the same mailbox."""

from __future__ import annotations

import pytest

from .imap_servers import Account, message

BODIES = {
    "plain": b"hello\r\n",
    "dots": b".\r\n..\r\n.end\r\n",
    "latin1": b"Gr\xfc\xdfe, \x80\xff\r\n",
    "long line": b"x" * 100_000 + b"\r\n",
    "no end": b"of line",
    "none": b"",
    "parts": (
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        b"--b\r\nContent-Type: application/octet-stream; name=a.bin\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b--\r\n"
    ),
    "large": b"0123456789abcde\r\n" * 200_000,
}
"""Subject -> body. The last one is longer than what is asked for at once."""

MAIL = sorted(message(subject, body) for subject, body in BODIES.items())

DRAFTS = "Entwürfe & mehr"


def test_every_message_comes_octet_for_octet_and_once(account: Account) -> None:
    account.deliver(*MAIL)
    assert account.run() == 0
    assert account.fetched() == MAIL
    assert account.run() == 0
    assert account.fetched() == MAIL


def test_dal_17_nothing_is_changed_at_the_server_unless_the_file_says_so(account: Account) -> None:
    account.deliver(*MAIL)
    account.mark(1, "\\Flagged")
    account.run()
    assert account.flags() == [{"\\Flagged"}, *[set()] * (len(MAIL) - 1)]
    assert sorted(account.left()) == MAIL


def test_what_comes_later_is_fetched_by_the_next_run(account: Account) -> None:
    for number in range(3):
        account.deliver(message(f"n{number}"))
        assert account.run() == 0
        assert account.subjects() == [f"n{each}" for each in range(number + 1)]


def test_a_flag_that_changes_is_no_new_message(account: Account) -> None:
    account.deliver(message("one"), message("two"))
    account.run()
    account.mark(1, "\\Seen")
    account.mark(2, "\\Answered")
    account.run()
    assert account.subjects() == ["one", "two"]


def test_a_folder_with_letters_of_any_alphabet_is_read(account: Account) -> None:
    account.deliver(message("inbox"))
    account.deliver(message("draft"), folder=DRAFTS)
    assert account.run(folders=[account.server.folder(DRAFTS)]) == 0
    assert account.subjects() == ["draft"]


def test_folders_are_chosen_by_pattern_and_by_what_they_are_for(account: Account) -> None:
    for folder in ("INBOX", "Sent", "Junk", "Lists/red", "Lists/blue", DRAFTS):
        account.deliver(message(folder.rpartition("/")[2]), folder=folder)
    lists = account.server.folder("Lists/red").removesuffix("red")
    wanted = ["INBOX", "\\Sent", f"{lists}*", f"!{lists}blue"]
    assert account.run(folders=wanted) == 0
    assert account.subjects() == sorted(["INBOX", "Sent", "red"])


def test_all_folders_but_some_are_read_and_none_that_holds_only_others(account: Account) -> None:
    for folder in ("INBOX", "Sent", "Junk", "Lists/red"):
        account.deliver(message(folder), folder=folder)
    assert account.run(folders=["*", "!\\Junk"]) == 0
    assert account.subjects() == sorted(["INBOX", "Sent", "Lists/red"])


def test_of_a_query_the_same_comes_whoever_answers_it(account: Account) -> None:
    account.deliver(message("one"), message("two", b"x" * 10_000 + b"\r\n"), message("three"))
    account.mark(3, "\\Flagged")
    account.run(where='not flagged and (size < 5000 or subject contains "ZWEI")')
    assert account.subjects() == ["one"]


def test_what_is_safe_here_is_deleted_and_what_another_program_has_marked_stays(
    account: Account,
) -> None:
    """DAL-31."""
    account.deliver(message("theirs"), message("ours"))
    account.mark(1, "\\Deleted")
    account.run(where='subject is "ours"', keep="0d", on_done="delete")
    assert account.subjects() == ["ours"]
    assert account.left() == [message("theirs")]
    assert account.flags() == [{"\\Deleted"}]


@pytest.mark.parametrize(("on_done", "flag"), [("seen", "\\Seen"), ("flag", "\\Flagged")])
def test_what_is_safe_here_is_marked(account: Account, on_done: str, flag: str) -> None:
    account.deliver(message("one"))
    account.run(keep="0d", on_done=on_done)
    assert account.flags() == [{flag}]
    account.run(keep="0d", on_done=on_done)
    assert account.subjects() == ["one"]


def test_what_is_safe_here_moves_into_a_folder_that_is_made_for_it(account: Account) -> None:
    account.deliver(*MAIL)
    account.run(keep="0d", on_done=f"move {account.server.folder('Erledigt ✓')}")
    assert account.left() == []
    assert sorted(account.left("Erledigt ✓")) == MAIL


def test_what_is_safe_here_moves_into_the_folder_that_is_for_it(account: Account) -> None:
    account.deliver(message("one"))
    account.run(keep="0d", on_done="move \\Archive")
    assert (account.left(), account.left("Archive")) == ([], [message("one")])


def test_a_message_that_went_before_it_was_asked_for_is_not_missed(account: Account) -> None:
    account.deliver(message("one"), message("two"))
    account.run()
    with account.program() as session:
        session.store("1", "+FLAGS", "\\Deleted")
        session.expunge()
    account.deliver(message("three"))
    assert account.run() == 0
    assert account.subjects() == ["one", "three", "two"]


def test_f14_a_folder_with_new_numbers_has_no_new_messages(
    account: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    account.deliver(*MAIL, folder=DRAFTS)
    folders = [account.server.folder(DRAFTS)]
    account.run(folders=folders)
    account.server.renumber(account.user, DRAFTS)
    account.deliver(message("new"), folder=DRAFTS)
    capfd.readouterr()
    assert account.run(folders=folders) == 0
    assert account.fetched() == sorted([*MAIL, message("new")])
    (line,) = [
        each for each in capfd.readouterr().err.splitlines() if "UIDVALIDITY" in each.upper()
    ]
    assert "made anew" in line
    assert account.run(folders=folders) == 0
    assert len(account.fetched()) == len(MAIL) + 1


def test_f14_nothing_is_removed_under_numbers_that_are_no_longer_so(account: Account) -> None:
    account.deliver(message("one"), message("two"), folder=DRAFTS)
    folders = [account.server.folder(DRAFTS)]
    account.run(folders=folders)
    account.server.renumber(account.user, DRAFTS)
    with account.program(DRAFTS) as session:
        session.store("1", "+FLAGS", "\\Deleted")
        session.expunge()
    account.deliver(message("new"), folder=DRAFTS)
    assert account.run(folders=folders, keep="0d", on_done="delete", limit=1) == 0
    assert set(account.left(DRAFTS)) <= {message("two"), message("new")}
    assert account.run(folders=folders, keep="0d", on_done="delete") == 0
    assert account.left(DRAFTS) == []
    assert account.subjects() == ["new", "one", "two"]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_that_we_trust_is_taken_and_no_other(account: Account, tls: str) -> None:
    port = account.server.imaps_port if tls == "implicit" else account.server.imap_port
    secured = {"host": "localhost", "port": port, "tls": tls}
    account.deliver(message("one"))
    assert account.run(**secured) == 77
    assert account.subjects() == []
    assert account.run(**secured, ca_file=account.server.ca_file) == 0
    assert account.subjects() == ["one"]


@pytest.mark.parametrize("way", ["plain", "login"])
def test_each_way_to_log_in_works(account: Account, way: str) -> None:
    account.deliver(message("one"))
    assert account.run(auth=[way]) == 0
    assert account.subjects() == ["one"]


@pytest.mark.parametrize(
    "ways", [[], ["plain"], ["login"]], ids=lambda ways: "".join(ways) or "any"
)
def test_a_password_may_have_letters_of_any_alphabet(account: Account, ways: list[str]) -> None:
    password = 'Gr\u00fc\u00dfe "\\ \u2713'
    account.deliver(message("one"))
    account.server.add_user(account.user, password)
    assert account.run(password=password, auth=ways) == 0
    assert account.subjects() == ["one"]


def test_a_wrong_password_ends_the_run_as_refused(
    account: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    assert account.run(password="canary-guess") == 77
    said = capfd.readouterr().err
    assert account.server.host in said
    assert "canary" not in said
