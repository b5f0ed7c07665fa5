"""How fast passwords may be tried: delays that grow with what fails."""

from __future__ import annotations

from mailflow.record import NamedTuple


class Pace(NamedTuple):
    """The answer to a failure is kept back `first` seconds, doubled with each further one up
    to `most`; half of the failures are forgotten after `forget` seconds.

    An address may have `address` answers kept back at a time, an account `account` of them
    to addresses that nobody logged in to it from; what comes then is refused unread.
    """

    first: float = 0.5
    most: float = 15.0
    forget: float = 300.0
    address: int = 20
    account: int = 50
