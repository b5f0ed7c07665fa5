"""The source of a message, as it is stored; or what a trouble makes of it.

Rule of the file: it is sent in pieces, and never held whole where nothing has to be shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Response

if TYPE_CHECKING:
    from mailflow_webmail.testbed.app import Bed
    from mailflow_webmail.testbed.folder import Folder, Letter

TYPE = "message/rfc822"


def answer(bed: Bed, folder: Folder, letter: Letter) -> Response:
    def struck(name: str) -> bool:
        return bed.troubles.strikes(name, "source") is not None

    if struck("pre"):
        text = b"".join(folder.source(letter)).decode("latin-1")
        return bed.page("source", inside=True, text=text)
    if struck("twice"):
        octets = b"".join(folder.source(letter)).decode("latin-1").encode()
        return Response(octets, content_type="text/plain; charset=utf-8")
    if struck("blank"):
        return Response(b"", content_type=TYPE)
    headers = {"Content-Disposition": f'attachment; filename="{letter.uid}.eml"'}
    pieces = folder.source(letter)
    if struck("unsized"):
        headers["Connection"] = "close"
    else:
        headers["Content-Length"] = str(letter.size)
    if struck("truncated"):
        pieces = _half(pieces, letter.size)
    elif trouble := bed.troubles.strikes("stalled", "source"):
        pieces = _stalled(pieces, letter.size, trouble.seconds)
    return Response(pieces, headers=headers, content_type=TYPE)


def _half(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    left = size // 2
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _stalled(pieces: Iterator[bytes], size: int, seconds: float) -> Iterator[bytes]:
    sent, waited = 0, False
    for piece in pieces:
        sent += len(piece)
        if not waited and sent * 2 >= size:
            waited = True
            middle = len(piece) // 2
            yield piece[:middle]
            time.sleep(seconds)
            piece = piece[middle:]
        yield piece
