"""What is inside a message: texts and attachments, of hostile MIME too."""

from __future__ import annotations

import pytest

from mailflow.mailboxes.parts import split
from mailflow.testing.corpus import AWKWARD


@pytest.mark.parametrize("sample", AWKWARD, ids=str)
def test_awkward_mail_can_be_looked_into(sample: object) -> None:
    texts, attachments = split(sample.octets)  # type: ignore[attr-defined]
    assert all(isinstance(each["text"], str) for each in texts)
    assert all(isinstance(each["payload"], bytes) for each in attachments)


def test_a_message_without_mime_is_one_text() -> None:
    assert split(b"Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n") == (
        [{"mime": "text/plain", "text": "Grüße\r\n"}],
        [],
    )


def test_a_charset_that_nobody_knows_is_latin_1() -> None:
    octets = b"Content-Type: text/plain; charset=x-none\r\n\r\n\xe4"
    assert split(octets)[0] == [{"mime": "text/plain", "text": "ä"}]


def test_an_attached_message_is_an_attachment_and_not_looked_into() -> None:
    octets = (
        b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\nsee below\r\n'
        b"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n--x--\r\n"
    )
    texts, (inner,) = split(octets)
    assert [each["text"] for each in texts] == ["see below"]
    assert inner["mime"] == "message/rfc822"
    assert b"Subject: inner" in inner["payload"]
    assert b"inner text" in inner["payload"]


def test_parts_within_parts_come_in_their_order() -> None:
    inner = "".join(f"--y\r\n\r\n{n}\r\n" for n in range(3))
    octets = (
        'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n'
        f'Content-Type: multipart/mixed; boundary="y"\r\n\r\n{inner}--y--\r\n'
        "--x\r\n\r\nlast\r\n--x--\r\n"
    ).encode()
    assert [each["text"].strip() for each in split(octets)[0]] == ["0", "1", "2", "last"]


def test_what_nests_without_end_is_one_text() -> None:
    deep = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
        for n in range(3000)
    )
    texts, _ = split(b"Subject: x\r\n" + deep + b"\r\nend")
    assert len(texts) <= 1
