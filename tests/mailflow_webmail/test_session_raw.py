"""Sources of messages: octet for octet, from where they are now, or an error."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailflow.errors import BadMailError, GoneError, MailflowError, UnavailableError
from mailflow.mail import OctetFile, Octets, read
from mailflow.testing.webmail import TestBed
from mailflow_webmail.account import original
from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.site import find
from mailflow_webmail.definition.wording import Table
from mailflow_webmail.errors import ExpiredError, LayoutError

from .paper import Paper, site
from .web import ok

A = b"Subject: a\r\n\r\na\r\n"
HOSTILE = [b"this.session_error(1)", b"You must be logged in", b"<p id=gone>", b"<title>Down"]


@pytest.fixture
def paper():
    with Paper(a=A, b=b"Subject: b\r\n\r\nb\r\n") as running:
        yield running


@pytest.fixture
def session(paper, tmp_path):
    with paper.session(tmp_path) as opened:
        yield opened


def rows_of(session):
    return {each["id"]: each for each in session.listing("INBOX")}


def source(octets, *headers, kind="message/rfc822", **how):
    return lambda asked: ok(octets, *headers, kind=kind, **how)


class TestOctets:
    @pytest.mark.parametrize(
        ("sent", "had"),
        [
            (b"To: b\r\n\r\nx\r\n", b"To: b\r\n\r\nx\r\n"),
            (b"To: b\n\nx\n", b"To: b\r\n\r\nx\r\n"),
            (b"To: b\n\nx\ry\r\n\n", b"To: b\r\n\r\nx\ry\r\n\r\n"),
            (b"To: b\n\nx\t \n\n\n", b"To: b\r\n\r\nx\t \r\n\r\n\r\n"),
            (b"To: b\r\n\r\n\x00\xff\xfe", b"To: b\r\n\r\n\x00\xff\xfe"),
            (b"From red@example.org Mon\nTo: b\n\n", b"From red@example.org Mon\r\nTo: b\r\n\r\n"),
            (b"To: b", b"To: b"),
        ],
    )
    def test_rule_06_line_ends_become_crlf_and_all_else_stays(self, paper, session, sent, had):
        paper.mail["a"] = sent
        assert read(session.raw(rows_of(session)["a"])) == had

    def test_a_small_one_is_in_memory_and_a_large_one_in_a_file(self, paper, session, tmp_path):
        paper.mail["b"] = large = b"To: b\r\n\r\n" + b"x\r\n" * 500_000
        rows = rows_of(session)
        assert isinstance(session.raw(rows["a"]), Octets)
        content = session.raw(rows["b"])
        assert isinstance(content, OctetFile)
        assert os.path.dirname(content.path) == str(tmp_path)
        assert read(content) == large

    @pytest.mark.parametrize("text", HOSTILE)
    def test_rule_13_a_mail_that_speaks_is_a_mail(self, paper, tmp_path, text):
        signal = [
            {"raise": "expired", "regex": "(?m)^.*session_error|^You must be logged in"},
            {"raise": "missing", "regex": "(?s)^.*<p id=gone>"},
            {"raise": "transient", "regex": "(?s)^.*<title>Down"},
        ]
        paper.mail["a"] = b"Subject: " + text + b"\r\n\r\n" + text + b"\r\n"
        with paper.session(tmp_path, site(signal=signal, list__expect=[])) as session:
            session.log_in()
            rows = {"folder": "INBOX", "id": "a"}
            assert read(session.raw(rows)) == paper.mail["a"]

    def test_a_source_that_stands_in_a_page_is_its_text(self, paper, tmp_path):
        text = "Subject: &lt;b&gt; &amp; co\n\nIs 1 &lt; 2?\t \n\n\n"
        paper.says["raw"] = lambda asked: paper.inside(f"<pre id=source>\n{text}</pre>")
        shown = site(raw__pre="#source", raw__expect={"css": "#in"})
        with paper.session(tmp_path, shown) as session:
            content = read(session.raw(rows_of(session)["a"]))
        assert content == b"Subject: <b> & co\r\n\r\nIs 1 < 2?\t \r\n\r\n\r\n"

    def test_rule_13_a_source_in_a_page_is_not_heard_either(self, paper, tmp_path):
        loud = [{"raise": "expired", "css": "body", "regex": "You must be logged in"}]
        text = "Subject: You must be logged in\n\n"
        paper.says["raw"] = lambda asked: paper.inside(f"<pre id=source>{text}</pre>")
        shown = site(raw__pre="#source", raw__expect={"css": "#in"}, signal=loud)
        with paper.session(tmp_path, shown) as session:
            assert read(session.raw(rows_of(session)["a"])).startswith(b"Subject: You")

    def test_octets_of_a_page_are_those_of_the_source(self, paper, tmp_path):
        """In the encoding that the page says, or, where they are none of it, as they are."""
        shown = site(raw__pre="#source", raw__expect={"css": "#in"})
        with paper.session(tmp_path, shown) as session:
            rows = rows_of(session)
            for kind in ("text/html; charset=utf-8", "text/html; charset=windows-1252"):
                said = b"<p id=in data-key=key1></p><pre id=source>Subject: \xe4\n\n</pre>"
                paper.says["raw"] = source(said, kind=kind)
                assert read(session.raw(rows["a"])) == b"Subject: \xe4\r\n\r\n"

    def test_octets_that_a_page_has_lost_are_not_made_up(self, paper, tmp_path):
        shown = site(raw__pre="#source", raw__expect={"css": "#in"})
        with paper.session(tmp_path, shown) as session:
            rows = rows_of(session)
            said = b"<p id=in data-key=key1></p><pre id=source>Subject: \0x\n\n</pre>"
            paper.says["raw"] = source(said, kind="text/html; charset=utf-8")
            with pytest.raises(LayoutError) as caught:
                session.raw(rows["a"])
        assert caught.value.fields["key"] == "pre"

    def test_octets_that_were_encoded_twice_are_decoded_once(self, paper, tmp_path):
        plain = b"Subject: \xe4\xff\x80\r\n\r\n" + bytes(range(128, 256)) * 3
        paper.mail["a"] = plain.decode("latin-1").encode()
        twice = site(raw__recode=["utf-8", "latin-1"])
        with paper.session(tmp_path, twice) as session:
            assert read(session.raw(rows_of(session)["a"])) == plain

    def test_octets_that_were_not_encoded_twice_are_not_guessed_at(self, paper, tmp_path):
        paper.mail["a"] = b"Subject: \xe4\r\n\r\n"
        twice = site(raw__recode=["utf-8", "latin-1"])
        with paper.session(tmp_path, twice) as session:
            rows = rows_of(session)
            with pytest.raises(MailflowError, match="is not in utf-8 in iso8859-1"):
                session.raw(rows["a"])


class TestNoMessage:
    @pytest.mark.parametrize(
        "octets",
        [b"", b"\r\n\r\n", b"  ", b"<html>", b"Sorry!\r\n", b": x", b"Error: no such mail\n",
         b"Notice: x\n\nSubject: a\n", b"Content-Type: text/html\r\n\r\nTo: be done\r\n"],
    )  # fmt: skip
    def test_rule_02_what_does_not_begin_with_a_field_is_none(self, paper, session, octets):
        rows = rows_of(session)
        paper.says["raw"] = source(octets)
        with pytest.raises(UnavailableError, match="a new listing has the message"):
            session.raw(rows["a"])

    def test_rule_02_one_without_octets_is_called_so(self, paper, session):
        rows = rows_of(session)
        paper.says["raw"] = source(b"\r\n")
        with pytest.raises(UnavailableError, match="the source is empty"):
            session.raw(rows["a"])

    def test_rule_02_it_has_gone_where_a_new_listing_does_not_have_it(self, paper, session):
        rows = rows_of(session)
        paper.says["raw"] = source(b"")
        del paper.mail["a"]
        with pytest.raises(GoneError):
            session.raw(rows["a"])

    def test_rule_02_missing_is_not_gone_while_the_list_is_out_of_order(self, paper, session):
        rows = rows_of(session)
        del paper.mail["a"]
        paper.says["list"] = lambda asked: paper.inside("<b id=count>0</b>")
        with pytest.raises(LayoutError):
            session.raw(rows["a"])

    def test_rule_02_missing_is_an_error_where_it_is_listed(self, paper, session):
        rows = rows_of(session)
        paper.says["raw"] = lambda asked: paper.inside("<p id=gone>")
        with pytest.raises(UnavailableError, match="so it is not gone"):
            session.raw(rows["a"])

    def test_one_listing_is_enough_for_all_that_have_gone(self, paper, session):
        paper.mail.update({f"m{n}": A for n in range(3)})
        rows = rows_of(session)
        for n in range(3):
            del paper.mail[f"m{n}"]
        asked = paper.steps.count("list")
        for n in range(3):
            with pytest.raises(GoneError):
                session.raw(rows[f"m{n}"])
        assert paper.steps.count("list") == asked + 1

    @pytest.mark.parametrize("by", ["id", "at"])
    def test_rule_02_one_that_came_after_the_listing_is_not_gone(self, paper, tmp_path, by):
        handle = site(raw__query={"id": "{id}", "key": "{key}", "by": f"{{{by}}}"})
        with paper.session(tmp_path, handle) as session:
            session.listing("INBOX")
            paper.mail["new"] = A
            row = {"folder": "INBOX", "id": "new", "at": "0"}
            assert read(session.raw(row)) == A
            paper.says["raw"] = source(b"")
            with pytest.raises(UnavailableError):
                session.raw(row)

    @pytest.mark.parametrize("status", ["206 Partial Content", "203 Changed"])
    def test_a_part_of_one_is_none(self, paper, session, status):
        rows = rows_of(session)
        paper.says["raw"] = source(A[:-1], status=status)
        with pytest.raises(LayoutError, match=f"status {status[:3]}"):
            session.raw(rows["a"])

    def test_a_page_is_none_even_where_it_is_called_one(self, paper, tmp_path):
        with paper.session(tmp_path, site(raw__expect={"status": 200})) as session:
            rows = rows_of(session)
            paper.says["raw"] = lambda asked: paper.inside("<p>Subject: no</p>")
            with pytest.raises(LayoutError, match="no `pre` says where"):
                session.raw(rows["a"])

    def test_the_login_form_in_its_place_is_the_end_of_the_session(self, paper, session):
        rows = rows_of(session)
        paper.says["raw"] = lambda asked: paper.form()
        with pytest.raises(ExpiredError):
            session.raw(rows["a"])

    @pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/json", ""])
    def test_what_is_headed_otherwise_is_another_layout(self, paper, session, kind):
        rows = rows_of(session)
        paper.says["raw"] = source(A, kind=kind)
        with pytest.raises(LayoutError) as caught:
            session.raw(rows["a"])
        assert caught.value.fields["step"] == "raw"

    def test_a_status_of_an_error_is_one(self, paper, session):
        rows = rows_of(session)
        paper.says["raw"] = source(A, status="500 Oops")
        with pytest.raises(UnavailableError):
            session.raw(rows["a"])


class TestWhole:
    def test_rule_19_one_that_was_cut_is_an_error_that_leaves_no_file(
        self, paper, session, tmp_path
    ):
        rows = rows_of(session)
        large = b"To: b\r\n\r\n" + b"x\r\n" * 500_000
        paper.says["raw"] = lambda asked: [
            b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nContent-Length: 9999999\r\n\r\n",
            large,
        ]
        with pytest.raises(UnavailableError):
            session.raw(rows["a"])
        assert [each for each in os.listdir(tmp_path) if each.startswith("webmail-")] == []

    def test_one_over_max_size_is_an_error_of_that_mail(self, paper, tmp_path):
        paper.mail["a"] = b"To: b\r\n\r\n" + b"x\r\n" * 700_000
        with paper.session(tmp_path, most=1_500_000) as session:
            rows = rows_of(session)
            with pytest.raises(BadMailError, match="is over max_size"):
                session.raw(rows["a"])
            assert read(session.raw(rows["b"]))
        assert [each for each in os.listdir(tmp_path) if each.startswith("webmail-")] == []

    def test_one_whose_row_says_that_it_is_over_is_not_asked_for(self, paper, tmp_path):
        sized = site(list__rows__fields__size={"attr": "data-at"})
        with paper.session(tmp_path, sized, most=0) as session:
            rows = rows_of(session)
            with pytest.raises(BadMailError):
                session.raw(rows["a"])
        assert "raw" not in paper.steps

    def test_a_size_with_thousands_of_digits_is_none(self, paper, tmp_path):
        sized = site(list__rows__fields__size={"attr": "data-at"})
        with paper.session(tmp_path, sized) as session:
            row = {**rows_of(session)["a"], "size": "9" * 5000}
            assert read(session.raw(row)) == A

    def test_one_without_an_end_is_given_up(self, paper, session, tmp_path):
        rows = rows_of(session)
        session._sources._most = 1 << 20
        begin = b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\n\r\nTo: b\r\n\r\n"
        paper.says["raw"] = lambda asked: (
            begin if n == 0 else b"x" * (1 << 16) for n in range(999)
        )
        with pytest.raises(BadMailError):
            session.raw(rows["a"])
        assert [each for each in os.listdir(tmp_path) if each.startswith("webmail-")] == []

    def test_one_in_a_page_that_is_too_large_is_an_error_of_that_mail(
        self, paper, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(original, "SHOWN", 1 << 16)
        shown = site(raw__pre="#source", raw__expect={"css": "#in"})
        with paper.session(tmp_path, shown) as session:
            rows = rows_of(session)
            paper.says["raw"] = lambda asked: paper.inside("<pre>" + "x" * (1 << 17))
            with pytest.raises(BadMailError):
                session.raw(rows["a"])


@pytest.fixture(scope="module")
def running():
    with TestBed(["INBOX"], page_size=4) as started:
        yield started


@pytest.fixture
def bed(running):
    yield running
    running.quiet()
    running.bed.listener = lambda asked: None
    running.delete("INBOX", *running.uids("INBOX"))


def shifting():
    """The test bed's definition where sources are named by their place."""
    import tomli

    with open(find("testbed"), "rb") as file:
        data = tomli.load(file)
    data["list"]["volatile"] = True
    data["list"]["rows"]["fields"]["src"]["css"] = "a.place"
    return Table("", Site).convert(data, "")


