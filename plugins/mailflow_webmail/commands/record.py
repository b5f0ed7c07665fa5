"""`mailflow webmail record FILE.har`: a draft of a definition, from what a browser has recorded.

Rule of the file: nothing is asked of any webmail; what is written holds nothing secret.
"""

from __future__ import annotations

import click

from mailflow.tables import say
from mailflow_webmail.recorded.draft import Draft
from mailflow_webmail.recorded.har import exchanges
from mailflow_webmail.recorded.visit import understood


@click.command(name="record", short_help="Draft a definition from what a browser has recorded.")
@click.argument("har", metavar="FILE.har", type=click.Path(exists=True, dir_okay=False))
def record(har: str) -> int:
    """Print a draft of a definition, from a HAR file that a browser has saved.

    In the browser, open the network tab of its developer tools and let it keep its log; log in,
    open a folder and its second page, show or save the source of a message, delete one, log out;
    then save all as HAR, with contents. The draft names what it has guessed, and is refused until
    you have confirmed that; `mailflow webmail check` helps. It holds no password, no cookie and no
    token; the file itself does, so keep it to yourself. Ends with 65 where something was not
    recorded, and says what.
    """
    draft = Draft(understood(exchanges(har), har))
    click.echo(draft.toml(), nl=False)
    for name in draft.guesses:
        say(f"mailflow: a guess that you have to confirm: {name}", err=True)
    say(f"mailflow: its url is {draft.url}", err=True)
    return 0
