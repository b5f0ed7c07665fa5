"""The file of a list's members, changed by a command: everybody else stays as he was."""

from __future__ import annotations

from mailflow.addresses import same
from mailflow_list.edit import known, with_added, without
from mailflow_list.members import one_address

PACKAGES = ["mailflow_list"]
WORDS = [
    b"@",
    b"<",
    b">",
    b"#",
    b'"',
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"(",
    b")",
    b",",
    b"ann@example.org",
]
SEEDS = [
    b"ann@example.org\0# ours\nAnn <ann@example.org>\nbob@example.org\n",
    b'#x@y\0\xef\xbb\xbfbob@example.org\r\n\r\n"c d"@example.org',
]


def one(data: bytes) -> None:
    written, _, octets = data.partition(b"\0")
    text = written.decode("utf-8", "surrogateescape")
    before = known(octets)
    if not one_address(text) or not text.isprintable():
        return  # as the command says of what is no address
    new = {same(one_address(text))}
    after = with_added(octets, [text])
    assert known(after) == before | new
    assert after.startswith(octets)
    back = without(after, sorted(new))
    assert known(back) == before - new