@pytest.fixture
def placed(bed, tmp_path):
    """A session where sources are named by their place, with ten messages."""
    from mailflow.halt import Halt
    from mailflow_webmail.account.session import Session
    from mailflow_webmail.web.browser import Browser

    bed.put("INBOX", *(b"Subject: %d\r\n\r\n%d\r\n" % (n, n) for n in range(10)))
    bed.trouble("positions")
    halt = Halt()
    made = Session(
        shifting(), Browser(bed.url, halt=halt), bed.user, lambda: bed.password, str(tmp_path)
    )
    yield made
    made.close()
    halt.close()


def first_of(bed, **actions):
    """Call each action once, before the first request of its step is answered."""

    def listener(asked):
        actions.pop(asked.step, lambda: None)()

    bed.bed.listener = listener


class TestShiftingPlaces:
    def test_rule_07_all_are_read_by_several_threads(self, bed, placed):
        rows = placed.listing("INBOX")
        with ThreadPoolExecutor(4) as pool:
            found = [read(each) for each in pool.map(placed.raw, rows)]
        assert found == bed.messages("INBOX")[::-1]

    def test_rule_07_a_message_that_has_moved_is_read_in_its_new_place(self, bed, placed):
        rows = placed.listing("INBOX")
        bed.put("INBOX", b"Subject: new\r\n\r\n")
        for row, message in zip(rows, bed.messages("INBOX")[-2::-1], strict=True):
            assert read(placed.raw(row)) == message

    def test_rule_07_one_that_moves_while_it_is_read_is_read_again(self, bed, placed):
        rows = placed.listing("INBOX")
        last = bed.messages("INBOX")[-1]
        bed.meanwhile("source", 1, lambda: bed.put("INBOX", b"Subject: new\r\n\r\n"))
        assert read(placed.raw(rows[0])) == last
        assert bed.messages("INBOX")[-1] != last

    def test_rule_07_one_that_is_back_in_its_place_was_elsewhere_all_the_same(self, bed, placed):
        """One has come and another gone before it, so that it stands where it stood."""
        rows = placed.listing("INBOX")
        wanted = bed.messages("INBOX")[::-1][5]
        first_of(
            bed,
            source=lambda: bed.put("INBOX", b"Subject: new\r\n\r\n"),
            list=lambda: bed.delete("INBOX", rows[2]["id"]),
        )
        assert read(placed.raw(rows[5])) == wanted

    def test_rule_07_what_a_look_for_another_one_has_seen_counts(self, bed, placed):
        """One has come and gone again meanwhile, so that the whole page is as it was."""
        rows = placed.listing("INBOX")
        wanted = bed.messages("INBOX")[::-1][5]
        new = []

        def come() -> None:
            new.extend(bed.put("INBOX", b"Subject: new\r\n\r\n"))
            with ThreadPoolExecutor(1) as other:
                other.submit(placed.raw, rows[3]).result()
            first_of(bed, list=lambda: bed.delete("INBOX", *new))

        first_of(bed, source=come)
        assert read(placed.raw(rows[5])) == wanted

    def test_rule_07_mail_may_come_and_go_while_many_are_read(self, bed, placed):
        rows = placed.listing("INBOX")
        there = dict(zip(bed.uids("INBOX"), bed.messages("INBOX"), strict=True))
        changes = threading.Semaphore(6)

        def stirred(row):
            if changes.acquire(blocking=False):
                bed.put("INBOX", b"Subject: new\r\n\r\n")
            try:
                return row["id"], read(placed.raw(row))
            except UnavailableError:  # faster than it can be read: no other message, at least
                return row["id"], there[row["id"]]

        with ThreadPoolExecutor(4) as pool:
            found = dict(pool.map(stirred, rows))
        assert found == {row["id"]: there[row["id"]] for row in rows}

    def test_rule_07_one_that_goes_meanwhile_is_gone_and_no_other_is_read(self, bed, placed):
        rows = placed.listing("INBOX")
        bed.meanwhile("source", 1, lambda: bed.delete("INBOX", rows[0]["id"]))
        with pytest.raises(GoneError):
            placed.raw(rows[0])

    def test_nothing_is_left_of_one_whose_place_cannot_be_looked_at_again(
        self, bed, placed, tmp_path
    ):
        bed.put("INBOX", b"Subject: large\r\n\r\n" + b"x\r\n" * 500_000)
        rows = placed.listing("INBOX")
        bed.trouble("error", at=("list",))
        with pytest.raises(UnavailableError):
            placed.raw(rows[0])
        assert [each for each in os.listdir(tmp_path) if each.startswith("webmail-")] == []

    def test_places_of_an_earlier_login_are_not_used(self, bed, placed):
        rows = placed.listing("INBOX")
        there = bed.messages("INBOX")[::-1]
        bed.put("INBOX", b"Subject: new\r\n\r\n")
        bed.log_out_all()
        assert [read(placed.raw(each)) for each in rows] == there

    def test_a_page_is_looked_at_once_for_all_that_were_read_before(self, bed, placed):
        """Alone, each message would need a look before it and one behind it."""
        rows = placed.listing("INBOX")
        bed.forget()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(placed.raw, rows))
        assert bed.asked("list") < 2 * len(rows)
