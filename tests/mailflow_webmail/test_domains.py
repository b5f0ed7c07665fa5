"""A first log-in is read where the domain of the address says; no host is ever made of what a
stranger types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.errors import ConfigError, LoginError
from mailflow.kinds import Credentials
from mailflow.mail import read
from mailflow.testing.contracts.component import Stage
from mailflow.testing.documents import blocks
from mailflow.testing.webmail import PASSWORD, TestBed
from mailflow_webmail.domains import NAME, SHIPPED, domain
from mailflow_webmail.domains import read as read_map
from mailflow_webmail.live import WebmailDropOptions
from mailflow_webmail.maildrop import WebmailDrop

from .stages import end

ROOT = Path(__file__).parents[2]

SHOWN = "~/.config/mailflow/domains.toml"

ONE = b"Subject: one\r\n\r\none\r\n"
WHO = Credentials("demo@example.com", password=PASSWORD)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the user's map."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config" / "mailflow" / NAME

    def write(text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def bed() -> Iterator[TestBed]:
    with TestBed(["INBOX"]) as bed:
        bed.put("INBOX", ONE)
        yield bed


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(**options: object) -> Stage:
        stages.append(Stage(WebmailDrop, {"timeout": "10s", **options}, tmp_path))
        return stages[-1]

    yield make
    end(stages)


def entry(bed: TestBed, name: str = "example.com", user: str = "{user}") -> str:
    return f'["{name}"]\nsite = "testbed"\nurl = "{bed.url}"\nuser = "{user}"\n'


def test_pwm_11_a_first_log_in_is_read_where_its_domain_says(
    bed: TestBed, own: Callable[[str], Path], stage: Callable[..., Stage]
) -> None:
    own(entry(bed))
    drop = stage(allow=["Example.COM"]).make().login(WHO)
    assert [read(drop.read(item.key)) for item in drop.items()] == [ONE]
    drop.close()


@pytest.mark.parametrize(
    ("login", "allow"),
    [
        ("demo@example.com", ["example.net"]),
        ("demo@example.com.example.net", ["example.com"]),
        ("demo@sub.example.com", ["example.com"]),
        ("demo", ["example.com"]),
        ("example.com", ["example.com"]),
        ("demo@127.0.0.1", ["example.com"]),
        ("demo@", ["example.com"]),
    ],
)
def test_pwm_11_nobody_else_makes_this_machine_log_in_anywhere(
    bed: TestBed, own: Callable[[str], Path], stage: Callable[..., Stage],
    login: str, allow: list[str],
) -> None:  # fmt: skip
    """Though the map names the domain."""
    own(entry(bed) + entry(bed, "sub.example.com"))
    bed.forget()
    with pytest.raises(LoginError, match="no webmail is allowed"):
        stage(allow=allow).make().login(Credentials(login, password=PASSWORD))
    assert bed.requests == []


def test_pwm_11_without_allow_no_domain_is_looked_up() -> None:
    with pytest.raises(ConfigError, match="url: expected which webmail"):
        WebmailDropOptions.read({})


def test_two_domains_are_two_accounts(
    bed: TestBed, own: Callable[[str], Path], stage: Callable[..., Stage]
) -> None:
    """A session that is kept for one is not the other's."""
    own(entry(bed) + entry(bed, "example.net", "nobody"))
    maildrop = stage(allow=["example.com", "example.net"]).make()
    maildrop.login(WHO).close()
    with pytest.raises(LoginError):
        maildrop.login(Credentials("demo@example.net", password=PASSWORD))


def test_the_user_s_map_counts_before_ours_domain_by_domain(own: Callable[[str], Path]) -> None:
    own('["Example.org"]\nsite = "sqwebmail"\nurl = "https://other.example.org/"\n')
    mine, shipped = domain("example.ORG"), domain("example.net")
    assert mine is not None
    assert (mine.site, mine.url, mine.user) == (
        "sqwebmail", "https://other.example.org/", "{login}",
    )  # fmt: skip
    assert shipped is not None
    assert shipped.user == "{user}"
    assert domain("example.edu") is None


def test_the_map_that_is_shipped_is_sound() -> None:
    assert set(read_map(SHIPPED)) == {"example.org", "example.net"}
    options = WebmailDropOptions.read({"allow": list(read_map(SHIPPED))})
    assert list(options.look()) == []


def test_each_fault_of_a_map_is_told_with_its_line(own: Callable[[str], Path]) -> None:
    path = own(
        '["example.com"]\nsite = "roundcube"\nurl = "file:///etc/passwd"\n'
        '["example.net"]\nsite = "roundcube"\nurl = "https://x.example.net/"\nusr = "x"\n'
        '["example.edu"]\nsite = "roundcube"\n'
    )
    with pytest.raises(ConfigError) as caught:
        domain("example.com")
    lines = caught.value.text.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{path}:3: example.com.url: expected an address such as")
    assert lines[1].startswith(f"{path}:7: example.net.usr: unknown key; did you mean `user`?")
    assert lines[2].startswith(f"{path}:8: example.edu: `url` is missing")


def test_a_domain_that_nobody_has_placed_is_told_at_check(own: Callable[[str], Path]) -> None:
    path = own("")
    options = WebmailDropOptions.read({"allow": ["example.edu", "example.org"]})
    [(name, text)] = options.look()
    assert name == "allow"
    assert text.startswith(f"example.edu stands in none of {path}, /etc/mailflow/domains.toml")


def test_a_site_of_the_map_that_is_none_is_told_at_check(own: Callable[[str], Path]) -> None:
    own('["example.com"]\nsite = "roundcub"\nurl = "https://x.example.com/"\n')
    options = WebmailDropOptions.read({"allow": ["example.com"]})
    assert [name for name, text in options.look() if "roundcube" in text] == ["allow"]


def test_the_map_of_the_docs_is_sound(own: Callable[[str], Path]) -> None:
    (block,) = [each for each in blocks(ROOT / "docs" / "webmail.rst") if each.file == SHOWN]
    own(block.text)
    options = WebmailDropOptions.read({"allow": ["example.org", "example.net"]})
    assert list(options.look()) == []
