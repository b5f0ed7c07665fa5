"""Bodies of answers: bounded, whole or an error, unpacked where they are packed unasked."""

from __future__ import annotations

import gzip
import threading
import time
import tracemalloc
import zlib

import pytest

from mailflow.errors import PeerError, UnavailableError
from mailflow_webmail.web.browser import PAGE_LIMIT, PARTING
from mailflow_webmail.web.unpacking import says_its_end

from .web import Mouth, Web, ok

TEXT = b"Subject: hello\r\n\r\n" + bytes(range(256)) * 2000

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


def packed(coding: str, octets: bytes) -> bytes:
    return ok(octets, f"Content-Encoding: {coding}")


def raw_deflate(octets: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(octets) + packer.flush()


class TestWhole:
    @pytest.mark.parametrize(
        "said",
        [
            ok(TEXT),
            chunked(TEXT[:10], TEXT[10:5000], TEXT[5000:]),
            HEAD + b"Connection: close\r\n\r\n" + TEXT,
            packed("identity", TEXT),
            packed("gzip", gzip.compress(TEXT)),
            packed("x-gzip", gzip.compress(TEXT[:999]) + gzip.compress(TEXT[999:])),
            packed("GZIP", gzip.compress(TEXT) + bytes(100)),
            packed("deflate", zlib.compress(TEXT)),
            packed("deflate", raw_deflate(TEXT)),
            packed("gzip", TEXT),
            packed("deflate", TEXT),
        ],
        ids=[
            "length", "chunks", "to the end", "identity", "gzip", "two of gzip", "padded gzip",
            "zlib", "deflate", "no gzip though announced", "no deflate though announced",
        ],
    )  # fmt: skip
    def test_the_octets_are_those_of_the_server(self, browse, said) -> None:
        with Web(lambda asked: iter([said])) as web:
            assert browse(web.url).page("GET", "").octets == TEXT

    def test_nothing_is_an_answer(self, browse) -> None:
        with Web(packed("gzip", b"")) as web:
            assert browse(web.url).page("GET", "").octets == b""

    @pytest.mark.parametrize(
        ("headers", "told"),
        [
            ({"Content-Length": "0"}, True),
            ({"Transfer-Encoding": "Chunked"}, True),
            ({"Transfer-Encoding": "gzip, chunked"}, False),
            ({"Content-Length": "x"}, False),
            ({"Content-Length": ""}, False),
            ({"Transfer-Encoding": "identity"}, False),
            ({}, False),
        ],
    )
    def test_an_answer_that_may_end_anywhere_is_told_from_others(self, headers, told) -> None:
        assert says_its_end(headers) is told

    def test_a_stream_tells_whether_its_end_is_known(self, browse) -> None:
        for said, told in ((ok(TEXT), True), (HEAD + b"\r\n" + TEXT, False)):
            with (
                Web(lambda asked, said=said: iter([said])) as web,
                browse(web.url).answer("GET", "") as answer,
            ):
                assert answer.says_its_end is told


class TestTooShort:
    @pytest.mark.parametrize(
        "said",
        [
            ok(TEXT)[:-1],
            ok(TEXT)[:-400_000],
            chunked(TEXT, end=b""),
            chunked(TEXT)[:-100_000],
            packed("gzip", gzip.compress(TEXT)[:-9]),
            packed("deflate", zlib.compress(TEXT)[:-9]),
        ],
        ids=[
            "an octet", "the most", "no last chunk", "in a chunk", "gzip", "zlib",
        ],
    )  # fmt: skip
    def test_an_answer_that_breaks_off_is_none(self, browse, said) -> None:
        with (
            Web(lambda asked: iter([said])) as web,
            pytest.raises(
                UnavailableError, match=r"^127\.0\.0\.1:\d+ broke off in the middle of an answer$"
            ),
        ):
            browse(web.url).page("GET", "")

    def test_a_connection_that_is_reset_is_told(self, browse) -> None:
        import socket
        import struct

        class Resetting(Web):
            def serve(self, sock, number) -> None:
                sock.recv(1 << 16)
                sock.sendall(ok(TEXT)[:1000])
                time.sleep(0.1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with Resetting(b"") as web, pytest.raises(UnavailableError, match=r"lost|broke off"):
            browse(web.url).page("GET", "")


class TestTooLong:
    def test_a_page_has_its_limit(self, browse) -> None:
        def answer(asked):
            yield HEAD + b"\r\n"
            while True:
                yield bytes(1 << 20)

        with (
            Web(answer) as web,
            pytest.raises(PeerError, match=f"sends more than {PAGE_LIMIT} octets as one answer"),
        ):
            browse(web.url).page("GET", "")

    def test_a_stream_has_that_of_who_reads_it(self, browse) -> None:
        with (
            Web(ok(TEXT)) as web,
            browse(web.url).answer("GET", "") as answer,
            pytest.raises(PeerError, match="more than 100 octets"),
        ):
            list(browse(web.url).pieces(answer, 100))

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_f26_a_bomb_is_not_unpacked_any_further(self, browse, coding) -> None:
        packer = zlib.compressobj(9, wbits=31 if coding == "gzip" else 15)
        bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(40)) + packer.flush()
        with Web(packed(coding, bomb)) as web:
            browser = browse(web.url)
            browser.page  # noqa: B018  # loaded before it is measured
            tracemalloc.start()
            try:
                with pytest.raises(PeerError, match="octets as one answer"):
                    browser.page("GET", "")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert peak < 3 * PAGE_LIMIT

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "nonsense\x1b[2J"])
    def test_other_codings_are_refused(self, browse, coding) -> None:
        with (
            Web(packed(coding, b"?")) as web,
            pytest.raises(PeerError, match="which nobody asked for") as caught,
        ):
            browse(web.url).page("GET", "")
        assert caught.value.text.isprintable()

    def test_gzip_that_is_damaged_is_told(self, browse) -> None:
        octets = bytearray(gzip.compress(TEXT))
        octets[50:60] = bytes(10)
        with Web(packed("gzip", bytes(octets))) as web, pytest.raises(PeerError, match="undone"):
            browse(web.url).page("GET", "")

    def test_a_long_message_passes_in_pieces(self, browse) -> None:
        piece = b"x" * (1 << 20)

        def answer(asked):
            yield HEAD + b"Content-Length: %d\r\n\r\n" % (100 << 20)
            for _ in range(100):
                yield piece

        with Web(answer) as web:
            browser = browse(web.url)
            tracemalloc.start()
            try:
                with browser.answer("GET", "") as got:
                    size = sum(map(len, browser.pieces(got, 1 << 30)))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert size == 100 << 20
        assert peak < 8 << 20


