"""No more threads may be started (RLIMIT_NPROC, a full cgroup): it goes on with fewer, or
ends and says so; it never waits for one that does not run."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mailflow.engine.flow import as_error
from mailflow.errors import UnavailableError
from mailflow.kinds import Ticket
from mailflow.mail import Mail

from .parts import Mailbox, Post, Works, distribute, fetch, message

Limit = Callable[..., None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Lets no thread with one of these names start, after so many that did."""

    def limit(*names: str, after: int = 0) -> None:
        start, left = threading.Thread.start, [after]

        def started(thread: threading.Thread) -> None:
            if thread.name in names:
                if not left[0]:
                    raise RuntimeError("can't start new thread")
                left[0] -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", started)

    return limit


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["one", "two", "red/post"])
def test_the_run_ends_and_the_next_one_does_its_work(
    works: Works, refuse: Limit, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    post = Post()
    sources = [fetch(Mailbox("one", a=message("m0")), "one"),
               fetch(Mailbox("two", b=message("m1")), "two")]  # fmt: skip
    pipeline = works.pipeline(sources, [distribute(post)])
    with monkeypatch.context():
        refuse(name)
        assert works.run(pipeline) == UnavailableError.exit_code
    monkeypatch.undo()
    works.run(pipeline, force=True)
    assert sorted(post.subjects) == ["m0", "m1"]
    assert works.waits() == []


@pytest.mark.timeout(30)
def test_fewer_threads_deliver_what_more_would_have(works: Works, refuse: Limit) -> None:
    refuse("red/post", after=1)
    post = Post()
    box = Mailbox(**{f"k{number}": message(f"m{number}") for number in range(5)})
    assert works.run(works.pipeline([fetch(box)], [distribute(post, parallel=4)])) == 0
    assert len(post.sent) == 5


@pytest.mark.timeout(30)
def test_pipelines_without_a_thread_of_their_own_run_one_after_the_other(
    works: Works, refuse: Limit
) -> None:
    refuse("blue", "green")
    post = Post()
    pipelines = [
        works.pipeline([fetch(Mailbox(name, k=message(name)))], [distribute(post)], name=name)
        for name in ("red", "blue", "green")
    ]
    assert works.run(*pipelines) == 0
    assert sorted(post.subjects) == ["blue", "green", "red"]


def test_a_plugin_that_gets_no_thread_may_get_one_later(works: Works) -> None:
    """As any other want of the machine; as the plugin's fault, the mail would be held."""
    post = Post()

    def fail(mail: Mail, ticket: Ticket) -> list[object]:
        raise RuntimeError("can't start new thread")

    post.act = fail  # type: ignore[assignment]
    works.run(works.pipeline([fetch(Mailbox(k0=message()))], [distribute(post)]))
    assert [entry.state for entry in works.waits()] == ["due"]
    assert as_error(RuntimeError("can't start new thread"), "step x").temporary
