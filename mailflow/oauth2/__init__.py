"""OAuth2 (RFC 6749): access tokens instead of passwords, for every component that logs in.

    work = access({"provider": "google", "client_id": "..."}, ".")
    work.token("ann@example.org").reveal()     # an access token that is good for a while

What a user has allowed once (`mailflow auth login`) is kept for each provider and user; all
steps and processes share it, and refresh it once. Rule of the package: who asks for a token
gets one that a file, or the keyring, holds already: what a power cut would lose is not used.
"""

from __future__ import annotations

from mailflow.oauth2.access import Access, access

__all__ = ["Access", "access"]
