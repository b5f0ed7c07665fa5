"""Messages known again at a webmail whose ids begin anew, through the real engine.

Rule of the file: here a message is called by its subject, so that two messages can have one id,
one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow.testing.webmail import TestBed
from mailflow_webmail import mark

Run = Callable[..., None]

BY_UID = '\nfields.id = { css = "input[name=uid]", attr = "value" }\n'
BY_SUBJECT = f'\nfields.id = {{ css = "td.subject" }}{BY_UID.replace(".id", ".uid")}'


def message(subject: str, name: str, body: bytes = b"hello\n") -> bytes:
    return f"Subject: {subject}\nMessage-ID: <{name}@example.org>\n\n".encode() + body


@pytest.fixture(scope="module")
def running() -> Iterator[TestBed]:
    with TestBed(["INBOX"]) as bed:
        yield bed


@pytest.fixture
def bed(running: TestBed) -> TestBed:
    running.delete("INBOX", *running.uids("INBOX"))
    return running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from mailflow_webmail.definition.site import SHIPPED

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    text = Path(SHIPPED, "testbed.toml").read_text()
    assert BY_UID in text
    path = tmp_path / "mailflow" / "sites" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text.replace(BY_UID, BY_SUBJECT).replace("{id}", "{uid}"))
    return path


@pytest.fixture
def run(bed: TestBed, out: Path, site: Path, tmp_path: Path) -> Run:
    def run(keep: str = "forever", **more: object) -> None:
        status = mailflow.run({
            "pipeline": {"name": "mine", "journal": str(tmp_path / "journal")},
            "fetch": [{**bed.source(site="mine", keep=keep), **more}],
            "distribute": [{"use": "maildir", "path": str(out)}],
        })  # fmt: skip
        assert status == 0

    return run


def arrived(out: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in out.glob("new/*"))


def replace(bed: TestBed, *messages: bytes) -> None:
    """Somebody makes the folder anew."""
    bed.delete("INBOX", *bed.uids("INBOX"))
    bed.put("INBOX", *messages)


def test_another_message_under_the_id_of_one_that_is_due_is_fetched_and_not_just_deleted(
    bed: TestBed, run: Run, out: Path
) -> None:
    old, other = message("plan", "1"), message("plan", "2")
    bed.put("INBOX", old)
    run()
    replace(bed, other)
    run(keep="0d")
    assert arrived(out) == sorted([old, other])
    run(keep="0d")
    assert bed.messages("INBOX") == []


def test_what_was_fetched_and_is_due_is_removed_once_its_content_bears_it_out(
    bed: TestBed, run: Run, out: Path
) -> None:
    bed.put("INBOX", message("plan", "1"))
    run()
    bed.forget()
    run(keep="0d")
    assert bed.messages("INBOX") == []
    assert bed.asked("source") == 1
    assert len(arrived(out)) == 1


def test_a_folder_that_was_made_anew_is_noticed_where_its_pages_have_changed(
    bed: TestBed, run: Run, out: Path
) -> None:
    before = [message("plan", "1"), message("minutes", "2")]
    after = [message("plan", "3", b"another\n"), message("minutes", "4"), before[0]]
    bed.put("INBOX", *before)
    run()
    replace(bed, *after[:2])
    run()
    assert arrived(out) == sorted([*before, *after[:2]])
    run()
    assert len(arrived(out)) == 4


def test_a_folder_that_was_made_anew_and_looks_the_same_is_noticed_within_a_day(
    bed: TestBed, run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.put("INBOX", message("plan", "1"))
    run()
    replace(bed, message("plan", "2"))
    bed.forget()
    run()
    assert bed.asked("source") == 0, "nothing shows it"
    monkeypatch.setattr(mark, "DAY", -600.0)
    run()
    assert arrived(out) == sorted([message("plan", "1"), message("plan", "2")])


def test_messages_that_got_other_ids_are_known_by_what_they_hold(
    bed: TestBed, run: Run, out: Path, site: Path
) -> None:
    bed.put("INBOX", message("plan", "1"), message("minutes", "2"))
    run()
    site.write_text(site.read_text().replace(BY_SUBJECT, BY_UID).replace("{uid}", "{id}"))
    bed.put("INBOX", message("new", "3"))
    run()
    run(keep="0d")
    assert len(arrived(out)) == 3
    assert bed.messages("INBOX") == []


def test_what_is_due_on_pages_that_were_not_read_is_removed_by_the_next_run(
    bed: TestBed, run: Run, out: Path
) -> None:
    bed.put("INBOX", *(message(str(number), str(number)) for number in range(5)))
    bed.set(page_size=2)
    try:
        run()
        bed.forget()
        run(keep="0d")
        assert bed.asked("list") == 1, "nothing has come"
        run(keep="0d")
    finally:
        bed.set(page_size=20)
    assert bed.messages("INBOX") == []
    assert len(arrived(out)) == 5


def test_while_nothing_changes_nothing_is_read_again(bed: TestBed, run: Run, out: Path) -> None:
    bed.put("INBOX", *(message(f"subject {number}", str(number)) for number in range(7)))
    run()
    bed.forget()
    run()
    assert bed.asked("source") == 0
    bed.put("INBOX", message("new", "8"))
    run()
    assert bed.asked("source") == 2, "the new one, and one to compare"
    assert len(arrived(out)) == 8


def test_one_message_that_cannot_be_had_any_more_keeps_none_from_being_known(
    bed: TestBed, run: Run, out: Path
) -> None:
    bed.put("INBOX", *(message(f"subject {number}", str(number)) for number in range(3)))
    run()
    bed.put("INBOX", message("new", "8"))
    bed.trouble("error", at=("source",), times=1)
    run()
    bed.quiet()
    assert len(arrived(out)) == 4
