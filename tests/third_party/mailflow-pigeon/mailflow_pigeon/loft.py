"""A loft: what its options are, and how to get in."""

import os
from hmac import compare_digest

from mailflow import LoginError, Options, UnavailableError
from mailflow.options import Path, Secret


class LoftOptions(Options):
    loft = Path("The directory in which the pigeons sit, a file for each message.")
    keeper = Secret.optional("The word that the keeper of the loft wants to hear first.")


def enter(options):
    """Raises UnavailableError where there is no loft, LoginError where its keeper says no."""
    if not os.path.isdir(options.loft):
        raise UnavailableError(f"there is no loft {options.loft}: make the directory")
    try:
        with open(os.path.join(options.loft, ".keeper"), encoding="utf-8") as file:
            wanted = file.readline().rstrip("\n")
    except FileNotFoundError:
        return
    said = options.keeper.reveal() if options.keeper else ""
    if not compare_digest(said.encode(), wanted.encode()):
        raise LoginError(f"the keeper of {options.loft} does not know us: set `keeper`")
