"""Runs the plugin's tests again and again, for copies of the plugin, and reads pytest once.

Rule of the file: each run is a child that was forked before anything of the plugin was
read, so that none meets what another has imported; one line of JSON asks for a run, and
one says what came of it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import pytest

import mailflow.testing.contracts.component as component
import mailflow.testing.contracts.service as service


def run(site: str, arguments: list[str]) -> int:
    """In the child. The plugin there is broken: what it never does is not waited for long."""
    service.SOON = component.PATIENCE = 2.0
    os.environ["PYTHONPATH"] = site  # of the programs that the tests start
    sys.path.insert(0, site)
    return pytest.main(["-q", "-p", "no:cacheprovider", *arguments])


def told(site: str, arguments: list[str]) -> tuple[int, str]:
    """The exit status of pytest, and what it has said."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            status = 70
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                status = run(site, arguments)
                sys.stdout.flush()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode("utf-8", "replace")


if __name__ == "__main__":
    for line in sys.stdin:
        where, *words = json.loads(line)
        print(json.dumps(told(where, words)), flush=True)
