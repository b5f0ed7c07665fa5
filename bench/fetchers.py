"""The contenders that fetch: for each, its configuration and its command line.

Rule of the file: each is set up as its manual says for this job, without logging,
without added headers, to keep or to delete; a Maildir and a state of its own each time.
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


def mailflow(script: Path) -> Contender:
    def prepare(directory: Path, account: Account, delete: bool) -> Command:
        inbox = maildir(directory)
        word = secret(directory / "secret", account.password + "\n")
        leave = 'keep = "0d"\non_done = "delete"\n' if delete else ""
        pipeline = directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n'
            f'[[fetch]]\nuse = "pop3"\nhost = "127.0.0.1"\nport = {account.port}\ntls = "none"\n'
            f'user = "{account.user}"\npassword = {{ file = "{word}" }}\n{leave}\n'
            f'[[distribute]]\nuse = "maildir"\npath = "{inbox}"\n'
        )
        return Command([str(script), "run", str(pipeline)], directory)

    return Contender("mailflow", "ours", prepare, installed(script, "mailflow"))


def limit(*, known: int = 0, new: int = 0) -> Contender:
    """`known` messages are there already, and it asks for `new` ones with the log-in."""

    def prepare(directory: Path, account: Account, delete: bool) -> Command:
        inbox = maildir(directory)
        program = str(Path(__file__).with_name("limit.py"))
        ahead = (str(known), str(new)) if new else ()
        how = (account.user, account.password, str(inbox), "delete" if delete else "keep", *ahead)
        return Command([sys.executable, "-I", program, str(account.port), *how], directory)

    return Contender("the limit", "floor", prepare)


def mpop() -> Contender | None:
    program = shutil.which("mpop")
    if not program:
        return None

    def prepare(directory: Path, account: Account, delete: bool) -> Command:
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

    def prepare(directory: Path, account: Account, delete: bool) -> Command:
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

    def prepare(directory: Path, account: Account, delete: bool) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "getmailrc",
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\n"
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

    def prepare(directory: Path, account: Account, delete: bool) -> Command:
        inbox = maildir(directory)
        kept = "" if delete else f' new-only cache "{directory}/cache" keep'
        config = secret(
            directory / "fdm.conf",
            f'set no-received\nset lock-file "{directory}/lock"\n'
            f'account "x" pop3 server "127.0.0.1" port {account.port} '
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

    def prepare(directory: Path, account: Account, delete: bool) -> Command:
        inbox = maildir(directory)
        rules = secret(directory / "procmailrc", f"DEFAULT={inbox}/\nLOGFILE=/dev/null\n")
        config = secret(
            directory / "fetchmailrc",
            f"set no syslog\nset pidfile {directory}/pid\nset idfile {directory}/ids\n"
            f"set invisible\npoll 127.0.0.1 service {account.port} protocol pop3 uidl "
            f"user {account.user} password {account.password} sslproto '' "
            f'{"nokeep" if delete else "keep"} mda "{procmail} -m {rules}"\n',
        )
        return Command([program, "-f", str(config), "--silent"], directory)

    both = [
        version_in(output_of(p, flag)) for p, flag in ((program, "--version"), (procmail, "-v"))
    ]
    return Contender("fetchmail+procmail", "context", prepare, " + ".join(both))
