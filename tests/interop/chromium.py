"""A visit to Roundcube in Debian's Chromium, clicked through by a script and saved as HAR.

    python -m tests.interop.chromium FILE.har     # makes the file that is kept beside this one

Rule of the file: it does what somebody is told to do who wants a webmail described, and nothing
else; the browser alone makes the file.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.roundcube import Roundcube

from .webmail_servers import PASSWORD, RoundcubeAccount, message

CHROMIUM = "/usr/bin/chromium"

PAGES = re.compile(r"/(\?.*)?$")
"""What is kept of the visit: no images, styles and scripts, which are 7 MB."""

MAIL = [message(f"n{number}") for number in range(13)]
"""More than a page, which has 10."""


def visit(url: str, user: str, har: Path, *, only: re.Pattern[str] | None = None) -> None:
    """Log in, open the inbox and its second page, save a message, delete it, log out."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            record_har_path=har, record_har_content="embed", record_har_url_filter=only,
            accept_downloads=True,
        )  # fmt: skip
        page = context.new_page()
        page.goto(url)
        page.fill("[name=_user]", user)
        page.fill("[name=_pass]", PASSWORD)
        page.click("#rcmloginsubmit")
        page.wait_for_selector("#messagelist tr.message")
        with page.expect_response(lambda answer: "_page=2" in answer.url):
            page.click("a.nextpage:not(.disabled)")
        page.wait_for_function("rcmail.env.current_page == 2 && !rcmail.busy")
        with page.expect_response(lambda answer: "_page=1" in answer.url):
            page.click("a.firstpage:not(.disabled)")
        page.wait_for_function("rcmail.env.current_page == 1 && !rcmail.busy")
        with page.expect_response(lambda answer: "_action=preview" in answer.url):
            page.click("#messagelist tr.message >> nth=1")
        page.wait_for_function("!rcmail.busy")
        page.click("#messagemenulink")
        with page.expect_download():
            page.click("#message-menu a.download")
        page.keyboard.press("Escape")
        with page.expect_response(lambda answer: "_action=move" in answer.url):
            page.click("a.delete:not(.disabled) >> visible=true", timeout=5000)
        page.wait_for_function("!rcmail.busy")
        with page.expect_response(lambda answer: "_task=logout" in answer.url):
            page.click("#taskmenu a.logout")
        context.close()
        browser.close()


def main(har: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        with Dovecot(Path(home), imap=True) as dovecot, Roundcube(
            dovecot, settings={"mail_pagesize": "10"}
        ) as roundcube:  # fmt: skip
            account = RoundcubeAccount(roundcube, Path(home))
            account.deliver(*MAIL)
            account.deliver(message("old"), folder="Archive")
            visit(account.url, account.user, har, only=PAGES)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
