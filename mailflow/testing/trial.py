"""One pipeline of a document or of pipelines/, run against example.org.

    Trial(org, home, text, "red.toml").problems()      # [] where it does what it says

Rule of the file: what a pipeline must do is read from its own TOML: every mail put in
at each source is found, once and with its body unchanged, at each destination.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailflow.testing.example_org import BODY, MEMBERS, PASSWORD, USERS, ExampleOrg, post

if TYPE_CHECKING:
    from mailflow.testing.smtp import SmtpSink
    from mailflow.testing.webmail import TestBed

COMMAND = os.path.join(os.path.dirname(sys.executable), "mailflow")

SOURCE = '[[fetch]]\nuse = "stdin"\n\n'
TESTBED = "webmail.testbed"
SERVICE = '\n[[serve]]\nuse = "pop3"\nlisten = ["127.0.0.1:1110"]\n'
MAILDROP = '\n[maildrop.ann]\nuse = "spool"\nsecret = { file = "~/.config/mailflow/ann.pop3" }\n'
DESTINATION = '\n[[distribute]]\nuse = "maildir"\npath = "~/Maildir"\n'

SCRIPTS = {
    "process": "#!/bin/sh\necho 'X-Class: good'; exec cat\n",
    "distribute": '#!/bin/sh\nexec cat > "$HOME/delivered.$$"\n',
    "react": "#!/bin/sh\nexec cat > /dev/null\n",
}
"""What a program in the user's home does, by the table of the step that names it."""


def whole(text: str) -> str:
    """A pipeline of a fragment: what it lacks is stdin as source, a Maildir as destination,
    or, where it serves mail, a service or a maildrop."""
    import tomli

    data = tomli.loads(text)
    if any(step["use"] == TESTBED for step in data.get("serve", ())):
        return text
    if "serve" in data or "maildrop" in data:
        after = "" if "maildrop" in data else MAILDROP
        return f"{text}{after}" if "serve" in data else f"{text}{after}{SERVICE}"
    before = "" if "fetch" in data else SOURCE
    after = "" if "distribute" in data else DESTINATION
    return f"{before}{text}{after}"


