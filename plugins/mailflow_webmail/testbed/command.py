"""`mailflow testbed webmail MBOX`: the test bed alone, without a file.

Rule of the file: it says what a [[serve]] table would say, and hands that on.
"""

from __future__ import annotations

import click

from mailflow_webmail.testbed.pages import WORDS
from mailflow_webmail.testbed.troubles import KNOWN, read

TROUBLES = "\n".join(["\b", *(f"  {name:15}  {each.what}" for name, each in KNOWN.items())])


@click.command(
    name="webmail", short_help="A webmail that reads an mbox.",
    epilog=f"The troubles:\n\n{TROUBLES}",
)  # fmt: skip
@click.argument("mbox", metavar="MBOX", type=click.Path(exists=True))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8025, show_default=True, metavar="PORT",
    help="The port; 0 takes one that is free.",
)  # fmt: skip
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="The address it listens on.",
)
@click.option("--anywhere", is_flag=True, help="Let --address be one that other machines reach.")
@click.option(
    "--folder",
    "folders",
    multiple=True,
    metavar="NAME=MBOX",
    help="One more folder; may be repeated.",
)
@click.option("--user", default="demo", show_default=True, metavar="NAME", help="The login name.")
@click.option(
    "--password", default="demo", show_default=True, metavar="TEXT",
    help="The password, which whoever lists processes can see.",
)  # fmt: skip
@click.option(
    "--page-size", type=click.IntRange(1), default=20, show_default=True, metavar="N",
    help="N messages on a page.",
)  # fmt: skip
@click.option("--json-lists", is_flag=True, help="Lists are JSON and no pages (testbed-json).")
@click.option(
    "--language", type=click.Choice(list(WORDS)), default="en", show_default=True,
    help="Which language the pages are in.",
)  # fmt: skip
@click.option("--outgoing", metavar="MBOX", help="An mbox file that gets what is sent, too.")
@click.option(
    "--trouble", "troubles", multiple=True, metavar="NAME[:after=N,...]",
    help="What goes wrong: one of those below, behind it after=N (so many requests go well"
    " first), times=N (it ends after so many), seconds=N, at=STEP; may be repeated.",
)  # fmt: skip
def webmail(
    mbox: str, port: int, address: str, anywhere: bool, folders: tuple[str, ...], user: str,
    password: str, page_size: int, json_lists: bool, language: str, outgoing: str | None,
    troubles: tuple[str, ...],
) -> int:  # fmt: skip
    """Serve MBOX as a webmail until a signal ends it, to try mailflow with.

    MBOX is an mbox file, which becomes the inbox, or a directory with one for each folder. It is
    never changed: what is deleted there is noted in MBOX.del, one UIDL on a line; what is sent or
    moved to the trash goes into files beside it. The site to read it with is `testbed`. It
    listens on this machine alone, and knows no TLS. The same is to be had under `mailflow serve`
    as `[[serve]] use = "webmail.testbed"`.
    """
    from mailflow import log
    from mailflow.net import is_loopback
    from mailflow.running import serve

    more = {}
    for each in folders:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise click.BadParameter("expected NAME=MBOX", param_hint="--folder")
        more[name] = path
    for each in troubles:
        try:
            read(each)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--trouble") from None
    if not (anywhere or is_loopback(address)):
        text = f"{address}: other machines would reach it; --anywhere allows that"
        raise click.BadParameter(text, param_hint="--address")
    host = f"[{address}]" if ":" in address else address
    table: dict[str, object] = {
        "use": "webmail.testbed", "path": mbox, "folders": more, "listen": [f"{host}:{port}"],
        "anywhere": anywhere, "user": user, "password": password, "page_size": page_size,
        "json_lists": json_lists, "language": language, "troubles": list(troubles),
    }  # fmt: skip
    if outgoing is not None:
        table["outgoing"] = outgoing
    log.configure(level="info")
    return serve({"pipeline": {"name": "testbed"}, "serve": [table]})
