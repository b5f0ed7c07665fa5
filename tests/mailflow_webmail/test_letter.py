"""What the compose form of a webmail can say of a mail, and what is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mailflow.errors import BadMailError
from mailflow.mail import Envelope, Mail, Octets
from mailflow.values import Mailbox
from mailflow_webmail.sending.letter import Letter, letter

BOB = "bob@example.org"
ALL = frozenset({
    "from", "to", "cc", "bcc", "reply_to", "subject", "text", "message_id", "in_reply_to",
    "references",
})  # fmt: skip

PLAIN = "Content-Type: text/plain\r\n\r\nplain\r\n"
HTML = "Content-Type: text/html\r\n\r\n<b>rich</b>\r\n"
PDF = "Content-Type: application/pdf\r\n{}\r\n%PDF\r\n"
FILE = PDF.format('Content-Disposition: attachment; filename="a.pdf"\r\n')


def mail(
    *fields: str, head: Sequence[str] = ("From: ann@example.org", f"To: {BOB}"),
    body: str | bytes = "hello\r\n", sender: str | None = None,
) -> Mail:  # fmt: skip
    octets = "".join(f"{line}\r\n" for line in (*head, *fields, "")).encode()
    octets += body if isinstance(body, bytes) else body.encode()
    return Mail("0", Envelope(sender), Octets(octets))


def parts(kind: str, *each: str) -> dict[str, Any]:
    """Field and body of a multipart."""
    body = "".join(f"--b\r\n{part}" for part in each) + "--b--\r\n"
    return {"fields": (f'Content-Type: multipart/{kind}; boundary="b"',), "body": body}


def multipart(kind: str, *each: str) -> Mail:
    made = parts(kind, *each)
    return mail(*made["fields"], body=made["body"])


def wrote(message: Mail, *to: str, **options: Any) -> Letter:
    return letter(message, to or (BOB,), **{"carried": ALL, **options})


def refused(message: Mail, *to: str, **options: Any) -> str:
    with pytest.raises(BadMailError) as caught:
        wrote(message, *to, **options)
    assert "\n" not in caught.value.text
    return caught.value.text


def test_names_are_typed_as_people_read_them_and_quoted_where_they_must_be() -> None:
    made = wrote(
        mail("Cc: =?utf-8?q?J=C3=B6rg?= <c@example.org>, \"X, Y\" <d@example.org>,"
             " =?utf-8?q?=22Z=22=2C?= <e@example.org>"),
        BOB, "c@example.org", "d@example.org", "e@example.org",
    )  # fmt: skip
    assert made.facts()["cc"] == (
        'Jörg <c@example.org>, "X, Y" <d@example.org>, "\\"Z\\"," <e@example.org>'
    )


def test_recipients_whom_no_field_names_are_blind() -> None:
    made = wrote(mail(), BOB, "Eve@example.org")
    assert made.to == (Mailbox("", BOB),)
    assert made.blind == ("Eve@example.org",)


def test_a_bcc_field_names_nobody() -> None:
    """The envelope does; the field is of the mail that somebody else has sent."""
    made = wrote(mail("Bcc: eve@example.org"))
    assert made.recipients == {BOB}


def test_a_recipient_is_known_whatever_the_case() -> None:
    assert wrote(mail(), "BOB@example.org").blind == ()


def test_who_is_named_twice_is_named_once() -> None:
    made = wrote(mail(f"Cc: {BOB}"))
    assert (len(made.to), made.cc) == (1, ())


def test_blind_recipients_need_a_field_for_them() -> None:
    assert "neither To nor Cc" in refused(mail(), BOB, "e@example.org", carried=ALL - {"bcc"})


def test_people_whom_to_names_and_who_are_no_recipients_are_refused() -> None:
    """A form sends to all whom it names: to the list itself, and so round and round."""
    text = refused(mail(), "c@example.org")
    assert BOB in text
    assert 'loses = ["addressees"]' in text


def test_they_are_left_out_where_that_may_be() -> None:
    made = wrote(mail(), "c@example.org", loses=["addressees"])
    assert (made.to, made.blind) == ((), ("c@example.org",))


def test_an_empty_group_names_nobody() -> None:
    head = ("From: ann@example.org", "To: undisclosed-recipients:;")
    assert wrote(mail(head=head), BOB).blind == (BOB,)


@pytest.mark.parametrize("sender", ["", "bounces+bob=example.org@example.org"])
def test_another_envelope_sender_is_refused(sender: str) -> None:
    """A bounce, or one that says whom it is about: the form sends with the account's."""
    assert 'loses = ["sender"]' in refused(mail(sender=sender))
    assert wrote(mail(sender=sender), loses=["sender"])


@pytest.mark.parametrize("sender", [None, "ANN@example.org"])
def test_the_sender_of_the_mail_is_no_other(sender: str | None) -> None:
    assert wrote(mail(sender=sender))


@pytest.mark.parametrize(
    "field", ["List-Id: <x>", "Resent-To: x@example.org", "Sender: eve@example.org", "X-Y: z",
              "Auto-Submitted: auto-replied", "Disposition-Notification-To: x@example.org"],
)  # fmt: skip
def test_a_field_that_has_no_place_is_refused_by_name(field: str) -> None:
    name = field.partition(":")[0]
    assert f'drops = ["{name}"]' in refused(mail(field))
    assert wrote(mail(field), drops=[name.lower()])


def test_all_that_would_be_lost_is_told_at_once() -> None:
    text = refused(mail("X-A: 1", "X-B: 2", sender=""))
    assert all(each in text for each in ("X-A", "X-B", '"sender"'))


def test_fields_may_be_dropped_by_how_they_begin() -> None:
    assert wrote(mail("List-Id: <x>", "List-Post: NO"), drops=["List-*"])


@pytest.mark.parametrize(
    "field", ["Date: x", "Received: by x", "DKIM-Signature: x", "ARC-Seal: x", "User-Agent: x",
              "Content-Language: en", "Return-Path: <x@y>", "X-Spam-Status: No",
              "Sender: Ann <ann@example.org>"],
)  # fmt: skip
def test_what_is_made_anew_for_every_mail_is_no_loss(field: str) -> None:
    assert wrote(mail(field))


@pytest.mark.parametrize("name", ["Reply-To", "In-Reply-To", "References"])
def test_what_a_site_has_no_place_for_is_refused(name: str) -> None:
    field = f"{name}: <x@example.org>"
    assert wrote(mail(field))
    assert f'drops = ["{name}"]' in refused(mail(field), carried={"bcc"})


@pytest.mark.parametrize("address", ["x@[127.0.0.1]", "x@localhost", "x@127.0.0.1"])
def test_an_address_for_answers_that_would_be_left_out_is_refused(address: str) -> None:
    assert "Reply-To" in refused(mail(f"Reply-To: {address}"))
    assert wrote(mail(), BOB, address).blind == (address,)


@pytest.mark.parametrize("name", ["From", "Subject", "Message-ID", "References"])
def test_a_field_that_is_there_twice_is_refused(name: str) -> None:
    assert name in refused(mail(f"{name}: <a@example.org>", f"{name}: <b@example.org>"))


@pytest.mark.parametrize(
    "value", ["", "ann@example.org, ben@example.org", "nobody"], ids=["none", "two", "no-address"]
)
def test_a_mail_that_is_not_from_one_address_is_refused(value: str) -> None:
    head = (f"From: {value}", f"To: {BOB}")
    refused(mail(head=head))


@pytest.mark.parametrize(
    "value", ['"a <x@example.org>', "a@b, <<c@d>", "x@example.org (", "jörg@example.org"]
)
def test_addresses_that_cannot_be_read_for_sure_are_refused(value: str) -> None:
    refused(mail(f"Cc: {value}"))


def test_a_subject_is_one_line_of_text() -> None:
    assert wrote(mail("Subject: =?utf-8?q?one=0D=0ABcc:_x@y?=")).subject == "one Bcc: x@y"
    assert "Subject" in refused(mail("Subject: =?utf-8?b?/w==?="))
    assert "Subject" in refused(mail("Subject: a\x1b]0;x\x07"))


def test_a_text_is_decoded_as_it_says() -> None:
    text = wrote(
        mail("Content-Type: text/plain; charset=iso-8859-1",
             "Content-Transfer-Encoding: quoted-printable", body="gr=FC=DFe\r\n")
    ).text  # fmt: skip
    assert text == "grüße\r\n"


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (("Content-Type: text/plain; charset=x-none",), b"x"),
        (("Content-Type: text/plain; charset=us-ascii",), b"\xff"),
        (("Content-Transfer-Encoding: base64",), b"%%%="),
        ((), b"one\0two"),
        ((), b"one\rtwo"),
        ((), b"\x1b[2J"),
        ((), b"x" * 999),
    ],
    ids=["charset", "8-bit", "base64", "nul", "bare-cr", "escape", "long-line"],
)
def test_a_text_that_would_become_another_is_refused(fields: tuple[str, ...], body: bytes) -> None:
    refused(mail(*fields, body=body), loses=("html", "inline"))


def test_html_beside_a_text_is_refused_or_lost() -> None:
    both = multipart("alternative", PLAIN, HTML)
    assert "text/html" in refused(both)
    made = wrote(both, loses=["html"])
    assert (made.text, made.files) == ("plain", ())


@pytest.mark.parametrize(
    "message",
    [mail("Content-Type: text/html", body="<b>x</b>"), multipart("alternative", HTML),
     multipart("related", HTML, FILE)],
    ids=["alone", "alternative", "related"],
)  # fmt: skip
def test_html_without_a_text_is_never_sent(message: Mail) -> None:
    assert "HTML" in refused(message, loses=("html", "inline"))


@pytest.mark.parametrize(
    "message",
    [multipart("signed; protocol=x", PLAIN, FILE), multipart("encrypted", FILE, FILE),
     mail("Content-Type: application/pkcs7-mime; name=smime.p7m", body="x"),
     multipart("mixed", PLAIN, "Content-Type: multipart/signed; boundary=c\r\n\r\n--c--\r\n")],
    ids=["signed", "encrypted", "smime", "inside"],
)  # fmt: skip
def test_what_is_signed_or_encrypted_is_never_sent(message: Mail) -> None:
    assert "signed or encrypted" in refused(message, loses=("html", "inline"), drops=["*"])


@pytest.mark.parametrize("kind", ["message/rfc822", "message/delivery-status"])
def test_a_mail_within_a_mail_is_never_sent(kind: str) -> None:
    inner = f"Content-Type: {kind}\r\n\r\nSubject: x\r\n\r\nx\r\n"
    assert kind in refused(multipart("mixed", PLAIN, inner), loses=("html", "inline"))


@pytest.mark.parametrize("kind", ["report", "digest", "form-data"])
def test_a_multipart_that_no_form_makes_is_refused(kind: str) -> None:
    assert f"multipart/{kind}" in refused(multipart(kind, PLAIN), loses=("html", "inline"))


def test_files_keep_name_type_and_octets() -> None:
    made = wrote(multipart("mixed", PLAIN, FILE))
    assert made.files == (("a.pdf", "application/pdf", b"%PDF"),)


def test_a_part_among_the_text_becomes_a_file_where_that_may_be() -> None:
    message = multipart("mixed", PLAIN, PDF.format(""), PLAIN)
    assert 'loses = ["inline"]' in refused(message)
    names = [each.name for each in wrote(message, loses=["inline"]).files]
    assert names == ["part-1.pdf", "part-2.txt"]


def test_a_mail_that_is_a_file_has_no_text() -> None:
    message = mail(
        "Content-Type: application/pdf", 'Content-Disposition: attachment; filename="a.pdf"',
        body="%PDF",
    )  # fmt: skip
    made = wrote(message)
    assert (made.text, len(made.files)) == ("", 1)


@pytest.mark.parametrize("name", ['a\\".pdf', "../a", "a=?utf-8?q?=0A?="])
def test_a_name_that_a_form_would_change_is_refused(name: str) -> None:
    part = PDF.format(f'Content-Disposition: attachment; filename="{name}"\r\n')
    assert "name" in refused(multipart("mixed", PLAIN, part))


@pytest.mark.parametrize(
    "part",
    [PDF.format("Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n"),
     'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="a"\r\n\r\n'],
    ids=["encoding", "empty"],
)  # fmt: skip
def test_a_file_that_would_arrive_as_another_is_refused(part: str) -> None:
    refused(multipart("mixed", PLAIN, part), loses=("html", "inline"))


@pytest.mark.parametrize(
    "message",
    [mail('Content-Type: multipart/mixed; boundary="b"', body="--b\r\n\r\none\r\n"),
     mail("Content-Type: multipart/mixed", body="--\r\n\r\none\r\n")],
    ids=["without-end", "without-boundary"],
)  # fmt: skip
def test_broken_mime_is_refused(message: Mail) -> None:
    assert "MIME is broken" in refused(message)


def test_parts_in_parts_come_to_an_end() -> None:
    inner = PLAIN
    for number in range(100):
        head = f'Content-Type: multipart/mixed; boundary="{number}"\r\n\r\n'
        inner = f"{head}--{number}\r\n{inner}--{number}--\r\n"
    refused(multipart("mixed", inner))
