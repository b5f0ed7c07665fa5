"""Let pigeons rest before they try again."""

from mailflow import Options, Retry
from mailflow.options import Duration


class RestOptions(Options):
    after = Duration("How long a pigeon rests.", default=3600.0)


class RestReactor:
    """Tries again after a rest what may go better then."""

    options = RestOptions

    def __init__(self, options, runtime):
        self._options = options

    def react(self, trouble, context):
        if trouble.error.temporary:
            return Retry(self._options.after)
        return None  # the next reactor decides