class TestTime:
    def test_silence_before_the_answer_has_an_end(self, browse) -> None:
        done = threading.Event()
        with Web(lambda asked: done.wait(20) and None) as web:
            with pytest.raises(
                UnavailableError, match=r"^127\.0\.0\.1:\d+ keeps silent: no answer in time$"
            ):
                browse(web.url, timeout=0.3).page("GET", "")
            done.set()

    def test_silence_in_the_answer_has_an_end(self, browse) -> None:
        done = threading.Event()

        def answer(asked):
            yield ok(TEXT)[:1000]
            done.wait(20)

        with Web(answer) as web:
            with pytest.raises(UnavailableError, match="keeps silent"):
                browse(web.url, timeout=0.3).page("GET", "")
            done.set()

    @pytest.mark.parametrize(
        "begun", [b"", HEAD, HEAD + b"Content-Length: 9999\r\n\r\n", HEAD + b"\r\n"]
    )
    def test_octets_that_trickle_have_an_end(self, browse, monkeypatch, begun) -> None:
        monkeypatch.setattr("mailflow_webmail.web.browser.PATIENCE", 0.5)
        done = threading.Event()

        def answer(asked):
            yield begun
            while not done.wait(0.1):
                yield b"x"

        with Web(answer) as web:
            with pytest.raises(
                UnavailableError, match=r"is too slow: no whole answer in 1 seconds"
            ):
                browse(web.url, timeout=2.0).page("GET", "")
            done.set()

    def test_a_stream_may_take_long_as_long_as_it_moves(self, browse, monkeypatch) -> None:
        monkeypatch.setattr("mailflow_webmail.web.browser.PATIENCE", 0.3)

        def answer(asked):
            yield HEAD + b"Content-Length: %d\r\n\r\n" % (8 << 17)
            for _ in range(8):
                time.sleep(0.25)
                yield bytes(1 << 17)

        with Web(answer) as web:
            browser = browse(web.url, timeout=5.0)
            with browser.answer("GET", "") as got:
                assert sum(map(len, browser.pieces(got, 1 << 30))) == 8 << 17

    def test_who_reads_a_stream_may_take_his_time(self, browse, monkeypatch) -> None:
        monkeypatch.setattr("mailflow_webmail.web.browser.PATIENCE", 0.1)
        with Web(ok(bytes(1 << 20))) as web:
            browser = browse(web.url, timeout=5.0)
            size = 0
            with browser.answer("GET", "") as got:
                for piece in browser.pieces(got, 1 << 30):
                    if not size:
                        time.sleep(0.8)
                    size += len(piece)
        assert size == 1 << 20

    @pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"Content-Length: 9999\r\n\r\n"])
    def test_the_halt_ends_a_wait_at_once(self, browse, halt, begun) -> None:
        asked = threading.Event()
        done = threading.Event()

        def answer(_):
            yield begun
            asked.set()
            done.wait(20)

        with Web(answer) as web:
            browser = browse(web.url)
            threading.Thread(target=lambda: asked.wait(20) and halt.set(), daemon=True).start()
            began = time.monotonic()
            with pytest.raises(UnavailableError, match=r"^stopped on request$"):
                browser.page("GET", "")
            assert time.monotonic() - began < 10
            done.set()

    def test_the_halt_ends_a_tls_handshake(self, browse, halt) -> None:
        with Mouth(b"") as mouth:
            browser = browse(f"https://127.0.0.1:{mouth.port}/")
            threading.Timer(0.3, halt.set).start()
            with pytest.raises(UnavailableError, match=r"^stopped on request$"):
                browser.page("GET", "")

    def test_the_halt_ends_a_wait_for_one_s_turn(self, browse, halt) -> None:
        with Web(ok()) as web:
            browser = browse(web.url, delay=60)
            browser.page("GET", "")
            threading.Timer(0.2, halt.set).start()
            with pytest.raises(UnavailableError, match=r"^stopped on request$"):
                browser.page("GET", "")

    def test_nothing_is_asked_after_the_halt(self, browse, halt) -> None:
        with Web(ok()) as web:
            halt.set()
            with pytest.raises(UnavailableError, match=r"^stopped on request$"):
                browse(web.url).page("GET", "")
        assert web.asked == []

    def test_what_is_under_way_may_be_given_grace(self, browse, halt) -> None:
        def answer(asked):
            halt.set()
            time.sleep(0.3)
            return ok("sent")

        with Web(answer) as web:
            browser = browse(web.url)
            browser.grace = 20.0
            assert browser.page("POST", "").body == "sent"

    def test_grace_has_an_end(self, browse, halt) -> None:
        done = threading.Event()
        with Web(lambda asked: halt.set() or (done.wait(20) and None)) as web:
            browser = browse(web.url)
            browser.grace = 0.3
            with pytest.raises(UnavailableError, match=r"^stopped on request$"):
                browser.page("POST", "")
            done.set()

    def test_a_farewell_long_after_the_halt_has_its_grace(self, browse, halt) -> None:
        with Web(lambda asked: time.sleep(0.2) or ok("bye")) as web:
            browser = browse(web.url)
            browser.page("GET", "")
            halt.set()
            time.sleep(PARTING + 0.1)
            with browser.parting():
                assert browser.page("GET", "").body == "bye"

    def test_no_thread_is_left(self, browse, halt) -> None:
        from mailflow_webmail.web.browser import Browser

        with Web(ok()) as web:
            browser = Browser(web.url, halt=halt)
            browser.page("GET", "")
            browser.close()
            browser.close()
        assert not [each for each in threading.enumerate() if each.name == "watch"]
