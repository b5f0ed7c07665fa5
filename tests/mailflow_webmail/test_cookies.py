"""Cookies: kept by many threads, for their own hosts, and taken from a browser's file."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from mailflow.errors import ConfigError
from mailflow_webmail.settings import WebmailOptions
from mailflow_webmail.web.cookies import LARGEST, MOST, Lent, imported

from .web import HttpProxy, Web, ok, to

LATER = int(time.time()) + 10_000

HEAD = "# Netscape HTTP Cookie File\n# This is a generated file! Do not edit.\n\n"


@pytest.fixture
def saved(tmp_path: Path):
    """Writes a cookie file of lines whose words are parted by spaces here, and by tabs there."""

    def saved(*lines: str, mode: int = 0o600) -> str:
        path = tmp_path / "cookies.txt"
        path.write_text(HEAD + "".join(f"{line}\n".replace(" ", "\t") for line in lines))
        path.chmod(mode)
        return str(path)

    return saved


@pytest.fixture
def lent(tmp_path: Path):
    def lent(path: str, *hosts: str) -> Lent:
        return Lent(path, hosts or ["127.0.0.1"], str(tmp_path / "state" / "kept.cookies"))

    return lent


class TestKept:
    def test_they_come_back_and_change(self, browse) -> None:
        said = {
            "/1": ok(b"", "Set-Cookie: sid=a; Path=/; HttpOnly", "Set-Cookie: auth=1"),
            "/2": ok(b"", "Set-Cookie: auth=2"),
            "/3": ok(b"", "Set-Cookie: sid=; Max-Age=0; Path=/"),
            "/4": ok(),
        }
        with Web(lambda asked: said[asked.target]) as web:
            browser = browse(web.url)
            for path in said:
                browser.page("GET", path)
        assert [each.headers.get("cookie") for each in web.asked] == [
            None, "sid=a; auth=1", "sid=a; auth=2", "auth=2",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "cookie",
        [
            "a=b; Domain=other.example.org", "a=b; Domain=evil.com", "a=b; Domain=.org",
            "a=b; Domain=org", "a=b; Domain=mail.webmail.example.org", "a=" + "x" * 9000,
        ],
        ids=["sibling", "other", "suffix", "bare suffix", "below", "long"],
    )  # fmt: skip
    def test_those_of_others_and_giants_are_dropped(self, browse, cookie) -> None:
        host = "webmail.example.org"
        with Web(ok(b"", f"Set-Cookie: {cookie}")) as web, HttpProxy({host: web.port}) as proxy:
            browser = browse(f"http://{host}/", proxy=f"http://127.0.0.1:{proxy.port}")
            browser.page("GET", "")
            browser.page("GET", "")
        assert "cookie" not in web.asked[1].headers

    def test_those_of_a_domain_go_to_the_hosts_named(self, browse) -> None:
        def answer(asked):
            if asked.headers["host"] == "login.example.org":
                return to(
                    "http://webmail.example.org/in",
                    "Set-Cookie: all=1; Domain=example.org", "Set-Cookie: own=2",
                )  # fmt: skip
            return ok()

        with Web(answer) as web:
            hosts = dict.fromkeys(("webmail.example.org", "login.example.org"), web.port)
            with HttpProxy(hosts) as proxy:
                browse(
                    "http://webmail.example.org/", proxy=f"http://127.0.0.1:{proxy.port}",
                    hosts=["login.example.org"],
                ).page("GET", "http://login.example.org/")  # fmt: skip
        assert web.asked[1].headers["cookie"] == "all=1"

    def test_those_for_tls_go_nowhere_else(self, browse) -> None:
        with Web(ok(b"", "Set-Cookie: a=b; Secure")) as web:
            browser = browse(web.url)
            browser.page("GET", "")
            browser.page("GET", "")
        assert "cookie" not in web.asked[1].headers

    def test_a_flood_of_them_leaves_those_that_were_there(self, browse) -> None:
        count = 0

        def answer(asked):
            nonlocal count
            count += 1
            more = [f"Set-Cookie: c{count}x{n}=1" for n in range(60)]
            return ok(b"", f"Set-Cookie: sid={count}", *more)

        with Web(answer) as web:
            browser = browse(web.url)
            for _ in range(6):
                browser.page("GET", "")
        assert len(list(browser.jar)) == MOST
        assert "sid=5;" in web.asked[-1].headers["cookie"]

    def test_threads_do_not_disturb_each_other(self, browse) -> None:
        def answer(asked):
            name = asked.target.strip("/")
            return ok(b"", *(f"Set-Cookie: {name}{n}=1" for n in range(5)))

        failures = []

        def ask(number) -> None:
            try:
                for _ in range(15):
                    browser.page("GET", f"t{number}")
            except BaseException as error:
                failures.append(error)

        with Web(answer) as web:
            browser = browse(web.url)
            threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        assert failures == []
        assert len(list(browser.jar)) == 30


class TestImported:
    def test_a_session_of_a_browser_goes_on(self, browse, saved, lent) -> None:
        path = saved(
            f"#HttpOnly_127.0.0.1 FALSE / FALSE {LATER} sid s3cret",
            "127.0.0.1 FALSE / FALSE 0 theme dark",
            f"127.0.0.1 FALSE /mail FALSE {LATER}.123 deep 1",
        )
        with Web(ok()) as web:
            browse(web.url, cookies=lent(path)).page("GET", "mail/x")
        assert sorted(web.asked[0].headers["cookie"].split("; ")) == [
            "deep=1", "sid=s3cret", "theme=dark",
        ]  # fmt: skip

    def test_what_the_webmail_makes_of_them_is_kept_for_the_next_run(
        self, browse, saved, lent, tmp_path
    ) -> None:
        count = iter(range(9))
        path = saved("127.0.0.1 FALSE / FALSE 0 sid s3cret", "127.0.0.1 FALSE / FALSE 0 auth old")
        os.utime(path, (1, 1))
        answer = lambda asked: ok(b"", f"Set-Cookie: auth=new{next(count)}; Path=/")  # noqa: E731
        with Web(answer) as web:
            for _ in range(2):
                browser = browse(web.url, cookies=lent(path))
                browser.page("GET", "")
                browser.close()
            assert stat.S_IMODE((tmp_path / "state" / "kept.cookies").stat().st_mode) == 0o600
            os.utime(path, (4e9, 4e9))
            browse(web.url, cookies=lent(path)).page("GET", "")
        assert [each.headers["cookie"] for each in web.asked] == [
            "sid=s3cret; auth=old", "auth=new0; sid=s3cret", "sid=s3cret; auth=old",
        ]  # fmt: skip

    def test_a_file_of_ours_that_is_damaged_is_as_none(self, saved, lent, tmp_path) -> None:
        path = saved("127.0.0.1 FALSE / FALSE 0 sid 1")
        os.utime(path, (1, 1))
        kept = tmp_path / "state" / "kept.cookies"
        kept.parent.mkdir()
        for octets in (b"", b"nonsense\n", b"\xff"):
            kept.write_bytes(octets)
            kept.chmod(0o600)
            assert [each.value for each in lent(path).cookies] == ["1"]

    def test_a_disk_that_takes_nothing_ends_no_run(self, browse, saved, lent, tmp_path) -> None:
        (tmp_path / "state").write_text("in the way")
        path = saved("127.0.0.1 FALSE / FALSE 0 sid 1")
        with Web(ok(b"", "Set-Cookie: sid=2; Path=/")) as web:
            browser = browse(web.url, cookies=lent(path))
            assert browser.page("GET", "").status == 200

    def test_a_host_without_a_dot_has_cookies_too(self, browse, saved, lent) -> None:
        path = saved("localhost FALSE / FALSE 0 sid 1")
        with Web(ok(b"", "Set-Cookie: more=2; Path=/")) as web:
            browser = browse(f"http://localhost:{web.port}/", cookies=lent(path, "localhost"))
            browser.page("GET", "")
            browser.page("GET", "")
        assert [each.headers["cookie"] for each in web.asked] == ["sid=1", "sid=1; more=2"]
        browser.close()
        assert len(lent(path, "localhost").cookies) == 2

    def test_those_of_other_hosts_and_old_ones_are_left_out(self, saved) -> None:
        path = saved(
            f"webmail.example.org FALSE / TRUE {LATER} one 1",
            f".example.org TRUE / TRUE {LATER} two 2",
            f"example.org TRUE / TRUE {LATER} three 3",
            f"example.org FALSE / TRUE {LATER} no 1",
            f"other.example.org FALSE / TRUE {LATER} no 2",
            f".ample.org TRUE / TRUE {LATER} no 3",
            f".org TRUE / TRUE {LATER} no 5",
            "webmail.example.org FALSE / TRUE 1000000000 no 4",
        )
        assert [each.name for each in imported(path, ["webmail.example.org"])] == [
            "one", "two", "three",
        ]  # fmt: skip

    @pytest.mark.parametrize("expiry", ["", "0", "-1"])
    def test_one_that_lasts_as_long_as_its_browser_is_good(self, saved, expiry) -> None:
        [cookie] = imported(saved(f"localhost FALSE / FALSE {expiry} a 1"), ["localhost"])
        assert cookie.expires is None

    def test_a_value_may_be_empty_or_hold_anything_but_a_tab(self, saved) -> None:
        path = saved("localhost FALSE / FALSE 0 a ", 'localhost FALSE / FALSE 0 b "=;"')
        assert [each.value for each in imported(path, ["localhost"])] == ["", '"=;"']

    @pytest.mark.parametrize(
        "line",
        [
            "nonsense", "localhost FALSE / FALSE 0 s3cret", "localhost NO / FALSE 0 a s3cret",
            "localhost FALSE / FALSE never a s3cret", "localhost FALSE / FALSE 0 a s3cret more",
        ],
    )  # fmt: skip
    def test_a_line_of_no_cookie_is_told_without_its_value(self, saved, line) -> None:
        path = saved("localhost FALSE / FALSE 0 good 1", line)
        with pytest.raises(ConfigError, match=rf"^line 5 of cookie file {path} is none") as caught:
            imported(path, ["localhost"])
        assert "s3cret" not in caught.value.text

    def test_a_file_that_others_can_read_is_refused(self, saved) -> None:
        path = saved("localhost FALSE / FALSE 0 a 1", mode=0o644)
        with pytest.raises(ConfigError, match=rf"can be read by others .* chmod 600 {path}"):
            imported(path, ["localhost"])

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("localhost FALSE / FALSE 1000000000 a 1", "those that are for it have expired"),
            ("other FALSE / FALSE 0 a 1", "none is for it"),
        ],
    )
    def test_nothing_left_is_told(self, saved, line, why) -> None:
        with pytest.raises(ConfigError, match=f"no cookie for localhost: {why}; log in with"):
            imported(saved(line), ["localhost"])

    def test_a_file_that_is_not_there_or_no_text_is_told(self, tmp_path) -> None:
        path = tmp_path / "cookies.txt"
        with pytest.raises(ConfigError, match="cannot read cookie file"):
            imported(str(path), ["localhost"])
        path.touch(0o600)
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match="not UTF-8 text"):
            imported(str(path), ["localhost"])

    def test_a_file_that_is_too_large_is_told_and_not_cut(self, saved) -> None:
        path = saved("localhost FALSE / FALSE 0 a 1")
        with open(path, "a", encoding="utf-8") as file:
            file.write("# " + "é" * (LARGEST // 2))
        with pytest.raises(ConfigError, match="is larger than"):
            imported(path, ["localhost"])

    def test_it_is_looked_at_before_anything_is_asked(self, saved) -> None:
        given = {"site": "roundcube", "url": "https://localhost/", "user": "ann",
                 "cookies": saved("other FALSE / FALSE 0 a 1")}  # fmt: skip
        [(option, text)] = WebmailOptions.read(given).look()
        assert (option, text.startswith("cookie file")) == ("cookies", True)
        os.unlink(given["cookies"])
