"""What `oauth2` in a file comes to: a provider, and a token for each of its users.

Rule of the file: nothing is asked of anybody before `reveal()`.
"""

from __future__ import annotations

from mailflow.oauth2.provider import Provider, provider
from mailflow.oauth2.store import Store
from mailflow.options import ElementsError, Option, SecretValue
from mailflow.typed import Any


class Access:
    """A provider under the name of its file, with what a step says of it."""

    def __init__(self, name: str, provider: Provider, *, own_secret: bool = False) -> None:
        self.name = name
        self.provider = provider
        self._own_secret = own_secret

    @property
    def client_secret(self) -> SecretValue | None:
        """That of the step itself: who gave one in a provider's file has it there alone."""
        return self.provider.client_secret if self._own_secret else None

    def store(self, user: str) -> Store:
        """Where the tokens of `user` are kept."""
        return Store(self.name, user, keyring=self.provider.store == "keyring")

    def token(self, user: str) -> SecretValue:
        """An access token for `user`. It raises LoginError where he must log in (again)."""
        from mailflow.oauth2.refresh import check, fresh, renewed

        return SecretValue(
            lambda: fresh(self, user),
            f"oauth2 {self.name}/{user}",
            check=lambda: check(self, user),
            renewed=True,
            renew=lambda refused: renewed(self, user, refused),
        )

    def check(self, user: str | None) -> None:
        """Raise what a token would where that can be told beforehand; who logs in may be left
        open: None, or a name with {placeholders}."""
        if user is not None and "{" not in user:
            self.token(user).check()
        else:
            from mailflow.oauth2.ask import check_installed

            check_installed()

    def __repr__(self) -> str:
        return f"<access by {self.name}>"


def access(value: object, base: str) -> Access:
    """An Access of what a file says: a name, or a table. `base` is where paths start.

    Raises ValueError (ElementsError) that says what is wrong.
    """
    table: dict[str, Any] = value if isinstance(value, dict) else {"provider": value}
    name = table.get("provider")
    if not isinstance(name, str) or not name:
        raise ValueError(
            'expected the name of a provider, such as "google", or a table with `provider`'
        )
    more = {key: each for key, each in table.items() if key != "provider"}
    found, faults = provider(name, more, base)
    if faults:
        raise ElementsError([(fault.path, ValueError(fault.text)) for fault in faults])
    return Access(name, found, own_secret="client_secret" in more)


def schema() -> dict[str, object]:
    """The JSON Schema of `oauth2`."""
    keys: dict[str, Option[Any]] = Provider.declared()
    properties: dict[str, object] = {"provider": {"type": "string", "minLength": 1}}
    properties |= {key: option.schema() for key, option in keys.items()}
    table = {"type": "object", "properties": properties, "required": ["provider"],
             "additionalProperties": False}  # fmt: skip
    return {"anyOf": [{"type": "string", "minLength": 1}, table]}


__all__ = ["Access", "access", "schema"]
