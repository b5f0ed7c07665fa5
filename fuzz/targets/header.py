"""Edits of a header: only the field that was named changes, and none can be smuggled in."""

from __future__ import annotations

from mailflow.mail import Envelope, Header, Mail, Octets, read

WORDS = [
    b"Subject: ", b"From: ", b"\r\n", b"\r\n ", b"\n", b"\r", b": ", b"From a@b", b"=?utf-8?q?",
    b"?=", b"\0", b"\xff", b"List-Id", b"Received: ",
]  # fmt: skip
SEEDS = [
    b"Subject\0hello\0Subject: x\r\n folded\r\nFrom: a@b\r\n\r\nbody\r\n",
    b"X-A\0=?utf-8?q?=C3=A9?=\0From a@b Mon\r\nx-a : 1\nX-A: 2\r\nno field\r\n\r\n",
]


def one(data: bytes) -> None:
    name, _, rest = data.partition(b"\0")
    value, _, octets = rest.partition(b"\0")
    mail = Mail("1", Envelope(), Octets(octets))
    header = mail.header()
    assert read(mail.with_header(header).content).startswith(bytes(header))
    header.remove_mbox_line()
    section = bytes(header)
    field, text = name.decode("latin-1"), value.decode("utf-8", "surrogateescape")
    others = [n for n in header.names() if n.lower() != field.lower()]
    for change in ("set", "add", "remove", "prepend", "decoded"):
        edited = Header(section)
        try:
            if change in ("set", "add"):
                getattr(edited, change)(field, text)
            elif change == "prepend":
                edited.prepend(field, text)
            else:
                getattr(edited, change)(field)
        except ValueError:
            continue
        again = Header(bytes(edited))
        assert bytes(again) == bytes(edited)
        assert [n for n in again.names() if n.lower() != field.lower()] == others
        if change == "set":
            assert len(again.get_all(field)) == 1
        if change == "remove":
            assert field not in again
