"""`mailflow pop3 serve`: a POP3 server in front of one back end, without a file.

Rule of the file: it says what a file would say, and hands that on; nothing is served that
could not be from a file.
"""

from __future__ import annotations

import click


@click.command(name="serve", short_help="Serve a back end to POP3 clients.")
@click.option(
    "-b", "--backend", required=True, metavar="URL",
    help="Where the mail is, such as imaps://imap.example.org or maildir:/home/{login}/Maildir.",
)  # fmt: skip
@click.option(
    "-l", "--listen", multiple=True, metavar="HOST:PORT",
    help="Where clients connect (127.0.0.1:1110); may be repeated.",
)  # fmt: skip
@click.option("--login", "names", default="*", metavar="GLOB", help="Who may log in (anybody).")
@click.option(
    "--passwords", metavar="FILE",
    help="Secrets by login name; by default those of `mailflow maildrop add`.",
)  # fmt: skip
@click.option("--certificate", metavar="FILE", help="A PEM file: TLS from the first octet.")
@click.option("--key", metavar="FILE", help="Its key, where that is not in the same file.")
@click.option("--stls", is_flag=True, help="TLS by STLS instead.")
@click.option("--user", metavar="USER", help="Become this user once it listens.")
@click.option("--pid-file", metavar="PATH", help="Keep the number of the process in this file.")
@click.option("-d", "--debug", is_flag=True, help="Log every command and answer, no passwords.")
@click.pass_context
def serve(
    ctx: click.Context, backend: str, listen: tuple[str, ...], names: str, passwords: str | None,
    certificate: str | None, key: str | None, stls: bool, user: str | None, pid_file: str | None,
    debug: bool,
) -> int:  # fmt: skip
    """Serve the mail behind a URL to POP3 clients until a signal ends it.

    Where the URL names a server and no password, the client's name and password are those
    of that server; else they are looked up in a file of secrets, where
    `mailflow maildrop add NAME` puts one. The same is to be had from a file, with more
    choices: `mailflow serve FILE`.
    """
    from mailflow import log
    from mailflow.running import serve as keep
    from mailflow.running import table_of

    if stls and certificate is None:
        raise click.UsageError("--stls needs a --certificate")
    if debug:
        log.configure(level="debug", json=bool(ctx.find_root().params.get("log_json")))
    drop = dict(table_of(backend, "maildrop"))
    if "host" in drop and "password" not in drop:
        if passwords is not None:
            raise click.UsageError(
                "--passwords is not asked: the server of --backend knows its users; one for all"
                " of them would be in its URL, such as ?password_file=PATH"
            )
        drop["login"] = "passthrough"
    elif passwords is not None:
        drop["passwords"] = passwords
    service: dict[str, object] = {"use": "pop3"}
    if listen:
        service["listen"] = [_address(each) for each in listen]
    if certificate is not None:
        service |= {"certificate": certificate, "tls": "starttls" if stls else "implicit"}
    if key is not None:
        service["key"] = key
    pipeline = {"pipeline": {"name": "pop3-serve"}, "maildrop": {names: drop}, "serve": [service]}
    return keep(pipeline, user=user, pid_file=pid_file)


def _address(text: str) -> str:
    """It, if it is one that can be listened at. Raises click.BadParameter."""
    from mailflow.listening import read

    try:
        read(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; found {text!r}", param_hint="--listen") from None
    return text
