"""A webmail read by MechanicalSoup as its manual shows it: no program, a measure.

    python -I soup_alone.py URL USER PASSWORD MAILDIR

Rule of the file: what a script for Roundcube does that somebody writes in an evening: one
connection that is kept, one request after the other, each message flushed when it is here.
"""

import json
import os
import re
import sys
from urllib.parse import urlencode

import mechanicalsoup


def main() -> None:
    url, user, password, maildir = sys.argv[1:]
    browser = mechanicalsoup.StatefulBrowser(raise_on_404=True)
    browser.open(f"{url}?_task=login")
    browser.select_form('form:has(input[name="_pass"])')
    browser["_user"], browser["_pass"] = user, password
    token = re.search(r'"request_token":"([^"]+)"', browser.submit_selected().text)
    if token is None:
        raise SystemExit("not logged in")
    directory = os.open(f"{maildir}/new", os.O_RDONLY)
    for uid in reversed(listed(browser, url)):
        query = {"_task": "mail", "_action": "viewsource", "_mbox": "INBOX", "_uid": uid}
        query |= {"_save": "1", "_token": token[1]}
        answer = browser.session.get(f"{url}?{urlencode(query)}")
        if not answer.headers["Content-Disposition"].startswith("attachment"):
            raise SystemExit(f"no source of {uid}")
        temporary = f"{maildir}/tmp/{uid}.soup"
        with open(temporary, "xb") as file:
            file.write(answer.content.replace(b"\r\n", b"\n"))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, f"{maildir}/new/{uid}.soup")
    os.fsync(directory)
    browser.session.get(f"{url}?{urlencode({'_task': 'logout', '_token': token[1]})}")


def listed(browser: mechanicalsoup.StatefulBrowser, url: str) -> list[str]:
    """The numbers of all messages, over all pages, the newest first."""
    found: list[str] = []
    page, pages = 1, 1
    while page <= pages:
        query = {"_task": "mail", "_action": "list", "_mbox": "INBOX", "_page": page}
        answer = browser.session.get(f"{url}?{urlencode(query | {'_remote': '1'})}")
        said = json.loads(answer.text)
        found += re.findall(r"(?m)^this\.add_message_row\((\d+),", said["exec"])
        page, pages = page + 1, said["env"]["pagecount"]
    return found


if __name__ == "__main__":
    main()
