"""X-Wing (docs/packet.md, appendix A) and the part of HPKE that P1 uses (RFC 9180 sections 4, 5.1 and 5.3)."""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import mlkem

LABEL = bytes([0x5C, 0x2E, 0x2F, 0x2F, 0x5E, 0x5C])
ENC_LEN = mlkem.CT_LEN + 32
KEM_ID, HKDF_SHA256, EXPORT_ONLY = 0x647A, 1, 0xFFFF


class PrivateKey:
    """The private key of a hop, from its seed."""

    def __init__(self, seed):
        b = hashlib.shake_256(seed).digest(96)
        self.pq = mlkem.Private(b[:32], b[32:64])
        self.x = X25519PrivateKey.from_private_bytes(b[64:])
        self.public_x = self.x.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = self.pq.public.bytes + self.public_x

    def decapsulate(self, enc):
        """The shared secret. ValueError if enc holds a point that gives an X25519 result of zeros."""
        if len(enc) != ENC_LEN:
            raise ValueError("length of the encapsulation")
        ct_m, ct_x = enc[:mlkem.CT_LEN], enc[mlkem.CT_LEN:]
        ss_x = self.x.exchange(X25519PublicKey.from_public_bytes(ct_x))
        return hashlib.sha3_256(self.pq.decapsulate(ct_m) + ss_x + ct_x + self.public_x + LABEL).digest()


def _extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def _expand(prk, info, length):
    out, block, i = b"", b"", 0
    while len(out) < length:
        i += 1
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        out += block
    return out[:length]


def hkdf(ikm, salt, info, length):
    """RFC 5869."""
    return _expand(_extract(salt, ikm), info, length)


class Exporter:
    """A receiving HPKE context in base mode, for Export alone."""

    def __init__(self, shared_secret, info, aead_id=EXPORT_ONLY, kem_id=KEM_ID):
        self.suite = b"HPKE" + kem_id.to_bytes(2, "big") + HKDF_SHA256.to_bytes(2, "big") + aead_id.to_bytes(2, "big")
        context = b"\x00" + self._labeled_extract(b"", b"psk_id_hash", b"") + self._labeled_extract(b"", b"info_hash", info)
        secret = self._labeled_extract(shared_secret, b"secret", b"")
        self.secret = self._labeled_expand(secret, b"exp", context, 32)

    def _labeled_extract(self, salt, label, ikm):
        return _extract(salt, b"HPKE-v1" + self.suite + label + ikm)

    def _labeled_expand(self, prk, label, info, length):
        return _expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + self.suite + label + info, length)

    def export(self, context, length):
        return self._labeled_expand(self.secret, b"sec", context, length)
