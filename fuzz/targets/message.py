"""A message, however broken: all that is asked of it has an answer (bounces and reports, too)."""

from __future__ import annotations

from mailflow import automatic
from mailflow.addresses import addresses, reverse_path, same
from mailflow.lines import crlf_pieces, lf_pieces, stuff, to_crlf, to_lf, unstuff
from mailflow.mail import Envelope, Mail, Octets, decode_words
from mailflow.mbox import quote, sender_of, unquote
from mailflow.query import MailFacts
from mailflow.query.tree import FIELDS
from mailflow.words import encoded

WORDS = [
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n",
    b"--x\r\n",
    b"Content-Type: message/delivery-status\r\n",
    b"Final-Recipient: rfc822; a@b\r\n",
    b"Action: failed\r\n",
    b"Status: 5.1.1\r\n",
    b"Auto-Submitted: auto-replied\r\n",
    b"From: ",
    b"MAILER-DAEMON",
    b"To: ",
    b"Date: ",
    b"Received: ",
    b"\r\n\r\n",
    b"=?utf-8?b?",
    b"charset=",
    b"Content-Transfer-Encoding: base64\r\n",
    b"filename*=",
    b"<a@b>",
    b"From ",
    b">From ",
]
SEEDS = [
    b"From: MAILER-DAEMON@x\r\nContent-Type: multipart/report; report-type=delivery-status;"
    b' boundary="x"\r\n\r\n--x\r\n\r\nno\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n'
    b"Final-Recipient: rfc822; a@b\r\nAction: failed\r\nStatus: 5.1.1\r\n--x--\r\n",
    b"From: =?utf-8?q?=C3=A9?= <a@b>\nDate: Mon, 1 Jan 2026 00:00:00 +0000\nReceived: from x;"
    b" Mon, 1 Jan 2026 00:00:00 +0000\nSubject: =?x?b?YQ==?=\n\nFrom here\n.\n>From there\n",
]


def one(data: bytes) -> None:
    mail = Mail("1", Envelope(), Octets(to_crlf(data)))
    for ask in (automatic.answer, automatic.generated, automatic.looks_like_answer):
        assert ask(mail).isprintable() or "\ufffd" in ask(mail)
    reverse_path(mail)
    facts = MailFacts(mail, now=1.8e9)
    for name in FIELDS:
        facts.find(name, "Subject")
    text = data.decode("utf-8", "surrogateescape")
    for each in addresses(text).found:
        assert "\n" not in each
        assert "\r" not in each
        same(each)
    assert "\n" not in encoded(decode_words(text).replace("\n", " ").replace("\r", " "))
    sender_of(data)
    crlf, lf = to_crlf(data), to_lf(to_crlf(data))
    if b"\r\r\n" not in crlf:  # of which LF line ends keep one CR
        assert to_crlf(lf) == crlf
    assert unstuff(stuff(crlf)) == crlf
    for step in (1, 7):
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert b"".join(crlf_pieces(pieces)) == crlf
        assert b"".join(lf_pieces(pieces)) == to_lf(data)
    assert b"".join(unquote(quote([lf]))) == lf
