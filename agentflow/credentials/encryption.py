"""Encrypts the secrets of credentials with AES-256-GCM, under the newest key of a ring.

What is stored is a nonce of 96 random bits and the ciphertext with its tag. The tag also covers what the secret is
bound to: a ciphertext that was copied to another row, owner, provider or host is refused. Random nonces are safe for
2³² encryptions under one key, more than any installation makes.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentflow.errors import Conflict, SystemFault

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12

NO_KEY: Final = (
    "this installation has no key to encrypt credentials with: its operator sets AGENTFLOW_CREDENTIAL_KEYS "
    "(`openssl rand -base64 32` makes one)"
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted secret, and the id of the key that encrypted it."""

    key_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """What a secret belongs to. None of it can be changed without decrypting the secret and encrypting it again."""

    id: UUID
    owner_id: UUID
    provider: str
    kind: str
    details: Mapping[str, Any]

    def associated_data(self) -> bytes:
        """Its bytes, which the tag covers."""
        content = ["agentflow credential", str(self.id), str(self.owner_id), self.provider, self.kind, self.details]
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


class KeyRing:
    """The keys of an installation: the first encrypts, all decrypt.

    Args:
        keys: of 32 bytes each, the newest first.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id(key): key for key in reversed(keys)}
        self._newest = key_id(keys[0]) if keys else None

    @property
    def newest(self) -> str:
        """The id of the key that encrypts.

        Raises:
            Conflict: there is no key.
        """
        if self._newest is None:
            raise Conflict(NO_KEY)
        return self._newest

    def encrypt(self, secret: Mapping[str, Any], bound: Bound) -> Sealed:
        """Encrypt a secret with the newest key.

        Raises:
            Conflict: there is no key.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = json.dumps(dict(secret), ensure_ascii=False, separators=(",", ":")).encode()
        made = AESGCM(self._keys[self.newest]).encrypt(nonce, plain, bound.associated_data())
        return Sealed(self.newest, nonce + made)

    def decrypt(self, sealed: Sealed, bound: Bound) -> dict[str, Any]:
        """The secret.

        Raises:
            SystemFault: its key is not in the ring, or what is stored was changed or belongs to something else.
        """
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise SystemFault(
                f"the credential {bound.id} cannot be read: AGENTFLOW_CREDENTIAL_KEYS lacks its key {sealed.key_id}"
            )
        nonce, made = sealed.data[:_NONCE_BYTES], sealed.data[_NONCE_BYTES:]
        try:
            plain = AESGCM(key).decrypt(nonce, made, bound.associated_data())
        except (InvalidTag, ValueError):
            raise SystemFault(f"the credential {bound.id} cannot be read: what is stored of it was changed") from None
        secret: dict[str, Any] = json.loads(plain)
        return secret


def key_id(key: bytes) -> str:
    """The name of a key: 12 hexadecimal digits that tell nothing of it."""
    return hashlib.sha256(b"agentflow key id\0" + key).hexdigest()[:12]
