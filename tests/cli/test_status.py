"""`mailflow status`: how the sources fare and what waits, from journals at rest."""

from __future__ import annotations

import json
from typing import Any

from .command import FETCH, HOOK, MAIL, Shop, pop3

HELD = '[[process]]\nuse = "filter.hold"\nreason = "look"\n'


def facts(shop: Shop, *words: str, status: int = 0) -> Any:
    done = shop("status", "--json", *words)
    assert done.status == status, done.err
    return json.loads(done.out)["journals"]


def test_where_nothing_ran_nothing_waits(shop: Shop) -> None:
    done = shop("status")
    assert (done.status, done.out, done.err) == (0, "nothing waits\n", "")
    assert list(shop.home.iterdir()) == []


def test_a_journal_that_cannot_be_read_is_not_one_in_which_nothing_waits(shop: Shop) -> None:
    shop.write(HOOK)
    shop.journal.mkdir()
    done = shop("status", shop.file)
    assert (done.status, done.out) == (74, "")
    assert done.err == f"mailflow: the journal {shop.journal} cannot be opened: it is a directory\n"


def test_a_source_that_works_with_what_is_known_of_it(shop: Shop) -> None:
    with pop3(MAIL, MAIL) as server:
        file = shop.write(FETCH.replace('keep = "0d"', ""), port=server.port, secret=shop.secret())
        assert shop("run", file).status == 0
    (journal,) = facts(shop)
    (source,) = journal["sources"]
    assert (source["pipeline"], source["step"], source["source"]) == (
        "red", "pop3", "red@127.0.0.1",
    )  # fmt: skip
    assert (source["known"], source["failures"], source["error"]) == (2, 0, "")
    assert source["worked_at"] > 1e9
    assert journal["steps"] == []
    assert journal["octets"] > 1000
    assert "red@127.0.0.1  2" in shop("status", file).out


def test_a_source_that_fails_needs_a_human_the_third_time(shop: Shop) -> None:
    file = shop.write(FETCH, port=1, secret=shop.secret())
    for number, status in ((1, 0), (2, 0), (3, 1)):
        assert shop("run", "--now", file).status == 75
        (source,) = facts(shop, status=status)[0]["sources"]
        assert source["failures"] == number
    assert "refused" in source["error"]
    assert source["next_try"] > source["failed_at"]
    assert " in " in shop("status").out


def test_held_mail_needs_a_human(shop: Shop) -> None:
    assert shop("hook", shop.write(HELD + HOOK), stdin=MAIL).status == 0
    (journal,) = facts(shop, status=1)
    (step,) = journal["steps"]
    assert (step["step"], step["held"], step["due"]) == ("filter.hold", 1, 0)
    assert journal["needs_a_human"] is True


def test_deliveries_that_are_due_in_doubt_or_held_are_counted_by_step(shop: Shop) -> None:
    file = shop.write(HOOK.replace('"maildir"', '"maildir"\nname = "archive"'))
    (shop.home / "Maildir").write_text("in the way")
    for number in range(3):
        mail = MAIL.replace(b"<1@x>", b"<%d@x>" % number)
        assert shop("hook", file, stdin=mail).status == 0
    (step,) = facts(shop, file)[0]["steps"]
    assert (step["step"], step["due"], step["held"], step["doubt"]) == ("archive", 3, 0, 0)
    assert step["next_try"] > step["oldest"]
    one, two, _ = (row[0] for row in shop.rows("SELECT mail FROM delivery ORDER BY mail"))
    shop.change(f"UPDATE delivery SET state = 'doubt' WHERE mail = '{one}'")
    shop.change(f"UPDATE delivery SET state = 'held' WHERE mail = '{two}'")
    (step,) = facts(shop, file, status=1)[0]["steps"]
    assert (step["due"], step["held"], step["doubt"]) == (1, 1, 1)


def test_it_changes_nothing(shop: Shop) -> None:
    assert shop("hook", shop.write(HELD + HOOK), stdin=MAIL).status == 0
    for _ in range(2):
        before = _files(shop)
        assert shop("status").status == 1
        assert _files(shop) == before
        shop.rows("SELECT * FROM mail")  # now its write-ahead log is gone


def test_a_journal_that_is_none_is_said_and_hides_no_other(shop: Shop) -> None:
    assert shop("hook", shop.write(HELD + HOOK), stdin=MAIL).status == 0
    other = shop.home / "blue.toml"
    other.write_text(f'[pipeline]\njournal = "{shop.home}/no.db"\n' + HOOK)
    (shop.home / "no.db").write_text("x" * 5000)
    done = shop("status", shop.file, str(other))
    assert done.status == 74
    assert "no.db" in done.err
    assert "filter.hold" in done.out


def _files(shop: Shop) -> dict[str, bytes]:
    """All files with what is in them, but SQLite's locks."""
    return {
        str(path): path.read_bytes()
        for path in shop.home.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }
