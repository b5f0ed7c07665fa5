"""`filter.command`: real programs, what they print, and what their exit status means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailflow.errors import BadMailError, MailflowError, RefusedError, UnavailableError
from mailflow.mail import Mail, OctetFile, Octets, Spliced, read
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import Discard, Hold, Reject
from mailflow_filter.command import CommandFilter

TEXT = b"Subject: one\r\nTo: red@example.org\r\n\r\nHello \xe4\r\n.\r\nFrom here\r\n"

ADD_HEADER = "import sys; sys.stdout.buffer.write(b'X-Spam-Flag: NO\\n' + sys.stdin.buffer.read())"
"""As spamassassin does."""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def run(
    scratch: Path, words: list[str], one: Mail | None = None, *, approved: bool = False,
    **table: object,
) -> Any:  # fmt: skip
    desk = Desk("spam", base=str(scratch))
    options: Any = CommandFilter.options.read({"command": words, **table})
    one = one or mail(TEXT)
    [verdict] = desk.process(CommandFilter(options, desk.runtime), one, approved=approved)
    return verdict


def test_what_a_program_leaves_unchanged_stays_the_same_content(tmp_path: Path) -> None:
    one = mail(TEXT)
    assert run(tmp_path, ["cat"], one) is one


ODD = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"a", b"\0\xff", b".\r\n", b"From x\r\n", b"\r\r\n"]),
    max_size=20,
).map(b"".join)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ODD)
def test_f11_unchanged_octets_stay_whatever_they_are(tmp_path: Path, body: bytes) -> None:
    one = mail(b"").replace(content=Octets(b"Subject: odd\r\n\r\n" + body))
    assert run(tmp_path, ["cat"], one) is one
    changed = run(tmp_path, python(ADD_HEADER), one)
    assert read(changed.content) == b"X-Spam-Flag: NO\r\n" + read(one.content)


def test_a_header_that_is_added_leaves_the_body_where_it_is(tmp_path: Path) -> None:
    one = mail(TEXT)
    changed = run(tmp_path, python(ADD_HEADER), one)
    assert read(changed.content) == b"X-Spam-Flag: NO\r\n" + TEXT
    assert isinstance(changed.content, Spliced)
    assert changed.content.base is one.content


def test_a_body_that_is_changed_is_the_mail_from_now_on(tmp_path: Path) -> None:
    one = mail(TEXT, sender="ann@x.org", to=["red@example.org"], notes={"a": "b"})
    changed = run(tmp_path, ["sed", "s/Hello/Bye/"], one)
    assert read(changed.content) == TEXT.replace(b"Hello", b"Bye")
    assert (changed.id, changed.envelope, changed.notes) == (one.id, one.envelope, one.notes)


@pytest.mark.parametrize("line_ends", ["lf", "crlf"])
def test_a_bare_lf_becomes_crlf(tmp_path: Path, line_ends: str) -> None:
    changed = run(tmp_path, sh("printf 'A: b\\n\\nx\\r\\ny\\n'"), line_ends=line_ends)
    assert read(changed.content) == b"A: b\r\n\r\nx\r\ny\r\n"


def test_the_program_gets_the_line_ends_it_asks_for(tmp_path: Path) -> None:
    for line_ends, count in (("lf", b"0"), ("crlf", b"6")):
        one = run(tmp_path, sh("printf 'N: '; grep -c $(printf '\\r'); true"), line_ends=line_ends)
        assert one.header().get("N") == count.decode()


def test_an_mbox_line_that_it_prints_first_does_not_stay(tmp_path: Path) -> None:
    one = mail(TEXT, sender="ann@x.org")
    assert run(tmp_path, ["cat"], one, from_line=True) is one
    changed = run(tmp_path, sh("sed -e '1s/^/X: y\\n/' | sed '1s/^/From z Thu Jan  1\\n/'"), one)
    assert read(changed.content) == b"X: y\r\n" + TEXT


def large(directory: Path) -> Mail:
    path = directory / "large"
    path.write_bytes(b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 200_000)
    return mail(b"").replace(content=OctetFile(str(path)))


def test_f10_a_large_mail_goes_through_files(tmp_path: Path) -> None:
    one = large(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert run(scratch, ["cat"], one) is one
    changed = run(scratch, python(ADD_HEADER), one)
    assert changed.content.base is one.content
    assert list(scratch.iterdir()) == []
    changed = run(scratch, ["sed", "s/9abcde/9ABCDE/"], one)
    assert read(changed.content) == read(one.content).replace(b"9abcde", b"9ABCDE")
    assert [str(path) for path in scratch.iterdir()] == [changed.content.path]


@pytest.mark.parametrize(
    "script", ["cat > /dev/null", "echo oh no, an error", "printf '\\n\\nbody only\\n'"]
)
def test_what_is_no_message_is_not_taken_for_one(tmp_path: Path, script: str) -> None:
    with pytest.raises(UnavailableError, match=r"^what sh prints is no message$"):
        run(tmp_path, sh(script))


def test_a_mail_without_a_header_may_come_back_without(tmp_path: Path) -> None:
    changed = run(tmp_path, ["sed", "s/no/No/"], mail(b"no header\n"))
    assert read(changed.content) == b"No header\r\n"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(77, Reject("no, thanks")), (99, Discard("no, thanks"))],
)
def test_an_exit_status_is_a_verdict(tmp_path: Path, status: int, verdict: object) -> None:
    assert run(tmp_path, sh(f"echo no, thanks >&2; exit {status}")) == verdict


def test_a_verdict_of_a_silent_program_tells_its_status(tmp_path: Path) -> None:
    assert run(tmp_path, sh("exit 3"), status={"3": "hold"}) == Hold("sh exits with status 3")


@pytest.mark.parametrize(
    ("script", "kind", "temporary"),
    [
        ("exit 75", UnavailableError, True),
        ("exit 1", UnavailableError, True),
        ("exit 127", UnavailableError, True),
        ("kill -KILL $$", UnavailableError, True),
        ("exit 65", BadMailError, False),
        ("exit 70", RefusedError, False),
    ],
)
def test_pml_04_any_other_end_is_trouble_and_the_mail_is_as_it_was(
    tmp_path: Path, script: str, kind: type[MailflowError], temporary: bool
) -> None:
    with pytest.raises(MailflowError) as raised:
        run(tmp_path, sh(f"echo 'A: changed'; {script}"))
    assert type(raised.value) is kind
    assert raised.value.temporary is temporary


@pytest.mark.parametrize(("word", "kind"), [("later", UnavailableError), ("failed", RefusedError)])
def test_the_file_may_say_what_is_trouble(
    tmp_path: Path, word: str, kind: type[MailflowError]
) -> None:
    with pytest.raises(kind, match="status 0"):
        run(tmp_path, ["cat"], status={"0": word})


@pytest.mark.parametrize("status", ["reject", "hold"])
def test_what_a_human_has_released_goes_on_as_it_is(tmp_path: Path, status: str) -> None:
    one = mail(TEXT)
    assert run(tmp_path, sh("exit 5"), one, approved=True, status={"5": status}) is one


@pytest.mark.parametrize(("status", "spam"), [(0, True), (1, False), (2, False)])
def test_a_classifier_like_bogofilter_leaves_a_note(
    tmp_path: Path, status: int, spam: bool
) -> None:
    one = mail(TEXT)
    after = run(
        tmp_path, sh(f"cat > /dev/null; exit {status}"), one, output="ignore", note="bogofilter",
        status={"1": "pass", "2": "pass", "3": "later"},
    )  # fmt: skip
    assert after.content is one.content
    assert after.notes == {"bogofilter": str(status)}
    assert (after.notes["bogofilter"] == "0") is spam


def test_c03_a_filter_that_hangs_is_ended_and_the_mail_waits(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"^sleep has not ended after 0\.2 s$"):
        run(tmp_path, ["sleep", "60"], timeout="200ms")


def test_c03_a_filter_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="printed more than 2000000 octets"):
        run(tmp_path, ["yes"], max_size=2_000_000)
    assert list(tmp_path.iterdir()) == []


def test_c05_a_filter_that_is_missing_is_trouble_that_may_pass(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"^cannot run no-such-filter: no such program$"):
        run(tmp_path, ["no-such-filter"])


def test_d01_a_mail_that_cannot_be_read_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    lost = mail(TEXT).replace(content=OctetFile(str(tmp_path / "lost"), 9))
    with pytest.raises(UnavailableError, match=r"^cannot read mail .* for cat: No such file"):
        run(tmp_path, ["cat"], lost)


def test_it_gets_the_envelope(tmp_path: Path) -> None:
    one = mail(TEXT, sender="ann@x.org", to=["red+x@example.org"])
    script = sh('printf "A: %s %s %s\\n" "$SENDER" "$RECIPIENT" "$EXTENSION"; cat')
    assert run(tmp_path, script, one).header().get("A") == "ann@x.org red+x@example.org x"


@pytest.mark.interop("procmail")
def test_real_formail_edits_the_header(tmp_path: Path) -> None:
    one = mail(TEXT)
    changed = run(tmp_path, ["formail", "-I", "Subject: two", "-f"], one)
    assert changed.header().get("Subject") == "two"
    assert changed.header().get("To") == "red@example.org"
