"""A folder's listing: all of it, each message once, and proven; or an error."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailflow.errors import GoneError, PeerError, UnavailableError
from mailflow_webmail.account import listing
from mailflow_webmail.errors import LayoutError

from .paper import Paper, row, site
from .web import ok

A = b"Subject: a\r\n\r\na\r\n"


@pytest.fixture
def paper():
    with Paper(**{f"m{n}": A for n in range(8)}) as running:
        yield running


@pytest.fixture
def session(paper, tmp_path):
    with paper.session(tmp_path) as opened:
        opened.log_in()
        yield opened


@pytest.fixture(scope="module")
def stirred(tmp_path_factory):
    with Paper() as paper, paper.session(tmp_path_factory.mktemp("stirred")) as session:
        session.log_in()
        yield paper, session


def ids(rows):
    return [each["id"] for each in rows]


def numbered(paper, pages):
    """Says pages of the list by their numbers; each is what it returns."""
    paper.says["list"] = lambda asked: pages(int(asked.target.partition("p=")[2].partition("&")[0]))


class TestWhole:
    def test_it_has_every_message_of_every_page_once(self, session):
        assert ids(session.listing("INBOX")) == [f"m{n}" for n in range(7, -1, -1)]

    def test_a_row_has_its_folder_and_its_fields(self, session):
        first = session.listing("INBOX")[0]
        assert (first["folder"], first["id"], first["at"]) == ("INBOX", "m7", "0")

    def test_rule_09_rows_that_a_last_page_repeats_are_seen_once(self, paper, session):
        def pages(number):
            keys = ["m7", "m6", "m5"] if number == 1 else ["m6", "m5", "m4"]
            rows = "".join(row(key, 7 - int(key[1:])) for key in keys)
            return paper.inside(f"<b id=count>4</b><table>{rows}</table>")

        numbered(paper, pages)
        assert ids(session.listing("INBOX")) == ["m7", "m6", "m5", "m4"]

    def test_no_page_is_asked_for_when_all_that_is_counted_is_here(self, paper, session):
        session.listing("INBOX")
        assert paper.steps.count("list") == 3

    def test_rule_09_a_page_past_the_end_that_repeats_the_last_one_is_the_end(self, paper, session):
        numbered(paper, lambda number: paper.listed(min(number, 3), total=7))
        paper.mail.pop("m0")
        assert len(session.listing("INBOX")) == 7

    def test_rule_09_it_ends_there_where_nothing_is_counted(self, paper, tmp_path):
        numbered(paper, lambda number: paper.listed(min(number, 3)))
        with paper.session(tmp_path, site(list__total=None)) as session:
            assert len(session.listing("INBOX")) == 8

    def test_links_to_the_next_page_are_followed_from_where_they_stand(self, paper, tmp_path):
        def pages(asked):
            number = int(asked.target.rpartition("/")[2]) if "more" in asked.target else 1
            link = (
                f'<a class=next href="{number + 1}">'
                if number > 1
                else '<a class=next href="more/2">'
            )
            return paper.listed(number, more=link if number < 3 else "")

        paper.says.update({"list": pages, "more/2": pages, "more/3": pages})
        linked = site(list__next={"css": "a.next"}, list__query__p=None)
        with paper.session(tmp_path, linked) as session:
            assert len(session.listing("INBOX")) == 8

    def test_rule_10_an_arrival_between_two_pages_is_noticed_by_the_count(self, paper, session):
        arrived = []

        def pages(number):
            if number == 2 and not arrived:
                arrived.append(paper.mail.setdefault("new", A))
            return paper.listed(number)

        numbered(paper, pages)
        assert set(ids(session.listing("INBOX"))) == {*(f"m{n}" for n in range(8)), "new"}

    def test_rule_10_a_message_that_goes_between_two_pages_hides_none(self, paper, session):
        gone = []

        def pages(number):
            if number == 2 and not gone:
                gone.append(paper.mail.pop("m7"))
            return paper.listed(number)

        numbered(paper, pages)
        assert ids(session.listing("INBOX")) == [f"m{n}" for n in range(6, -1, -1)]

    def test_mail_that_comes_faster_than_it_is_listed_is_a_temporary_error(self, paper, session):
        def pages(number):
            if number == 2:
                paper.mail[f"new{len(paper.asked)}"] = A
            return paper.listed(number)

        numbered(paper, pages)
        with pytest.raises(UnavailableError, match="comes and goes"):
            session.listing("INBOX")

    def test_rule_11_one_of_several_counts_must_be_right(self, paper, tmp_path):
        either = site(list__total=[{"css": "#talks"}, {"css": "#count"}])
        said = paper.listed(1)
        paper.mail = dict(list(paper.mail.items())[-2:])
        said = paper.inside(
            f"<i id=talks>1</i><b id=count>2</b><table>{row('m7', 0)}{row('m6', 1)}</table>"
        )
        paper.says["list"] = lambda asked: said
        with paper.session(tmp_path, either) as session:
            session.log_in()
            assert ids(session.listing("INBOX")) == ["m7", "m6"]

    def test_rule_11_rows_that_are_left_out_may_be_counted(self, paper, tmp_path):
        skip = site(list__rows__skip={"id": "^m3$"})
        with paper.session(tmp_path, skip) as session:
            assert len(session.listing("INBOX")) == 7

    def test_rule_11_rows_that_are_left_out_need_not_be_counted(self, paper, tmp_path):
        numbered(paper, lambda number: paper.listed(number, total=7))
        skip = site(list__rows__skip={"id": "^m3$"})
        with paper.session(tmp_path, skip) as session:
            assert len(session.listing("INBOX")) == 7

    def test_the_count_may_stand_with_the_folders(self, paper, tmp_path):
        paper.says["folders"] = lambda asked: paper.inside(
            '<a class=folder href="list?f=INBOX"><i>8</i></a>'
        )
        elsewhere = site(
            list__total={"field": "number"}, folders__rows__fields__number={"css": "i"}
        )
        with paper.session(tmp_path, elsewhere) as session:
            assert len(session.listing("INBOX")) == 8
            paper.says["folders"] = lambda asked: paper.inside(
                '<a class=folder href="list?f=INBOX"><i>9</i></a>'
            )
            with pytest.raises(LayoutError):
                session.listing("INBOX")

    def test_a_count_that_is_never_right_is_another_layout(self, paper, session):
        numbered(paper, lambda number: paper.listed(number, total=11))
        with pytest.raises(LayoutError, match="it says 11; found 8 messages on 4 pages") as caught:
            session.listing("INBOX")
        assert caught.value.fields["key"] == "total"

    def test_a_link_that_was_renamed_is_not_the_end(self, paper, tmp_path):
        linked = site(list__next={"css": "a.next"}, list__query__p=None)
        paper.says["list"] = lambda asked: paper.listed(1, more='<a class=renamed href="more/2">')
        with paper.session(tmp_path, linked) as session, pytest.raises(LayoutError):
            session.listing("INBOX")

    def test_where_nothing_is_counted_several_pages_are_listed_until_they_are_the_same_twice(
        self, paper, tmp_path
    ):
        uncounted = site(list__total=None)
        with paper.session(tmp_path, uncounted) as session:
            assert len(session.listing("INBOX")) == 8
        assert paper.steps.count("list") == 8

    def test_a_folder_without_an_end_is_an_error(self, paper, session, monkeypatch):
        monkeypatch.setattr(listing, "PAGES", 5)
        numbered(
            paper,
            lambda n: paper.inside(f"<b id=count>9</b><table>{row(f'x{n}', n)}</table>"),
        )
        with pytest.raises(Exception, match="over 5 pages"):
            session.listing("INBOX")

    @pytest.mark.parametrize(("bound", "most"), [("ROWS", 5), ("LETTERS", 200)])
    def test_rows_have_their_bounds(self, paper, session, monkeypatch, bound, most):
        monkeypatch.setattr(listing, bound, most)
        numbered(
            paper,
            lambda n: paper.inside(f"<b id=count>9999</b><table>{row(f'x{n}', n)}</table>"),
        )
        with pytest.raises(PeerError, match="more than can be listed"):
            session.listing("INBOX")
        assert paper.steps.count("list") < 100

    @pytest.mark.parametrize(("end", "whole"), [("", False), ("</table></body></HTML>", True)])
    def test_one_without_a_count_that_may_have_been_cut_is_not_believed(
        self, paper, tmp_path, end, whole
    ):
        head, _, body = paper.inside(f"<table>{row('a', 0)}").partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        octets = b"\r\n".join([*kept, b"", body.partition(b"</html")[0] + end.encode()])
        paper.says["list"] = lambda asked: iter([octets])
        with paper.session(tmp_path, site(list__total=None)) as session:
            if whole:
                assert len(session.listing("INBOX")) == 1
            else:
                with pytest.raises(UnavailableError, match="may have been cut"):
                    session.listing("INBOX")

    def test_rule_08_steps_before_it_are_done_before_the_first_page_alone(self, paper, tmp_path):
        with paper.session(tmp_path, site(list__before=["folders"])) as session:
            session.listing("INBOX")
        assert paper.steps.count("folders") == 1

    def test_a_folder_that_is_not_there_is_told(self, paper, session):
        paper.says["list"] = lambda asked: paper.inside("<p id=gone>")
        for ask in (session.listing, session.first):
            with pytest.raises(GoneError, match="shows no folder 'Nowhere', but Inbox; asked for"):
                ask("Nowhere")

    def test_what_a_folder_that_is_not_shown_looks_like_says_so(self, paper, session):
        paper.says["list"] = lambda asked: paper.inside("Willkommen!")
        with pytest.raises(LayoutError, match="shows no folder 'Eingang', but Inbox") as raised:
            session.listing("Eingang")
        assert raised.value.fields["step"] == "list"

    def test_of_a_folder_that_is_shown_the_error_alone_is_told(self, paper, session):
        paper.says["list"] = lambda asked: paper.inside("Willkommen!")
        with pytest.raises(LayoutError, match=r"^Paper: list: "):
            session.listing("INBOX")


class TestEmpty:
    def test_it_is_empty_where_the_page_says_so(self, paper, session):
        paper.mail.clear()
        assert session.listing("INBOX") == []

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "<b id=count>0</b>",
            "<p id=none></p><b id=count>8</b>",
            "<b id=count>0</b><p class=none></p>",
            "<b id=count>8</b>",
        ],
    )
    def test_rule_02_without_proof_it_is_an_error(self, paper, session, body):
        paper.says["list"] = lambda asked: paper.inside(body)
        with pytest.raises((LayoutError, UnavailableError)):
            session.listing("INBOX")

    def test_rule_02_a_count_of_none_is_proof_where_there_is_no_other(self, paper, tmp_path):
        paper.mail.clear()
        with paper.session(tmp_path, site(list__empty=None)) as session:
            assert session.listing("INBOX") == []

    def test_rule_02_an_outage_in_the_middle_is_no_end(self, paper, session):
        numbered(
            paper,
            lambda number: paper.listed(1) if number == 1 else
            paper.inside("<b id=count>0</b><p id=none></p>"),
        )  # fmt: skip
        with pytest.raises((LayoutError, UnavailableError)):
            session.listing("INBOX")

    def test_rule_15_a_page_between_with_all_the_links_is_not_empty(self, paper, session):
        paper.says["list"] = lambda asked: paper.inside(
            '<h1>New: our calendar!</h1><a class=folder href="list?f=INBOX">Inbox</a>'
        )
        with pytest.raises(LayoutError):
            session.listing("INBOX")


class TestRows:
    def test_one_without_an_id_is_another_layout(self, paper, session):
        paper.says["list"] = lambda asked: paper.inside(
            "<b id=count>1</b><table><tr><td>m7</td></tr></table>"
        )
        with pytest.raises(LayoutError) as caught:
            session.listing("INBOX")
        assert caught.value.fields["key"] == "rows.fields.id"

    def test_two_of_one_id_on_a_page_are_another_layout(self, paper, session):
        paper.says["list"] = lambda asked: paper.inside(
            f"<b id=count>1</b><table>{row('m1', 0)}{row('m1', 1)}</table>"
        )
        with pytest.raises(LayoutError, match="two messages have one id"):
            session.listing("INBOX")

    def test_a_link_is_where_its_page_says(self, paper, tmp_path):
        linked = site(list__rows__fields__src={"css": "a", "attr": "href"}, list__get="mail/list")
        said = paper.inside(
            "<b id=count>1</b><table><tr id=a data-at=0><td><a href='raw?id=a'>a</a></table>"
        )
        paper.says["mail/list"] = lambda asked: said
        with paper.session(tmp_path, linked) as session:
            session.log_in()
            said = said.replace(b"key0", b"key1")
            assert session.listing("INBOX")[0]["src"] == f"{paper.url}mail/raw?id=a"

    @pytest.mark.parametrize(
        ("count", "why"),
        [("", "it finds nothing"), ("<b id=count>many</b>", "what it finds is no number")],
    )
    def test_without_the_count_that_a_site_has_it_is_another_layout(
        self, paper, session, count, why
    ):
        paper.says["list"] = lambda asked: paper.inside(f"{count}<table>{row('a', 0)}</table>")
        with pytest.raises(
            LayoutError, match=rf"`total` does not hold: css #count: {why}\."
        ) as caught:
            session.listing("INBOX")
        assert caught.value.fields["key"] == "total"

    def test_a_row_takes_little_memory(self, paper, session):
        """So that a hundred thousand take less than 100 MB."""
        most = 1500

        def pages(number):
            rows = "".join(row(f"message-{number}-{n}", n) for n in range(500))
            return paper.inside(f"<b id=count>{most}</b><table>{rows}</table>")

        numbered(paper, pages)
        session.listing("INBOX")
        gc.collect()
        tracemalloc.start()
        rows = session.listing("INBOX")
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(rows) == most
        assert held < 1000 * most


class TestWhileMailComesAndGoes:
    CHANGES = st.lists(
        st.tuples(st.sampled_from(["none", "come", "go"]), st.integers(0, 9)), max_size=8
    )

    @given(changes=CHANGES)
    @settings(max_examples=40, deadline=None)
    def test_rule_09_what_stays_is_listed_once_and_nothing_is_made_up(self, stirred, changes):
        """The newest first; `changes` are made before the pages are shown, one each."""
        paper, session = stirred
        paper.mail = {f"m{n}": A for n in range(7)}
        ever, stayed, todo = {*paper.mail}, {*paper.mail}, list(changes)

        def pages(number):
            what, which = todo.pop(0) if todo else ("none", 0)
            if what == "come":
                paper.mail[f"new{len(ever)}"] = A
                ever.update(paper.mail)
            elif what == "go" and paper.mail:
                key = list(paper.mail)[which % len(paper.mail)]
                del paper.mail[key]
                stayed.discard(key)
            return paper.listed(number)

        numbered(paper, pages)
        try:
            found = ids(session.listing("INBOX"))
        except UnavailableError:
            return
        assert len(set(found)) == len(found)
        assert stayed <= set(found) <= ever


def test_a_page_of_another_kind_is_no_list(paper, session):
    paper.says["list"] = lambda asked: ok(b"\x89PNG", kind="image/png")
    with pytest.raises(LayoutError):
        session.listing("INBOX")
