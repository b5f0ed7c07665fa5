"""Requests to one webmail: what is sent, which answers are followed, how often it is asked."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate

import pytest

import mailflow
from mailflow.errors import ConfigError, LoginError, PeerError, UnavailableError
from mailflow.testing.serving import free_ports
from mailflow_webmail.errors import ThrottledError
from mailflow_webmail.web.pace import retry_after
from mailflow_webmail.web.page import Page

from .web import Mouth, Web, ok, to


class TestAsking:
    def test_it_says_who_asks_and_wants_nothing_packed(self, browse) -> None:
        with Web(ok("hello")) as web:
            assert browse(web.url).page("GET", "").body == "hello"
        headers = web.asked[0].headers
        assert headers["user-agent"] == f"mailflow/{mailflow.__version__}"
        assert headers["accept-encoding"] == "identity"
        assert headers["accept-language"] == "en"

    @pytest.mark.parametrize(
        ("url", "asked", "target"),
        [
            ("mail", "?_task=login", "/mail/?_task=login"),
            ("mail/", "login", "/mail/login"),
            ("mail/?_task=login#top", "?_task=mail", "/mail/?_task=mail"),
            ("mail/", "/other", "/other"),
            ("", "a b?q=\u00fc", "/a%20b?q=%C3%BC"),
        ],
    )
    def test_addresses_are_those_from_where_it_is_installed(
        self, browse, url, asked, target
    ) -> None:
        with Web(ok()) as web:
            browse(web.url + url).page("GET", asked)
        assert web.targets == [target]

    def test_parameters_fields_and_headers_are_sent(self, browse) -> None:
        with Web(ok()) as web:
            browse(web.url).page(
                "POST", "do", params={"a": "1 2"}, data={"b": "&="}, headers={"X-Token": "t"}
            )
        asked = web.asked[0]
        assert (asked.method, asked.target, asked.body) == ("POST", "/do?a=1+2", b"b=%26%3D")
        assert asked.headers["x-token"] == "t"

    def test_a_header_that_cannot_be_sent_is_an_error_before_anything_is(self, browse) -> None:
        with Web(ok()) as web, pytest.raises(PeerError) as caught:
            browse(web.url).page("GET", "", headers={"X-User": "\u0434"})
        assert caught.value.text.endswith(
            "a request cannot be made: a header has letters beyond Latin-1"
        )
        assert "sent" not in caught.value.fields
        assert web.asked == []

    def test_connections_are_kept(self, browse) -> None:
        with Web(ok("x")) as web:
            browser = browse(web.url)
            for _ in range(5):
                browser.page("GET", "")
        assert web.connections == 1

    def test_an_answer_may_be_read_while_others_are_asked_for(self, browse) -> None:
        with Web(ok(b"x" * 300_000)) as web:
            browser = browse(web.url, parallel=1)
            with browser.answer("GET", "") as answer:
                assert browser.page("GET", "").body == "x" * 300_000
                assert sum(map(len, browser.pieces(answer, 1 << 20))) == 300_000

    def test_what_is_left_of_an_answer_is_not_taken_for_the_next(self, browse) -> None:
        with Web(lambda asked: ok(asked.target.encode() * 30_000)) as web:
            browser = browse(web.url)
            with browser.answer("GET", "a"):
                pass
            assert browser.page("GET", "b").body == "/b" * 30_000

    def test_an_idle_connection_that_was_closed_costs_a_get_nothing(self, browse) -> None:
        asked_on: list[int] = []

        def answer(asked):
            asked_on.append(asked.connection)
            if asked.connection == 1 and len(asked_on) == 2:
                return None
            return ok("x")

        with Web(answer) as web:
            browser = browse(web.url)
            assert browser.page("GET", "1").body == "x"
            assert browser.page("GET", "2").body == "x"
        assert asked_on == [1, 1, 2]

    def test_a_get_is_tried_once_more_only(self, browse) -> None:
        with Web(lambda asked: ok("x") if asked.target == "/1" else None) as web:
            browser = browse(web.url)
            browser.page("GET", "1")
            with pytest.raises(UnavailableError, match="closed the connection without an answer"):
                browser.page("GET", "2")
        assert web.targets == ["/1", "/2", "/2"]

    def test_a_get_on_a_new_connection_is_not_repeated(self, browse) -> None:
        with Web(lambda asked: None) as web, pytest.raises(UnavailableError):
            browse(web.url).page("GET", "")
        assert len(web.asked) == 1

    def test_a_post_is_never_repeated(self, browse) -> None:
        with Web(lambda asked: ok("x") if asked.method == "GET" else None) as web:
            browser = browse(web.url)
            browser.page("GET", "1")
            with pytest.raises(UnavailableError) as caught:
                browser.page("POST", "2", data={"a": "b"})
        assert web.targets == ["/1", "/2"]
        assert caught.value.fields["sent"] is True

    def test_a_post_takes_no_connection_that_was_idle_for_long(self, browse, monkeypatch) -> None:
        monkeypatch.setattr("mailflow_webmail.web.browser.STALE", 0.0)
        with Web(ok("x")) as web:
            browser = browse(web.url)
            browser.page("GET", "")
            browser.page("POST", "")
        assert [each.connection for each in web.asked] == [1, 2]

    def test_what_was_not_sent_is_told_from_what_may_have_arrived(self, browse) -> None:
        with Web(ok()) as web:
            browser = browse(web.url)
        with pytest.raises(UnavailableError, match="Connection refused") as caught:
            browser.page("POST", "")
        assert caught.value.fields["sent"] is False


class TestRedirects:
    def test_they_are_followed_with_cookies(self, browse) -> None:
        said = {"/in": to("/on?x=1", "Set-Cookie: a=b; Path=/"), "/on?x=1": ok("there")}
        with Web(lambda asked: said[asked.target]) as web:
            page = browse(web.url).page("POST", "in", data={"password": "s3cret"})
        assert (page.body, page.url) == ("there", f"{web.url}on?x=1")
        assert (web.asked[1].method, web.asked[1].headers["cookie"]) == ("GET", "a=b")
        assert web.asked[1].body == b""
        assert web.connections == 1

    @pytest.mark.parametrize("status", ["307 Again", "308 For Good"])
    def test_some_want_what_was_posted_again(self, browse, status) -> None:
        def answer(asked):
            return ok("done") if asked.target == "/b" else to("b", status=status)

        with Web(answer) as web:
            assert browse(web.url).page("POST", "a", data={"x": "y"}).body == "done"
        assert [(each.method, each.body) for each in web.asked] == [("POST", b"x=y")] * 2

    def test_a_circle_ends(self, browse) -> None:
        with (
            Web(lambda asked: to(f"{asked.target}x")) as web,
            pytest.raises(PeerError, match=r"^127\.0\.0\.1:\d+ sends us on more than 10 times$"),
        ):
            browse(web.url).page("GET", "a")
        assert len(web.asked) == 11

    def test_a_parameter_is_not_added_again(self, browse) -> None:
        with Web(lambda asked: ok() if asked.target == "/b" else to("b")) as web:
            browse(web.url).page("GET", "a", params={"q": "1"})
        assert web.targets == ["/a?q=1", "/b"]

    def test_a_status_of_them_without_an_address_is_an_answer(self, browse) -> None:
        with Web(ok("no", status="304 Not Modified")) as web:
            assert browse(web.url).page("GET", "").status == 304

    def test_hosts_that_the_user_names_are_asked(self, browse) -> None:
        with Web(ok("login")) as other, Web(lambda asked: to(f"{other.url}in")) as web:
            browser = browse(web.url, hosts=[f"127.0.0.1:{other.port}"])
            assert browser.page("GET", "", headers={"X-Token": "t0ken"}).body == "login"
        assert "x-token" in web.asked[0].headers
        assert "x-token" not in other.asked[0].headers

    def test_what_fails_behind_one_has_arrived_before(self, browse) -> None:
        [gone] = free_ports(1)
        with Web(lambda asked: to(f"http://127.0.0.1:{gone}/")) as web:
            browser = browse(web.url, hosts=[f"127.0.0.1:{gone}"])
            with pytest.raises(UnavailableError, match="Connection refused") as caught:
                browser.page("POST", "", data={"a": "b"})
        assert caught.value.fields["sent"] is True

    def test_what_is_posted_goes_to_no_other_host_by_itself(self, browse) -> None:
        with Web(ok()) as other, Web(lambda asked: to(other.url, status="307 Go")) as web:
            browser = browse(web.url, hosts=[f"127.0.0.1:{other.port}"])
            with pytest.raises(PeerError, match="would have what we post sent to another host"):
                browser.page("POST", "", data={"password": "s3cret"})
        assert other.asked == []


class TestPace:
    def test_requests_of_all_threads_keep_their_distance(self, browse) -> None:
        began = []
        with Web(lambda asked: began.append(time.monotonic()) or ok()) as web:
            browser = browse(web.url, delay=0.3)
            threads = [threading.Thread(target=browser.page, args=("GET", "")) for _ in range(4)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        began.sort()
        assert began[-1] - began[0] > 0.4

    def test_a_short_rest_is_taken(self, browse) -> None:
        said = iter([ok(b"", "Retry-After: 1", status="429 Slow"), ok("now")])
        with Web(lambda asked: next(said)) as web:
            began = time.monotonic()
            assert browse(web.url).page("GET", "").body == "now"
        assert time.monotonic() - began >= 1

    @pytest.mark.parametrize("status", ["429 Slow", "503 Out"])
    def test_a_long_rest_is_for_the_engine(self, browse, status) -> None:
        with (
            Web(ok(b"", "Retry-After: 3600", status=status)) as web,
            pytest.raises(ThrottledError, match="left alone for 3600 seconds") as caught,
        ):
            browse(web.url).page("GET", "")
        assert caught.value.fields["delay"] == 3600

    def test_a_post_is_not_repeated_after_a_rest(self, browse) -> None:
        with (
            Web(ok(b"", "Retry-After: 1", status="503 Out")) as web,
            pytest.raises(ThrottledError) as caught,
        ):
            browse(web.url).page("POST", "")
        assert (len(web.asked), caught.value.fields["delay"]) == (1, 1)

    def test_nor_is_a_form_that_is_sent_by_get(self, browse) -> None:
        """It may send a mail."""
        page = Page("", 200, {"Content-Type": "text/html"}, b"<form><input name=to></form>")
        with Web(ok(b"", "Retry-After: 1", status="503 Out")) as web:
            page.url = web.url
            with pytest.raises(ThrottledError) as caught:
                browse(web.url).submit(page, "form", {"to": "bob"})
        assert (web.targets, caught.value.fields["sent"]) == (["/?to=bob"], True)

    def test_a_server_that_never_has_enough_of_it_is_left_alone(self, browse, monkeypatch) -> None:
        monkeypatch.setattr("mailflow_webmail.web.pace.Pace.rest", lambda self, seconds: None)
        with (
            Web(ok(b"", "Retry-After: 0", status="503 Out")) as web,
            pytest.raises(ThrottledError, match="again and again"),
        ):
            browse(web.url).page("GET", "")
        assert len(web.asked) == 4

    def test_too_many_requests_without_a_time_is_told(self, browse) -> None:
        with (
            Web(ok(status="429 Slow")) as web,
            pytest.raises(ThrottledError, match="asked too often") as caught,
        ):
            browse(web.url).page("GET", "")
        assert "delay" not in caught.value.fields

    def test_a_server_that_is_out_of_order_is_a_page_for_the_site_to_judge(self, browse) -> None:
        with Web(ok("Maintenance", status="503 Out")) as web:
            page = browse(web.url).page("GET", "")
        assert (page.status, page.body) == (503, "Maintenance")

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ({"Retry-After": "120"}, 120),
            ({"Retry-After": " 7 "}, 7),
            ({"Retry-After": "9" * 5000}, 999999999),
            ({"Retry-After": "Wed, 21 Oct 2015 07:30:00 GMT",
              "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 120),
            ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-5"}, None),
            ({"Retry-After": "Wed, 99 Oct 99999999 07:28:00 GMT"}, None),
            ({}, None),
        ],
    )  # fmt: skip
    def test_both_forms_of_retry_after(self, said, seconds) -> None:
        assert retry_after(said) == seconds

    def test_a_date_is_counted_from_now_without_the_server_s_clock(self) -> None:
        said = {"Retry-After": formatdate(time.time() + 100, usegmt=True)}
        assert 90 < (retry_after(said) or 0) <= 100


class TestTls:
    def test_an_authority_of_one_s_own_is_named(self, browse, authority) -> None:
        with Web(ok("safe"), authority.issue()) as web:
            assert browse(web.url, ca_file=authority.ca_file).page("GET", "").body == "safe"

    def test_a_certificate_that_nobody_signed_is_refused(self, browse, authority) -> None:
        with (
            Web(ok("safe"), authority.issue()) as web,
            pytest.raises(
                LoginError,
                match=r"^the certificate of 127\.0\.0\.1:\d+ is refused: unable to get local issuer"
                r".*; where its authority is one of your own, name that by `ca_file`$",
            ),
        ):
            browse(web.url).page("POST", "", data={"password": "s3cret"})
        assert web.asked == []

    @pytest.mark.parametrize(
        ("names", "days", "reason"),
        [(["other.example.org"], 10, "mismatch"), (["127.0.0.1"], -1, "expired")],
    )
    def test_name_and_time_of_a_certificate_count(
        self, browse, authority, names, days, reason
    ) -> None:
        with (
            Web(ok("safe"), authority.issue(names, days)) as web,
            pytest.raises(LoginError, match=reason),
        ):
            browse(web.url, ca_file=authority.ca_file).page("GET", "")

    def test_only_the_authorities_named_are_trusted(self, browse, authority, tmp_path) -> None:
        from mailflow.testing.tls import Authority

        (tmp_path / "other").mkdir()
        with (
            Web(ok(), authority.issue()) as web,
            pytest.raises(LoginError, match="is refused"),
        ):
            browse(web.url, ca_file=Authority(tmp_path / "other").ca_file).page("GET", "")

    def test_a_server_of_old_tls_only_is_refused(self, browse, authority) -> None:
        with Web(ok("safe"), authority.issue()) as web:
            web.limit_tls("TLSv1", "TLSv1_1")
            with pytest.raises(LoginError, match=r"^no TLS with 127"):
                browse(web.url, ca_file=authority.ca_file).page("GET", "")

    def test_a_port_without_tls_is_told(self, browse) -> None:
        with (
            Mouth(ok(status="400 Bad Request")) as mouth,
            pytest.raises(LoginError, match="does not speak TLS from the first octet"),
        ):
            browse(f"https://127.0.0.1:{mouth.port}/").page("GET", "")

    def test_a_file_of_no_authorities_is_a_fault_of_the_options(self, browse, tmp_path) -> None:
        with pytest.raises(ConfigError, match="cannot use ca_file"):
            browse("https://localhost/", ca_file=str(tmp_path / "none.pem"))
