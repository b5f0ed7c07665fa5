"""Through proxies, where a firewall lets nothing else out: HTTP, CONNECT for TLS, SOCKS."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailflow.errors import LoginError, UnavailableError
from mailflow.testing.daemon import end, listens
from mailflow.testing.serving import free_ports

from .web import HttpProxy, Listener, Mouth, SocksProxy, Web, ok, to

NAME = "webmail.example.org"
"""Nobody can reach it but by a proxy."""

PROXY = r"^the proxy 127\.0\.0\.1:\d+ "

NOBODY = PROXY + r'wants a name, as in "\w+://NAME@127\.0\.0\.1:\d+", and `proxy_password`$'

SECRETLESS = PROXY + r"wants a password, which is `proxy_password`$"

WRONG = PROXY + r"refuses the name or the password, in `proxy` and `proxy_password`$"

LOGINS = [("", NOBODY), ("ann@", SECRETLESS), ("ann:wr0ng@", WRONG)]
"""What stands in the address of a proxy that wants more, and what is told then."""


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    def answer(asked):
        return to("/in", "Set-Cookie: a=b") if asked.target == "/" else ok(asked.target)

    with Web(answer) as web:
        yield web


@pytest.fixture(scope="module")
def safe(authority) -> Iterator[Web]:
    with Web(lambda asked: ok("safe"), authority.issue([NAME])) as web:
        yield web


class TestHttp:
    def test_pwm_03_all_goes_through_the_proxy(self, browse, web) -> None:
        with HttpProxy({NAME: web.port}) as proxy:
            browser = browse(f"http://{NAME}/", proxy=f"http://127.0.0.1:{proxy.port}")
            assert browser.page("GET", "").body == "/in"
        assert [each.target for each in proxy.asked] == [f"http://{NAME}/", f"http://{NAME}/in"]
        assert proxy.asked[1].headers["cookie"] == "a=b"

    def test_pwm_03_tls_goes_through_a_tunnel_that_ends_at_the_webmail(
        self, browse, safe, authority
    ) -> None:
        with HttpProxy({NAME: safe.port}) as proxy:
            browser = browse(
                f"https://{NAME}/", proxy=f"http://127.0.0.1:{proxy.port}",
                ca_file=authority.ca_file,
            )  # fmt: skip
            for _ in range(3):
                assert browser.page("GET", "").body == "safe"
        assert [(each.method, each.target) for each in proxy.asked] == [("CONNECT", f"{NAME}:443")]

    def test_pwm_03_the_proxy_itself_may_speak_tls(self, browse, safe, authority) -> None:
        with HttpProxy({NAME: safe.port}, "ann:s3cret", authority.issue()) as proxy:
            browser = browse(
                f"https://{NAME}/", proxy=f"https://ann@127.0.0.1:{proxy.port}",
                proxy_password="s3cret", ca_file=authority.ca_file,
            )  # fmt: skip
            assert browser.page("GET", "").body == "safe"

    def test_a_proxy_with_a_certificate_of_nobody_is_refused(self, browse, authority) -> None:
        with HttpProxy({}, "", authority.issue()) as proxy:
            browser = browse(f"https://{NAME}/", proxy=f"https://127.0.0.1:{proxy.port}")
            with pytest.raises(LoginError, match=r"^the certificate of the proxy 127.* is refused"):
                browser.page("GET", "")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize(
        "options",
        [
            {"login": "ann:s3cret%20p%26ss@"},
            {"login": "ann@", "proxy_password": "s3cret p&ss"},
        ],
        ids=["in the address", "as a secret"],
    )
    def test_it_may_want_a_name_and_a_password(
        self, browse, web, safe, authority, scheme, options
    ) -> None:
        port = safe.port if scheme == "https" else web.port
        words = dict(options)
        with HttpProxy({NAME: port}, "ann:s3cret p&ss") as proxy:
            words["proxy"] = f"http://{words.pop('login')}127.0.0.1:{proxy.port}"
            browser = browse(f"{scheme}://{NAME}/x", ca_file=authority.ca_file, **words)
            assert browser.page("GET", "x").status == 200

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize(("login", "told"), LOGINS)
    def test_a_login_that_it_refuses_is_told(self, browse, web, scheme, login, told) -> None:
        with HttpProxy({NAME: web.port}, "ann:s3cret") as proxy:
            browser = browse(f"{scheme}://{NAME}/", proxy=f"http://{login}127.0.0.1:{proxy.port}")
            with pytest.raises(LoginError, match=told) as caught:
                browser.page("POST", "", data={"password": "canary"})
        assert "wr0ng" not in caught.value.text

    def test_a_webmail_that_it_does_not_reach_is_told(self, browse) -> None:
        with HttpProxy({}) as proxy:
            browser = browse(f"https://{NAME}/", proxy=f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(
                UnavailableError,
                match=rf"^the proxy 127.* does not connect us to {NAME}:443: status 502$",
            ):
                browser.page("GET", "")


class TestSocks:
    def test_pwm_03_names_are_looked_up_by_the_proxy(self, browse, web) -> None:
        with SocksProxy({NAME: web.port}) as proxy:
            browser = browse(f"http://{NAME}/", proxy=f"socks5h://127.0.0.1:{proxy.port}")
            assert browser.page("GET", "").body == "/in"
        assert proxy.asked == [NAME]

    def test_pwm_03_or_by_us(self, browse, web) -> None:
        with SocksProxy({"127.0.0.1": web.port}) as proxy:
            browser = browse("http://localhost:9/", proxy=f"socks5://127.0.0.1:{proxy.port}")
            assert browser.page("GET", "x").body == "/x"
        assert proxy.asked == ["127.0.0.1"]

    def test_pwm_03_tls_ends_at_the_webmail(self, browse, safe, authority) -> None:
        with SocksProxy({NAME: safe.port}) as proxy:
            browser = browse(
                f"https://{NAME}/", proxy=f"socks5h://localhost:{proxy.port}",
                ca_file=authority.ca_file,
            )  # fmt: skip
            assert browser.page("GET", "").body == "safe"

    def test_it_may_want_a_name_and_a_password(self, browse, web) -> None:
        with SocksProxy({NAME: web.port}, "ann:s3cret") as proxy:
            browser = browse(
                f"http://{NAME}/", proxy=f"socks5h://ann:s3cret@127.0.0.1:{proxy.port}"
            )
            assert browser.page("GET", "x").body == "/x"

    @pytest.mark.parametrize(("login", "told"), LOGINS)
    def test_a_login_that_it_refuses_is_told(self, browse, login, told) -> None:
        with SocksProxy({}, "ann:s3cret") as proxy:
            browser = browse(f"http://{NAME}/", proxy=f"socks5h://{login}127.0.0.1:{proxy.port}")
            with pytest.raises(LoginError, match=told):
                browser.page("GET", "")

    def test_a_webmail_that_it_does_not_reach_is_told(self, browse) -> None:
        with SocksProxy({}) as proxy:
            browser = browse(f"http://{NAME}/", proxy=f"socks5h://127.0.0.1:{proxy.port}")
            with pytest.raises(
                UnavailableError, match=f"does not connect us to {NAME}:80: Host unreachable"
            ):
                browser.page("GET", "")

    @pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad\r\n\r\n", b"\x05\x07", b"\x05"])
    def test_what_is_no_proxy_is_told(self, browse, said) -> None:
        class Short(Listener):
            def serve(self, sock, number) -> None:
                sock.sendall(said)
                sock.recv(1 << 10)

        with Short() as proxy:
            browser = browse(f"http://{NAME}/", proxy=f"socks5h://127.0.0.1:{proxy.port}")
            with pytest.raises(
                UnavailableError,
                match=r"^the proxy 127\.0\.0\.1:\d+ does not answer as SOCKS has it$",
            ):
                browser.page("GET", "")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
class TestSilent:
    def test_a_proxy_that_is_not_there_is_told(self, browse, scheme) -> None:
        browser = browse(f"http://{NAME}/", proxy=f"{scheme}://127.0.0.1:{free_ports(1)[0]}")
        with pytest.raises(
            UnavailableError,
            match=r"^cannot connect to the proxy 127\.0\.0\.1:\d+: Connection refused$",
        ) as caught:
            browser.page("POST", "")
        assert caught.value.fields["sent"] is False

    def test_a_proxy_that_says_nothing_has_its_time(self, browse, scheme) -> None:
        with Mouth(b"") as proxy:
            browser = browse(
                f"https://{NAME}/", proxy=f"{scheme}://127.0.0.1:{proxy.port}", timeout=0.3
            )
            with pytest.raises(UnavailableError, match="keeps silent: no"):
                browser.page("GET", "")

    def test_the_halt_ends_the_wait(self, browse, halt, scheme) -> None:
        with Mouth(b"") as proxy:
            browser = browse(f"https://{NAME}/", proxy=f"{scheme}://127.0.0.1:{proxy.port}")
            threading.Timer(0.3, halt.set).start()
            with pytest.raises(UnavailableError, match=r"^stopped on request$"):
                browser.page("GET", "")


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        assert listens(process, port)
        yield
    finally:
        end(process)


@pytest.mark.interop("tinyproxy-bin")
def test_pwm_03_a_real_proxy_for_http(browse, web, safe, authority, tmp_path) -> None:
    port = free_ports(1)[0]
    config = tmp_path / "tinyproxy.conf"
    config.write_text(
        f"Port {port}\nListen 127.0.0.1\nTimeout 20\nBasicAuth ann s3cret\nLogLevel Error\n"
    )
    with running(["tinyproxy", "-d", "-c", str(config)], port):
        proxy = f"http://ann:s3cret@127.0.0.1:{port}"
        assert browse(web.url, proxy=proxy).page("GET", "").body.endswith("/in")
        with Web(ok("safe"), authority.issue()) as far:
            browser = browse(far.url, proxy=proxy, ca_file=authority.ca_file)
            assert browser.page("POST", "", data={"a": "b"}).body == "safe"
        with pytest.raises(LoginError, match=NOBODY):
            browse(far.url, proxy=f"http://127.0.0.1:{port}").page("GET", "")


@pytest.mark.interop("microsocks")
def test_pwm_03_a_real_proxy_of_socks(browse, web) -> None:
    port = free_ports(1)[0]
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(port), "-u", "ann", "-P", "s3cret"]
    with running(command, port):
        proxy = f"socks5h://ann:s3cret@127.0.0.1:{port}"
        assert browse(web.url, proxy=proxy).page("GET", "").body == "/in"
        with pytest.raises(LoginError, match=NOBODY):
            browse(web.url, proxy=f"socks5h://127.0.0.1:{port}").page("GET", "")
        with pytest.raises(UnavailableError, match="does not connect us to localhost:9: "):
            browse("http://localhost:9/", proxy=proxy).page("GET", "")
