"""Providers are TOML: those that are shipped, those of the user, and what a step says."""

from __future__ import annotations

import pytest

from mailflow import ConfigError, Options
from mailflow.engine.sameness import same
from mailflow.oauth2 import access
from mailflow.oauth2.provider import known, provider
from mailflow.options import OAuth2, ServerOptions
from mailflow.testing.oauth2 import OAuth2Server
from mailflow_pop3.settings import Pop3Options
from mailflow_smtp.settings import SmtpOptions

CLIENT = {"client_id": "our-client"}
MINE = """
client_id = "mine-1"
authorization_endpoint = "https://login.example.org/authorize"
token_endpoint = "https://login.example.org/token"
scopes = ["mail"]
"""


@pytest.mark.parametrize("name", ["google", "microsoft"])
def test_shipped_providers_need_a_client_and_nothing_else(name):
    found = access({"provider": name, **CLIENT}, ".").provider
    for each in ("authorization", "token"):
        assert found.endpoint(each).startswith("https://")
        assert "{" not in found.endpoint(each)
    assert found.scopes


def test_a_tenant_stands_in_the_endpoints():
    found = access({"provider": "microsoft", "tenant": "example.org", **CLIENT}, ".").provider
    assert found.endpoint("token") == (
        "https://login.microsoftonline.com/example.org/oauth2/v2.0/token"
    )


def test_a_third_provider_needs_no_code(places):
    (places / "mine.toml").write_text(MINE)
    found = access("mine", ".").provider
    assert found.client_id == "mine-1"
    assert found.scopes == ("mail",)
    assert known() == ["google", "microsoft", "mine"]


def test_the_users_file_is_laid_over_the_shipped_one(places):
    (places / "google.toml").write_text('client_id = "my-google"\nidle = "1d"\n')
    found = access("google", ".").provider
    assert found.client_id == "my-google"
    assert found.idle == 86400
    assert found.endpoint("token") == "https://oauth2.googleapis.com/token"


def test_what_a_step_says_counts_before_all_files(places):
    (places / "mine.toml").write_text(MINE)
    found = access({"provider": "mine", "client_id": "step", "scopes": ["x", "y"]}, ".").provider
    assert (found.client_id, found.scopes) == ("step", ("x", "y"))