class Trial:
    """Writes the pipeline into `home` as it stands, checks it, and runs it rewritten."""

    def __init__(self, org: ExampleOrg, home: Path, text: str, name: str = "trial.toml") -> None:
        import tomli

        self.org = org
        self.home = home
        self.text = whole(text)
        self.data: Mapping[str, Any] = tomli.loads(self.text)
        self.file = home / name
        self.posts: list[bytes] = []

    def problems(self) -> list[str]:
        """What it does not do as it says; one line or more for each."""
        self.org.furnish(self.home, self.text)
        if "maildrop" in self.data:
            self._add_maildrops()
        for step in self._steps("fetch"):
            if step["use"] == "mbox":
                self._path(step).parent.mkdir(parents=True, exist_ok=True)
            if step["use"] == "maildir":
                for folder in ("tmp", "new", "cur"):
                    (self._path(step) / folder).mkdir(parents=True)
        for kind, script in SCRIPTS.items():
            for step in self._steps(kind):
                self._furnish_program(step.get("command"), script)
        self._log_in()
        self.file.write_text(self.text)
        found = self._complaints("check", self.file)
        self.file.write_text(self.org.rewrite(self.text))
        for step in self._steps("fetch"):
            found += self._fetched(step)
        for step in self._steps("distribute"):
            found += self._arrived(step)
        return found + list(self._served())

    def _log_in(self) -> None:
        """Whoever needs a token has one."""
        drops = self.data.get("maildrop", {}).values()
        for table in (*self._steps("fetch"), *self._steps("distribute"), *drops):
            if isinstance(said := table.get("oauth2"), dict):
                self.org.log_in(self.home, said["provider"], table["user"], said["client_id"])

    def _add_maildrops(self) -> None:
        """What `mailflow maildrop add` keeps."""
        path = self.home / ".config" / "mailflow" / "maildrops"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in USERS))
        path.chmod(0o600)

    def _furnish_program(self, command: object, script: str) -> None:
        """The program that a step names in the user's home."""
        name = command[0] if isinstance(command, list) and command else ""
        if name.startswith("~/"):
            path = Path(name.replace("~", str(self.home), 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script)
            path.chmod(0o700)

    def _steps(self, kind: str) -> list[dict[str, Any]]:
        """The steps of a kind, each with what its account says."""
        accounts = self.data.get("account", {})
        steps = self.data.get(kind, [])
        return [{**accounts.get(step.get("account"), {}), **step} for step in steps]

    @property
    def _addresses(self) -> list[str]:
        """Where posts are sent: the lists of the pipeline, or somebody."""
        steps = self.data.get("process", [])
        tables = [table for step in steps for table in (step, *step.get("list", []))]
        named = [table["address"] for table in tables if "address" in table]
        return [each.rpartition("<")[2].rstrip(">") for each in named] or ["ann@example.org"]

    def _fetched(self, step: Mapping[str, Any]) -> list[str]:
        """Put a mail for each address in at this source, and let it be taken."""
        name = step.get("name", step["use"])
        posts = [post(address, f"By {name}") for address in self._addresses]
        self.posts += posts
        if step["use"] == "stdin":
            handed = zip(self._addresses, posts, strict=True)
            said = (self._complaints("hook", self.file, to, octets=each) for to, each in handed)
            return [line for lines in said for line in lines]
        found = self._complaints("run", self.file) if step.get("start") == "new" else []
        for each in posts:
            self._put(step, each)
        found += self._complaints("run", self.file)
        kept = self._left(step)
        gone = step.get("keep") == "0d" and step.get("on_done") not in ("keep", "seen", "flag")
        wanted = 0 if gone else len(posts)
        if kept != wanted:
            found.append(f"{name}: {kept} messages are left at the source, not {wanted}")
        return found + self._complaints("run", self.file)

    def _put(self, step: Mapping[str, Any], message: bytes) -> None:
        """Let a message arrive at a mailbox."""
        if step["use"] == "maildir":
            name = f"{len(self.posts)}.{hash(message)}"
            (self._path(step) / "new" / name).write_bytes(message.replace(b"\r\n", b"\n"))
        elif step["use"] == "mbox":
            self._path(step).parent.mkdir(parents=True, exist_ok=True)
            line = b"From ann@example.org Thu Jan  1 12:00:00 2026\n"
            with self._path(step).open("ab") as file:
                file.write(line + message.replace(b"\r\n", b"\n") + b"\n\n")
        elif step["use"] == "imap":
            self.org.imap.deliver(_user(step), message, folder=_folder(step))
        elif step["use"] == "webmail":
            self._webmail(step).put(_folder(step), message)
        else:
            self.org.pop3.deliver(step["user"], message)

    def _left(self, step: Mapping[str, Any]) -> int:
        """How many messages are in the mailbox."""
        if step["use"] == "maildir":
            return len([*self._path(step).glob("new/*"), *self._path(step).glob("cur/*")])
        if step["use"] == "mbox":
            return len(_in_mbox(self._path(step).read_bytes()))
        if step["use"] == "imap":
            return len(self.org.imap.messages(_user(step), _folder(step)))
        if step["use"] == "webmail":
            return len(self._webmail(step).messages(_folder(step)))
        return len(self.org.pop3.messages(step["user"]))

    def _webmail(self, step: Mapping[str, Any]) -> TestBed:
        if "//127." in step["url"]:
            return self.org.testbed(self.org.rewrite(f'url = "{step["url"]}"').split('"')[1])
        self.org.webmail.set(user=step["user"])
        return self.org.webmail

    def _path(self, step: Mapping[str, Any]) -> Path:
        return Path(step["path"].replace("~", str(self.home), 1))

    def _arrived(self, step: Mapping[str, Any]) -> list[str]:
        """Whether each mail is there, once."""
        if step["use"] == "smtp":
            sink = self.org.relay if step["host"] == "localhost" else self.org.smtp
            return list(self._sent(sink))
        if step["use"] == "webmail":
            return list(self._written(self._webmail(step).messages("Sent")))
        name, wanted = step.get("name", step["use"]), len(self.posts)
        if step["use"] == "spool":
            drop = step["drop"].replace("{recipient}", self._addresses[0])
            target = self.home / f"exported-{drop}"
            if said := self._complaints("spool", "export", drop, target):
                return said
            found = [path.read_bytes() for path in target.rglob("new/*")]
        elif step["use"] == "mbox":
            found = _in_mbox(self._path(step).read_bytes())
        elif step["use"] == "command":
            found = [path.read_bytes() for path in self.home.glob("delivered.*")]
        else:
            found = [path.read_bytes() for path in self._path(step).rglob("new/*")]
        bodies = [_body(octets.replace(b"\n", b"\r\n")) for octets in found]
        if bodies != [BODY] * wanted:
            return [f"{name}: not {wanted} messages with their body: {bodies}"]
        return []

    def _written(self, sent: list[bytes]) -> Iterator[str]:
        """Whether each mail was written in the form of a webmail, for those who should get it."""
        from email import message_from_bytes
        from email.policy import default

        from mailflow.addresses import addresses

        found = [message_from_bytes(octets, policy=default) for octets in sent]
        bodies = ["\r\n".join(str(each.get_content()).splitlines()).encode() for each in found]
        if bodies != [BODY] * len(self.posts):
            yield f"not {len(self.posts)} messages with their body were sent: {sent}"
        listed = any("list" in step["use"] for step in self.data.get("process", []))
        wanted = {MEMBERS} if listed else {(address,) for address in self._addresses}
        for each in found:
            named = [str(each[name]) for name in ("To", "Cc", "Bcc") if name in each]
            if tuple(addresses(", ".join(named)).found) not in wanted:
                yield f"not to {wanted}: {named}"

    def _served(self) -> Iterator[str]:
        """Whether each drop can be logged in at, and holds what it should."""
        from mailflow.testing.serving import Serving

        steps = self._steps("serve")
        if not any(_ports(step) for step in steps):
            return
        drops = self.data.get("maildrop", {})
        for name, drop in drops.items():
            if drop["use"] == "maildir":
                self._fill(drop, name.replace("*", "ann"))
            elif drop["use"] == "imap":
                user = _user({"user": name.replace("*", "ann"), **drop})
                self.org.imap.deliver(user, post(f"{user}@example.org"), folder=_folder(drop))
            elif drop["use"] == "webmail":
                self._show(drop)
        environment = {**self._environment, "SSL_CERT_FILE": self.org.ca_file}
        with Serving(self.file, environ=environment) as serving:
            for step in steps:
                for port in map(self.org.port, _ports(step)):
                    if step["use"] == TESTBED:
                        yield from _looked_at(port)
                    for name, drop in drops.items():
                        yield from self._read(step, port, name, drop)
        if serving.said:
            yield f"mailflow serve says:\n{serving.said}"

    def _show(self, drop: Mapping[str, Any]) -> None:
        """A webmail as a maildrop's owner has it, with one message in it; it is that of all
        domains that may log in there."""
        bed = self.org.webmail
        if not bed.messages("INBOX"):
            bed.put("INBOX", post("ann@example.org"))
        if domains := drop.get("allow"):
            entry = f'site = "testbed"\nurl = "{bed.url}"\nuser = "{{user}}"\n'
            path = self.home / ".config" / "mailflow" / "domains.toml"
            path.write_text("".join(f'["{name}"]\n{entry}' for name in domains))

    def _read(
        self, step: Mapping[str, Any], port: int, name: str, drop: Mapping[str, Any]
    ) -> Iterator[str]:
        """A session of one drop; what is in it stays."""
        import poplib
        import ssl

        login, secret = name.replace("*", "ann"), drop.get("secret")
        login = f"{login}@{drop['allow'][0]}" if "allow" in drop else login
        way = step.get("tls") or ("implicit" if "certificate" in step else "none")
        context = ssl.create_default_context(cafile=self.org.ca_file)
        try:
            if way == "implicit":
                box: poplib.POP3 = poplib.POP3_SSL("localhost", port, timeout=10, context=context)
            else:
                box = poplib.POP3("localhost", port, timeout=10)
            if way == "starttls":
                box.stls(context)
            box.user(login)
            box.pass_(secret if isinstance(secret, str) else PASSWORD)
            found = [b"\r\n".join(box.retr(n + 1)[1]) for n in range(box.stat()[0])]
            box.quit()
        except (OSError, poplib.error_proto) as error:
            yield f"{login} cannot read his drop: {error!r}"
            return
        if drop["use"] in ("spool", "maildir", "imap", "webmail"):
            bodies = [_body(octets) for octets in found]
            wanted = [BODY] * (len(self.posts) if drop["use"] == "spool" else 1)
            if bodies != wanted:
                yield f"{login} reads {bodies}"

    def _fill(self, drop: Mapping[str, Any], login: str) -> None:
        """A Maildir as somebody has it, with a message in it."""
        where = drop["path"].replace("~", str(self.home), 1)
        path = Path(where.replace("{login}", login).replace("{user}", login.partition("@")[0]))
        for folder in ("tmp", "new", "cur"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        octets = post(f"{login}@example.org").replace(b"\r\n", b"\n")
        (path / "cur" / "1767268800.1.host:2,S").write_bytes(octets)

    def _sent(self, sink: SmtpSink) -> Iterator[str]:
        if [_body(each.data) for each in sink.messages] != [BODY] * len(self.posts):
            yield f"not {len(self.posts)} messages with their body were sent: {sink.messages}"
        wanted: set[tuple[str, ...]] = {(address,) for address in self._addresses}
        if any("list" in step["use"] for step in self.data.get("process", [])):
            wanted = {MEMBERS}
        if {each.recipients for each in sink.messages} != wanted:
            yield f"not to {wanted}: {sink.messages}"
        if sink.violations:
            yield f"against the protocol: {sink.violations}"

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": os.defpath,
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
        }

    def _complaints(self, *words: str | Path, octets: bytes = b"") -> list[str]:
        """Run `mailflow WORDS...`, which must succeed and say nothing on stderr."""
        done = subprocess.run(
            [COMMAND, *map(str, words)],
            input=octets,
            env=self._environment,
            cwd=self.home,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode or done.stderr:
            said = (done.stderr or done.stdout).decode(errors="replace")
            return [f"mailflow {' '.join(map(str, words))} exits {done.returncode}:\n{said}"]
        return []


def _looked_at(port: int) -> Iterator[str]:
    """Whether there is a form to log in with."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/login", timeout=10) as answer:
        if b'<form id="login"' not in answer.read():
            yield f"there is no webmail at port {port}"


def _user(step: Mapping[str, Any]) -> str:
    """Whose mailbox a table of an IMAP server names: the part before the "@" of `user`."""
    return str(step["user"]).partition("@")[0]


def _folder(step: Mapping[str, Any]) -> str:
    """One of the folders that it names, where a message can be put: of "Lists/*", Lists/any."""
    first = str(step.get("folders", ["INBOX"])[0])
    return re.sub("[*%]", "any", first).removeprefix("\\")


def _ports(step: Mapping[str, Any]) -> list[int]:
    """The TCP ports of a [[serve]], as its file says them."""
    default = "*:995" if "certificate" in step else "127.0.0.1:1110"
    found = (re.fullmatch(r"[^/]+:([0-9]+)", each) for each in step.get("listen", [default]))
    return [int(each[1]) for each in found if each]


def _in_mbox(octets: bytes) -> list[bytes]:
    """The messages of an mboxrd file, without the empty line below each."""
    parts = re.split(rb"^From .*\n", octets, flags=re.MULTILINE)[1:]
    return [re.sub(rb"^>(>*From )", rb"\1", part.removesuffix(b"\n"), flags=re.M) for part in parts]


def _body(data: bytes) -> bytes:
    """Without the end of line that POP3 and SMTP give to a last line that has none."""
    return data.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
