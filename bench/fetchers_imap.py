"""The contenders that fetch over IMAP: for each, its configuration and its command line.

Rule of the file: as in bench/fetchers.py; the mail stays on the server, and no message is
marked as seen there by who can leave that.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bench.fetchers import installed, maildir, output_of, secret, someone, version_in
from bench.mailbox import Account
from bench.measure import Command
from bench.row import Contender


def mailflow(script: Path, *, start: str = "") -> Contender:
    """`start` is what a pipeline says of the mail of a first visit."""

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        word = secret(directory / "secret", account.password + "\n")
        begin = f'start = "{start}"\n' if start else ""
        pipeline = directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n'
            f'[[fetch]]\nuse = "imap"\nhost = "127.0.0.1"\nport = {account.port}\n'
            f'tls = "none"\nuser = "{account.user}"\npassword = {{ file = "{word}" }}\n{begin}\n'
            f'[[distribute]]\nuse = "maildir"\npath = "{inbox}"\n'
        )
        return Command([str(script), "run", str(pipeline)], directory)

    return Contender("mailflow", "ours", prepare, installed(script, "mailflow"))


def limit() -> Contender:
    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        program = str(Path(__file__).with_name("limit_imap.py"))
        how = (str(account.port), account.user, account.password, str(inbox))
        return Command([sys.executable, "-I", program, *how], directory)

    return Contender("the limit", "floor", prepare)


def mbsync(*, durable: bool = True) -> Contender | None:
    """Durable as it comes: FSync is its default."""
    program = shutil.which("mbsync")
    if not program:
        return None

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "mbsyncrc",
            f"FSync {'yes' if durable else 'no'}\n\n"
            f"IMAPAccount bench\nHost 127.0.0.1\nPort {account.port}\nUser {account.user}\n"
            f"Pass {account.password}\nSSLType None\nAuthMechs LOGIN\n\n"
            "IMAPStore far\nAccount bench\n\n"
            f"MaildirStore near\nPath {directory}/\nInbox {inbox}\n\n"
            f"Channel bench\nFar :far:\nNear :near:\nSync PullNew\nSyncState {directory}/state/\n",
        )
        (directory / "state").mkdir()
        return Command([program, "-q", "-c", str(config), "bench"], directory)

    return Contender("mbsync", "gauge", prepare, version_in(output_of(program, "--version")))


def imapclient(python: Path) -> Contender:
    """By the interpreter that mailflow is installed for."""

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        program = str(Path(__file__).with_name("imapclient_alone.py"))
        how = (str(account.port), account.user, account.password, str(inbox))
        return Command([str(python), "-I", program, *how], directory)

    return Contender("imapclient alone", "gauge", prepare, installed(python, "imapclient"))


def getmail6() -> Contender | None:
    program = shutil.which("getmail")
    if not program:
        return None

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "getmailrc",
            "[retriever]\ntype = SimpleIMAPRetriever\nserver = 127.0.0.1\nuse_peek = true\n"
            f"port = {account.port}\nusername = {account.user}\npassword = {account.password}\n"
            f"[destination]\ntype = Maildir\npath = {inbox}/\n"
            "[options]\nverbose = 0\nread_all = false\ndelivered_to = false\nreceived = false\n",
        )
        argv = [program, "--getmaildir", str(directory), "--rcfile", str(config)]
        return Command(argv, directory, user=someone(directory))

    return Contender("getmail6", "context", prepare, version_in(output_of(program, "--version")))


def fdm() -> Contender | None:
    program = shutil.which("fdm")
    if not program:
        return None

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "fdm.conf",
            f'set no-received\nset lock-file "{directory}/lock"\n'
            f'account "x" imap server "127.0.0.1" port {account.port} '
            f'user "{account.user}" pass "{account.password}" keep\n'
            f'action "m" maildir "{inbox}"\nmatch all action "m"\n',
        )
        argv = [program, "-q", "-f", str(config), "fetch"]
        return Command(argv, directory, user=someone(directory))

    found = output_of("dpkg-query", "-W", "-f", "${Version}", "fdm")
    return Contender("fdm", "context", prepare, version_in(found))


def fetchmail() -> Contender | None:
    program, procmail = shutil.which("fetchmail"), shutil.which("procmail")
    if not program or not procmail:
        return None

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        rules = secret(directory / "procmailrc", f"DEFAULT={inbox}/\nLOGFILE=/dev/null\n")
        config = secret(
            directory / "fetchmailrc",
            f"set no syslog\nset pidfile {directory}/pid\nset idfile {directory}/ids\n"
            f"set invisible\npoll 127.0.0.1 service {account.port} protocol imap auth password "
            f"user {account.user} password {account.password} sslproto '' "
            f'fetchall keep mda "{procmail} -m {rules}"\n',
        )
        return Command([program, "-f", str(config), "--silent"], directory)

    both = [
        version_in(output_of(p, flag)) for p, flag in ((program, "--version"), (procmail, "-v"))
    ]
    return Contender("fetchmail+procmail", "context", prepare, " + ".join(both))


def offlineimap() -> Contender | None:
    program = shutil.which("offlineimap")
    if not program:
        return None

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "offlineimaprc",
            f"[general]\naccounts = bench\nmetadata = {directory}/metadata\nfsync = yes\n"
            "ui = quiet\n"
            "[Account bench]\nlocalrepository = near\nremoterepository = far\n"
            f"[Repository near]\ntype = Maildir\nlocalfolders = {inbox.parent}\n"
            "nametrans = lambda name: 'INBOX' if name == 'Maildir' else name\n"
            "folderfilter = lambda name: name == 'Maildir'\n"
            "[Repository far]\ntype = IMAP\nremotehost = 127.0.0.1\nssl = no\nstarttls = no\n"
            f"remoteport = {account.port}\nremoteuser = {account.user}\n"
            f"remotepass = {account.password}\nreadonly = yes\nauth_mechanisms = LOGIN\n"
            "nametrans = lambda name: 'Maildir' if name == 'INBOX' else name\n"
            "folderfilter = lambda name: name == 'INBOX'\n",
        )
        return Command([program, "-c", str(config), "-o", "-u", "quiet"], directory)

    return Contender("offlineimap", "context", prepare, version_in(output_of(program, "--version")))
