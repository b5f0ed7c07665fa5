"""Digests without OpenSSL: to load it takes longer than all that is digested here.

Rule of the file: they are the standard library's own, and none of them guards a secret.
"""

from __future__ import annotations

from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b as blake2b
    from hashlib import sha256 as sha256
else:
    try:
        from _blake2 import blake2b

        try:
            from _sha2 import sha256
        except ImportError:
            from _sha256 import sha256  # Python 3.11
    except ImportError:
        from hashlib import blake2b, sha256

__all__ = ["blake2b", "sha256"]
