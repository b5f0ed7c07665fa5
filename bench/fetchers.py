"""The contenders that fetch: for each, its configuration and its command line.

Rule of the file: each is set up as its manual says for this job, without logging,
without added headers, to keep or to delete; a Maildir and a state of its own each time.
Over IMAP the mail stays, and is not marked as seen by who can leave that.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.mailbox import Account
from bench.measure import Command
from bench.row import Contender


def maildir(directory: Path) -> Path:
    """A new Maildir, where each contender delivers."""
    path = directory / "Maildir"
    for folder in ("", "tmp", "new", "cur"):
        (path / folder).mkdir(mode=0o700, parents=True)
    return path


def secret(path: Path, text: str) -> Path:
    """A file that nobody else may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def output_of(*argv: str) -> str:
    """What a program says of itself; "" if it cannot be started."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=20, errors="replace", check=False
        )
    except OSError:
        return ""
    return done.stdout + done.stderr


def version_in(text: str) -> str:
    found = re.search(r"\d+(\.\w+)+|\d{8}[\w.]*", text)
    return found.group() if found else "?"


def installed(script: Path, distribution: str) -> str:
    """The version of a distribution in the virtual environment of `script`."""
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return version_in(output_of(str(script.with_name("python")), "-I", "-c", code))


def someone(directory: Path) -> tuple[int, int] | None:
    """Whom to be where a program refuses to be root; `directory` becomes theirs."""
    if os.getuid():
        return None
    nobody = pwd.getpwnam("nobody")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid, nobody.pw_gid


def mailflow(script: Path, *, start: str = "") -> Contender:
    """`start` is what a pipeline says of the mail of a first visit."""

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        word = secret(directory / "secret", account.password + "\n")
        more = f'start = "{start}"\n' if start else ""
        more += 'keep = "0d"\non_done = "delete"\n' if delete else ""
        pipeline = directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n'
            f'[[fetch]]\nuse = "{account.protocol}"\n{_where(account)}'
            f'user = "{account.user}"\npassword = {{ file = "{word}" }}\n{more}\n'
            f'[[distribute]]\nuse = "maildir"\npath = "{inbox}"\n'
        )
        return Command([str(script), "run", str(pipeline)], directory)

    return Contender("mailflow", "ours", prepare, installed(script, "mailflow"))


def _where(account: Account) -> str:
    if account.protocol == "webmail":
        return f'site = "roundcube"\nurl = "http://127.0.0.1:{account.port}/"\n'
    return f'host = "127.0.0.1"\nport = {account.port}\ntls = "none"\n'


def limit(*, known: int = 0, new: int = 0) -> Contender:
    """`known` messages are there already, and it asks for `new` ones with the log-in."""

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        program = str(Path(__file__).with_name("limit.py"))
        how = [account.protocol, str(account.port), account.user, account.password, str(inbox)]
        if account.protocol == "pop3":
            how.append("delete" if delete else "keep")
        if new:
            how += [str(known), str(new)]
        return Command([sys.executable, "-I", program, *how], directory)

    return Contender("the limit", "floor", prepare)


def mpop() -> Contender | None:
    program = shutil.which("mpop")
    if not program:
        return None

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "mpoprc",
            f"account default\nhost 127.0.0.1\nport {account.port}\ntls off\nauth user\n"
            f"user {account.user}\npassword {account.password}\n"
            f"keep {'off' if delete else 'on'}\nreceived_header off\n"
            f"uidls_file {directory}/uidls\ndelivery maildir {inbox}\n",
        )
        return Command([program, "-Q", "-C", str(config)], directory)

    return Contender("mpop", "gauge", prepare, version_in(output_of(program, "--version")))


def cs_pop3(program: Path) -> Contender | None:
    if not program.exists():
        return None

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        who = f"{account.user}@127.0.0.1:{account.port}"
        secret(directory / ".netrc", f"machine {who}\n password {account.password}\n")
        keep = [] if delete else ["-n"]
        return Command([str(program), *keep, "dl", f"tcp:{who}", str(inbox)], directory)

    return Contender("cs.pop3", "gauge", prepare, installed(program, "cs.pop3"))


def getmail6() -> Contender | None:
    program = shutil.which("getmail")
    if not program:
        return None

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        peek = "use_peek = true\n" if account.protocol == "imap" else ""
        config = secret(
            directory / "getmailrc",
            f"[retriever]\ntype = Simple{account.protocol.upper()}Retriever\n{peek}"
            "server = 127.0.0.1\n"
            f"port = {account.port}\nusername = {account.user}\npassword = {account.password}\n"
            f"[destination]\ntype = Maildir\npath = {inbox}/\n"
            "[options]\nverbose = 0\nread_all = false\ndelivered_to = false\nreceived = false\n"
            f"delete = {str(delete).lower()}\n",
        )
        argv = [program, "--getmaildir", str(directory), "--rcfile", str(config)]
        return Command(argv, directory, user=someone(directory))

    return Contender("getmail6", "context", prepare, version_in(output_of(program, "--version")))


def fdm() -> Contender | None:
    program = shutil.which("fdm")
    if not program:
        return None

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        noted = f'new-only cache "{directory}/cache" ' if account.protocol == "pop3" else ""
        kept = "" if delete else f" {noted}keep"
        config = secret(
            directory / "fdm.conf",
            f'set no-received\nset lock-file "{directory}/lock"\n'
            f'account "x" {account.protocol} server "127.0.0.1" port {account.port} '
            f'user "{account.user}" pass "{account.password}"{kept}\n'
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

    def prepare(directory: Path, account: Account, delete: bool = False) -> Command:
        inbox = maildir(directory)
        how = {"pop3": "pop3 uidl", "imap": "imap auth password"}[account.protocol]
        every = "" if account.protocol == "pop3" else "fetchall "
        rules = secret(directory / "procmailrc", f"DEFAULT={inbox}/\nLOGFILE=/dev/null\n")
        config = secret(
            directory / "fetchmailrc",
            f"set no syslog\nset pidfile {directory}/pid\nset idfile {directory}/ids\n"
            f"set invisible\npoll 127.0.0.1 service {account.port} protocol {how} "
            f"user {account.user} password {account.password} sslproto '' "
            f'{every}{"nokeep" if delete else "keep"} mda "{procmail} -m {rules}"\n',
        )
        return Command([program, "-f", str(config), "--silent"], directory)

    both = [
        version_in(output_of(p, flag)) for p, flag in ((program, "--version"), (procmail, "-v"))
    ]
    return Contender("fetchmail+procmail", "context", prepare, " + ".join(both))


def mbsync(*, durable: bool = True) -> Contender | None:
    """IMAP alone. Durable as it comes: FSync is its default."""
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
    """IMAP alone, by the interpreter that mailflow is installed for."""

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        program = str(Path(__file__).with_name("imapclient_alone.py"))
        how = (str(account.port), account.user, account.password, str(inbox))
        return Command([str(python), "-I", program, *how], directory)

    return Contender("imapclient alone", "gauge", prepare, installed(python, "imapclient"))


def soup(python: Path) -> Contender:
    """Webmail alone, by the interpreter that mailflow is installed for."""

    def prepare(directory: Path, account: Account) -> Command:
        inbox = maildir(directory)
        program = str(Path(__file__).with_name("soup_alone.py"))
        url = f"http://127.0.0.1:{account.port}/"
        how = (url, account.user, account.password, str(inbox))
        return Command([str(python), "-I", program, *how], directory)

    return Contender("MechanicalSoup alone", "gauge", prepare, installed(python, "mechanicalsoup"))


def offlineimap() -> Contender | None:
    """IMAP alone."""
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