def test_a_secret_of_a_providers_file_starts_at_that_file(places):
    (places / "mine.toml").write_text(MINE + 'client_secret = { file = "mine.secret" }\n')
    (places / "mine.secret").write_text("canary")
    (places / "mine.secret").chmod(0o600)
    assert access("mine", "/elsewhere").provider.client_secret.reveal() == "canary"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("gogle", "no provider 'gogle'; did you mean `google`.; one of your own is a file /"),
        ("nobody", "there are google, microsoft"),
        ("../google", "there is no provider"),
        ("", "expected the name of a provider"),
        (7, "expected the name of a provider"),
        ({"client_id": "x"}, "expected the name of a provider"),
        ("google", "`client_id` is missing.*https://console.cloud.google.com"),
        ({"provider": "google", "client": "x"}, "unknown key; did you mean `client_id`"),
        ({"provider": "google", **CLIENT, "flow": "phone"}, 'expected "browser"'),
        ({"provider": "google", **CLIENT, "flow": "client"}, "`client_secret` is missing"),
        ({"provider": "google", **CLIENT, "token_endpoint": "http://x.org/"}, "expected an https"),
        ({"provider": "google", **CLIENT, "token_endpoint": "https://"}, "expected a URL"),
        ({"provider": "google", **CLIENT, "token_endpoint": "https://a:b@c"}, "expected a URL"),
        ({"provider": "google", **CLIENT, "token_endpoint": "https://b:99999/"}, "expected a URL"),
        ({"provider": "google", **CLIENT, "redirect": "http://127.0.0.1:{prt}/"}, "expected a URL"),
        ({"provider": "google", **CLIENT, "redirect": "http://x.org/"}, "expected an https"),
        ({"provider": "google", **CLIENT, "parameters": {"state": "s"}}, "is said already"),
        ({"provider": "microsoft", **CLIENT, "tenant": ""}, "expected the `tenant`"),
    ],
)
def test_what_is_wrong_is_told(table, complaint):
    with pytest.raises(ValueError, match=complaint):
        access(table, ".")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("token_endpoint =", "1: not TOML: a value is not complete"),
        ("flow = 'device'\ntokens = 1", "2: tokens: unknown key"),
        ("scopes = [1]", r"scopes\[1\]: expected a string"),
        ("token_endpoint = 'http://login.example.org/'", "token_endpoint: expected an https URL"),
    ],
)
def test_a_providers_file_that_is_wrong_is_named(places, text, complaint):
    (places / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.toml.*{complaint}"):
        access("mine", ".")


def test_faults_of_a_table_lead_to_their_place():
    table = {"provider": "google", "flow": "phone"}
    with pytest.raises(ConfigError, match=r"oauth2\.flow: expected"):
        ServerOptions.read({"host": "x", "user": "u", "oauth2": table})


@pytest.mark.parametrize("options", [Pop3Options, SmtpOptions])
class TestOptions:
    def read(self, options: type[Options], **more: object) -> Options:
        return options.read({"host": "mail.example.org", **more})

    def test_a_provider_stands_for_a_password(self, options):
        found = self.read(options, user="ann", oauth2={"provider": "google", **CLIENT})
        assert found.by_token
        assert repr(found.secret) == "<secret from oauth2 google/ann>"

    @pytest.mark.parametrize(
        ("more", "complaint"),
        [
            ({"password": "p"}, "oauth2: a `password` is given too"),
            ({"token": "t"}, "oauth2: a `token` is given too"),
            ({"auth": ["plain"]}, "auth: "),
        ],
    )
    def test_it_goes_with_no_password(self, options, more, complaint):
        if "auth" in more and options is SmtpOptions:
            more = {"auth": ["PLAIN"]}
        with pytest.raises(ConfigError, match=complaint):
            self.read(options, user="ann", oauth2={"provider": "google", **CLIENT}, **more)

    def test_it_needs_a_user(self, options):
        with pytest.raises(ConfigError, match="user: expected the login name"):
            self.read(options, oauth2={"provider": "google", **CLIENT})


@pytest.mark.parametrize("user", [{}, {"user": "{login}"}, {"user": "{user}@example.org"}])
def test_who_is_known_only_later_is_not_looked_for_at_check(user):
    table = {"host": "x", "oauth2": {"provider": "google", **CLIENT}}
    assert list(ServerOptions.read({**table, **user}).look()) == []
    [(option, text)] = ServerOptions.read({**table, "user": "ann"}).look()
    assert (option, text.partition(";")[0]) == ("oauth2", "nobody has logged in at google as ann")


def test_a_reload_leaves_alone_what_says_the_same():
    def read(**more: object) -> ServerOptions:
        table = {"provider": "google", **CLIENT, **more}
        return ServerOptions.read({"host": "x", "user": "u", "oauth2": table})

    assert same(read(), read())
    assert not same(read(), read(client_id="other"))
    assert not same(read(client_secret="a"), read(client_secret="b"))


def test_editors_are_told_every_key():
    import jsonschema

    schema = OAuth2.optional("x").schema()
    with OAuth2Server() as server:
        words = server.provider()
    jsonschema.validate("google", schema)
    jsonschema.validate({"provider": "mine", **words}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"provider": "mine", "client": "x"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_a_provider_is_found_by_its_name_alone():
    found, faults = provider("google", {}, ".")
    assert found.endpoint("revocation") == "https://oauth2.googleapis.com/revoke"
    assert [fault.text.partition(":")[0] for fault in faults] == ["`client_id` is missing"]
