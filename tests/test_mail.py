"""mailflow.mail: octets in, octets out, and header edits that touch nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from email.header import decode_header, make_header
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailflow.mail import (
    HEADER_LIMIT,
    Content,
    Envelope,
    Header,
    Mail,
    OctetFile,
    Octets,
    Spliced,
    chunks,
    decode_words,
    head,
    is_cut,
    read,
)

PLAIN = b"From: ann@example.org\r\nSubject: hello\r\n\r\nbody\r\n"


def mail(data: bytes) -> Mail:
    return Mail("1", Envelope(), Octets(data))


def file(path: Path, data: bytes) -> OctetFile:
    path.write_bytes(data)
    return OctetFile(str(path))


def edited(data: bytes) -> bytes:
    """The octets after a field was added at the end."""
    header = mail(data).header()
    header.add("X-New", "1")
    return read(mail(data).with_header(header).content)


# Where a header section ends


@pytest.mark.parametrize(
    ("data", "section"),
    [
        (PLAIN, b"From: ann@example.org\r\nSubject: hello\r\n"),
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\nbody\r\n", b""),
        (b"no header at all\r\n", b""),
        (b"Subject: only", b"Subject: only"),
        (b"Subject: only\r\n", b"Subject: only\r\n"),
        (b"Subject: a\r\n folded", b"Subject: a\r\n folded"),
        (b"Subject: a\r\n \r\n\tb\r\n\r\nbody", b"Subject: a\r\n \r\n\tb\r\n"),
        (b"A: 1\r\nno blank line before this\r\nB: 2\r\n", b"A: 1\r\n"),
        (b" begins folded\r\nA: 1\r\n", b""),
        (b"A: 1\r\nB\r\n", b"A: 1\r\n"),
        (b"A : with space\r\n\r\n", b"A : with space\r\n"),
        (b"A: nul \0 and cr \r inside\r\n\r\n", b"A: nul \0 and cr \r inside\r\n"),
        (b"A: bare lf\nB: 2\n\nbody\n", b"A: bare lf\nB: 2\n"),
        (b"A\xff: not a name\r\n", b""),
        ("Subject: 8-bit \xe9\r\n\r\n".encode("latin-1"), b"Subject: 8-bit \xe9\r\n"),
        (b"From ann@x Mon Jan  1 10:00:00 2024\r\nA: 1\r\n\r\nb", None),
        (b">From ann@x Mon Jan  1 10:00:00 2024\r\nA: 1", None),
        (b"From here on there is text\r\nand no field\r\n", b""),
        (b"From : old spelling\r\nA: 1\r\n\r\n", b"From : old spelling\r\nA: 1\r\n"),
    ],
)
def test_the_header_section_ends_before_the_first_line_that_is_no_field(
    data: bytes, section: bytes | None, tmp_path: Path
) -> None:
    expected = data.split(b"\r\n\r\n")[0] + b"\r\n" * (b"\r\n\r\n" in data)
    expected = expected if section is None else section
    assert head(Octets(data)) == expected
    assert head(file(tmp_path / "m", data)) == expected


@given(st.binary(max_size=300))
@example(b"A: 1\r\n\r\n")
@example(b"A: 1")
@example(b"\nA: 1")
def test_a_header_section_is_a_beginning_of_the_message(data: bytes) -> None:
    section = head(Octets(data))
    assert data.startswith(section)
    assert bytes(Header(section)) == section
    assert head(Octets(section)) == section


# Edits


@given(st.binary(max_size=300))
@example(b"")
@example(b"\r\n")
@example(b"A: 1")
@example(b"text")
@example(b"From x\r\nA: 1\r\n\r\n")
def test_f11_an_edit_leaves_every_other_octet_alone(data: bytes) -> None:
    section = head(Octets(data))
    kept = section + b"\r\n" * (not section.endswith(b"\n") and section != b"")
    after = edited(data)
    assert after.startswith(kept + b"X-New: 1\r\n")
    rest = after[len(kept) + len(b"X-New: 1\r\n") :]
    body = data[len(section) :]
    assert rest in (body, b"\r\n" + body)
    assert head(Octets(after)) == kept + b"X-New: 1\r\n"


FIELD = st.builds(
    lambda name, value: name + b": " + value.replace(b"\n", b"\n ") + b"\r\n",
    st.sampled_from([b"From", b"SUBJECT", b"x-new", b"Received", b"B\x21"]),
    st.binary(max_size=30),
)
SECTION = st.lists(FIELD, max_size=6).map(b"".join)


@given(SECTION, st.binary(max_size=50))
def test_a_message_of_fields_and_a_blank_line_keeps_both_through_an_edit(
    section: bytes, body: bytes
) -> None:
    data = section + b"\r\n" + body
    header = mail(data).header()
    assert bytes(header) == section
    header.set("X-Other", "v")
    content = mail(data).with_header(header).content
    assert read(content) == section + b"X-Other: v\r\n\r\n" + body
    assert content.size == len(read(content))


@given(SECTION, st.binary(max_size=50))
def test_two_edits_one_after_the_other_are_as_one(section: bytes, body: bytes) -> None:
    data = section + b"\r\n" + body
    once = mail(data)
    header = once.header()
    header.set("X-A", "1")
    header.set("X-B", "2")
    twice = mail(data)
    for name, value in (("X-A", "1"), ("X-B", "2")):
        again = twice.header()
        again.set(name, value)
        twice = twice.with_header(again)
    assert read(twice.content) == read(once.with_header(header).content)
    assert isinstance(twice.content, Spliced)
    assert isinstance(twice.content.base, Octets)  # edits do not pile up


@given(st.binary(max_size=200))
def test_the_same_header_gives_the_same_mail(data: bytes) -> None:
    one = mail(data)
    assert one.with_header(one.header()) is one


@pytest.mark.parametrize("data", [b"text\r\n", b"\r\ntext\r\n", b"A: 1\r\ntext\r\n"])
def test_a_blank_line_stands_between_new_fields_and_a_body_without_one(data: bytes) -> None:
    after = edited(data)
    assert after.endswith(b"X-New: 1\r\n\r\ntext\r\n")


def test_a_message_of_a_header_only_gets_no_body() -> None:
    assert edited(b"A: 1") == b"A: 1\r\nX-New: 1\r\n"
    assert edited(b"") == b"X-New: 1\r\n"


def test_removing_every_field_leaves_the_body_a_body() -> None:
    one = mail(PLAIN)
    header = one.header()
    header.remove("From")
    header.remove("Subject")
    bare = one.with_header(header)
    assert read(bare.content) == b"\r\nbody\r\n"
    header.set("Subject", "again")
    assert read(bare.with_header(header).content) == b"Subject: again\r\n\r\nbody\r\n"


def test_an_edit_of_a_file_reads_the_body_from_the_file(tmp_path: Path) -> None:
    body = b"\r\n" + bytes(range(256)) * 4096
    one = Mail("1", Envelope(), file(tmp_path / "m", b"A: 1\r\n" + body))
    header = one.header()
    header.set("A", "2")
    content = one.with_header(header).content
    assert content.size == len(b"A: 2\r\n" + body)
    assert read(content) == b"A: 2\r\n" + body
    assert b"".join(chunks(content, 1000)) == b"A: 2\r\n" + body
    assert read(content) == b"A: 2\r\n" + body  # it can be read again


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 60), st.integers(0, 130))
def test_a_spliced_reader_seeks_and_reads_like_any_other(
    head_: bytes, base: bytes, offset: int, to: int
) -> None:
    class Elsewhere:
        """Content that is no Octets, so that the reader is the spliced one."""

        size = len(base)

        def open(self) -> io.BytesIO:
            return io.BytesIO(base)

    offset = min(offset, len(base))
    whole = head_ + base[offset:]
    content: Content = Spliced(head_, Elsewhere(), offset)
    assert content.size == len(whole)
    with content.open() as reader:
        assert reader.read() == whole
        assert reader.seek(min(to, len(whole))) == min(to, len(whole))
        assert reader.read(7) == whole[to : to + 7]
        assert reader.seek(0, io.SEEK_END) == len(whole)
        reader.seek(0)
        assert reader.read() == whole


def test_an_edit_of_a_spliced_content_whose_head_holds_more_than_fields_loses_nothing() -> None:
    content = Spliced(b"A: 1\r\n\r\nfirst line\r\n", Octets(b"old head\r\nsecond\r\n"), 10)
    one = Mail("1", Envelope(), content)
    header = one.header()
    header.set("A", "2")
    assert read(one.with_header(header).content) == b"A: 2\r\n\r\nfirst line\r\nsecond\r\n"


# Fields


def test_reading_unfolds_and_ignores_case() -> None:
    header = Header(b"SUBJECT:  a\r\n\tb\r\n c \r\nsubject: other\r\n")
    assert header.get("Subject") == "a\tb c"
    assert header.get_all("sUbJeCt") == ["a\tb c", "other"]
    assert header.get("Nothing") is None
    assert header.get_all("Nothing") == []
    assert "subject" in header
    assert "nothing" not in header
    assert header.raw("subject") == b"SUBJECT:  a\r\n\tb\r\n c \r\n"
    assert header.names() == ["SUBJECT", "subject"]


def test_octets_outside_ascii_come_back_as_they_were() -> None:
    for octets in ("Zoë".encode(), "Zoë".encode("latin-1"), b"\xff\xfe mixed \xc3\xa9"):
        header = Header(b"X: " + octets + b"\r\n")
        value = header.get("X")
        assert value is not None
        header.set("Y", value)
        assert header.raw("Y") == b"Y: " + octets + b"\r\n"


def test_set_takes_the_place_of_the_first_and_removes_the_others() -> None:
    header = Header(b"A: 1\r\nSubject: x\r\nB: 2\r\nsubject: y\r\nC: 3\r\n")
    header.set("Subject", "new")
    assert bytes(header) == b"A: 1\r\nSubject: new\r\nB: 2\r\nC: 3\r\n"
    header.set("D", "4")
    assert bytes(header).endswith(b"C: 3\r\nD: 4\r\n")
    header.remove("b")
    assert header.names() == ["A", "Subject", "C", "D"]
    assert header.get("c") == "3"


def test_a_trace_field_goes_first_but_behind_an_mbox_line() -> None:
    header = Header(b"A: 1\r\n")
    header.add("Received", "by us", first=True)
    assert bytes(header) == b"Received: by us\r\nA: 1\r\n"
    header = Header(b"From x Mon\r\nA: 1\r\n")
    header.add("Received", "by us", first=True)
    assert bytes(header) == b"From x Mon\r\nReceived: by us\r\nA: 1\r\n"


def test_an_mbox_line_is_no_field_and_can_be_removed() -> None:
    header = Header(b"From ann@x Mon Jan  1 10:00:00\r\nFrom: ann\r\n")
    assert header.names() == ["From"]
    assert header.get("From") == "ann"
    header.set("Subject", "x")
    header.remove("From")
    assert bytes(header).startswith(b"From ann@x Mon")
    header.remove_mbox_line()
    assert bytes(header) == b"Subject: x\r\n"


def test_what_is_behind_the_fields_of_a_section_is_left_out() -> None:
    header = Header(b"A: 1\r\n\r\nB: body\r\n")
    header.add("C", "3")
    assert bytes(header) == b"A: 1\r\nC: 3\r\n"


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\rb", "a\nb", "a\0b", "\ud800"])
def test_d18_a_value_that_would_end_its_line_is_refused(value: str) -> None:
    for act in (Header.set, Header.add):
        header = Header(b"A: 1\r\n")
        with pytest.raises(ValueError):  # noqa: PT011  # CR, LF, NUL, or no octets
            act(header, "Subject", value)
        assert bytes(header) == b"A: 1\r\n"


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\n", "Ä", "A\0", "\x7f"])
def test_d18_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a header field name"):
        Header().set(name, "x")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=400))
@example("a  b " * 40)
@example("word: " * 30)
@example("x" * 200 + " y")
@example("a" * 75 + " " * 100)
def test_a_value_comes_back_however_it_was_folded(value: str) -> None:
    header = Header()
    header.set("X-Long-Name-Of-A-Field", value)
    assert header.get("X-Long-Name-Of-A-Field") == value.strip(" \t")
    lines = bytes(header).split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.strip() for line in lines)  # a line of spaces would end the header for some
    assert all(len(line) <= 78 or b" " not in line.strip() for line in lines[1:])


def test_octets_of_a_long_subject_are_folded_at_spaces() -> None:
    header = Header()
    header.set("Subject", "word " * 40)
    assert max(len(line) for line in bytes(header).split(b"\r\n")) <= 78


# A header that is too long to be looked through


def test_a_field_of_ten_megabytes_ends_what_is_looked_at() -> None:
    front = b"From: ann@example.org\r\nTo: red@example.org\r\n"
    data = front + b"X-Huge: " + b"x" * 10_000_000 + b"\r\nSubject: s\r\n\r\nbody\r\n"
    started = time.monotonic()
    one = mail(data)
    assert head(one.content) == front
    assert is_cut(one.content)
    header = one.header()
    header.set("To", "green@example.org")
    content = one.with_header(header).content
    assert read(content) == data.replace(b"To: red", b"To: green")
    again = Mail("2", Envelope(), content)
    more = again.header()
    more.add("X-New", "1")
    assert read(again.with_header(more).content).startswith(
        b"From: ann@example.org\r\nTo: green@example.org\r\nX-New: 1\r\nX-Huge: xxx"
    )
    assert is_cut(content)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("extra", [-3, -2, -1, 0, 1, 2, 3])
@pytest.mark.parametrize("end", [b"\r\nbody", b"more: 1\r\n\r\nbody", b" folded\r\n\r\nbody"])
def test_a_field_at_the_limit_counts_only_if_it_is_whole(extra: int, end: bytes) -> None:
    fill = HEADER_LIMIT - len(b"A: 1\r\nB: \r\n") + extra
    data = b"A: 1\r\nB: " + b"x" * fill + b"\r\n" + end
    section = head(Octets(data))
    assert section in (b"A: 1\r\n", data[: data.index(b"\r\n", 10) + 2])
    if end.startswith(b" folded"):
        assert section == b"A: 1\r\n"
    header = Header(section)
    header.set("A", "2")
    assert read(mail(data).with_header(header).content) == b"A: 2" + data[4:]


def test_a_huge_body_does_not_make_a_header_cut(tmp_path: Path) -> None:
    content = file(tmp_path / "m", PLAIN + b"x" * (2 * HEADER_LIMIT))
    assert not is_cut(content)
    assert head(content) == PLAIN[: PLAIN.index(b"\r\n\r\n") + 2]
    assert not is_cut(Octets(b"text\r\n" * HEADER_LIMIT))


@pytest.mark.parametrize(
    "data",
    [
        b"a:\n" * 500_000,
        b"a:\n" + b" \n" * 600_000,
        b"a" * 2_000_000,
        b"a " * 700_000 + b":",
        b"From " * 300_000,
    ],
    ids=["fields", "folds", "name", "words", "mbox"],
)
def test_a_hostile_header_costs_no_more_than_its_length(data: bytes) -> None:
    started = time.process_time()
    one = mail(data + b"\r\n\r\nbody")
    one.header().get("Subject")
    is_cut(one.content)
    assert time.process_time() - started < 2


# Encoded words


def test_encoded_words_are_decoded_once() -> None:
    header = Header(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_=3D=3Futf-8=3Fq=3Fx=3F=3D?= aus K\r\n")
    assert header.decoded("Subject") == "Grüße =?utf-8?q?x?= aus K"
    assert header.decoded("Nothing") is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?= =?latin-1?q?=E9?= c", "aé c"),
        ("=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
        ("=?utf-8?b?w6k=?=", "é"),
        ("=?utf-8?b?w6k?=", "é"),  # padding forgotten
        ("=?utf-8?b?w6?= =?utf-8?b?qQ==?=", None),
        ("=?UTF-8?Q?w=C3?= =?utf-8?Q?=A9?=", "wé"),  # a character in two words
        ("=?utf-8*de?q?=C3=A4?=", "ä"),
        ("=?nowhere?q?a?=", "=?nowhere?q?a?="),
        ("=?utf-8?b?=\x00?=", None),
        ("=?utf-8?q?=FF?= and more", "\ufffd and more"),
        ("=?idna?q?xn--4ca?=", "=?idna?q?xn--4ca?="),
        ("=?hex?q?41?=", "=?hex?q?41?="),
        ("=?unicode_escape?q?=5Cn?=", "=?unicode_escape?q?=5Cn?="),
        ("=?a\0b?q?x?=", "=?a\0b?q?x?="),
        ("=?x=?utf-8?q?a?=", None),
        ("raw \udcff octet", "raw \ufffd octet"),
        ("=?utf-8?q?a?= \udcff", "a \ufffd"),
    ],
)
def test_a_value_is_shown_as_far_as_it_can_be_decoded(value: str, shown: str | None) -> None:
    decoded = decode_words(value)
    assert shown is None or decoded == shown
    decoded.encode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), max_size=3))
def test_what_the_standard_library_encodes_is_decoded_alike(words: list[str]) -> None:
    from email.header import Header as Words

    value = Words(" ".join(words), "utf-8").encode(linesep="")
    assert decode_words(value) == str(make_header(decode_header(value)))


@given(st.text(max_size=200))
def test_decoding_never_fails_and_can_be_encoded(value: str) -> None:
    decode_words(value).encode()


@pytest.mark.parametrize(
    "value",
    [
        "=?a?q?" * 200_000,
        "=?utf-8?q?a?= " * 70_000,
        "=?" * 500_000,
        "=?utf-8?b?" + "A" * 1_000_000 + "?=",
        " " * 1_000_000 + "=?",
        "=?utf-8?q?a?=" + " " * 1_000_000,
    ],
    ids=["open", "words", "marks", "long", "spaces", "trailing"],
)
def test_l9_a_subject_of_a_megabyte_is_decoded_in_little_time(value: str) -> None:
    started = time.process_time()
    decode_words(value)
    assert time.process_time() - started < 2


# Mail and contents


def test_replace_and_noted_leave_the_mail_they_are_made_of() -> None:
    one = mail(PLAIN)
    other = one.noted(a="1").noted(b="2").replace(envelope=Envelope("x@y", ("z@y",)))
    assert one.notes == {}
    assert one.envelope == Envelope()
    assert other.notes == {"a": "1", "b": "2"}
    assert other.envelope.recipients == ("z@y",)


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 1000])
def test_chunks_are_no_longer_than_asked_and_never_empty(data: bytes, tmp_path: Path) -> None:
    for content in (Octets(data), file(tmp_path / "m", data), Spliced(b"", Octets(data), 0)):
        pieces = list(chunks(content, 300))
        assert b"".join(pieces) == data
        assert all(0 < len(piece) <= 300 for piece in pieces)
        assert read(content) == data


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, mailflow.mail, mailflow.addresses, mailflow.automatic;"
        "mailflow.mail.decode_words('=?utf-8?q?a?=');"
        "print([m for m in ('email', 'ssl', 'dataclasses', 'inspect', 'hashlib', 'logging')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
