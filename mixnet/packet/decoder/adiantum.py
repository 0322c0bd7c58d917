"""Adiantum with XChaCha20 (docs/packet.md, appendix B)."""

import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

MASK32, MASK64, MASK128 = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1


def _rotate(x, n):
    x &= MASK32
    return (x << n | x >> 32 - n) & MASK32


def _quarter(s, a, b, c, d):
    """RFC 8439 section 2.1."""
    s[a] = s[a] + s[b] & MASK32
    s[d] = _rotate(s[d] ^ s[a], 16)
    s[c] = s[c] + s[d] & MASK32
    s[b] = _rotate(s[b] ^ s[c], 12)
    s[a] = s[a] + s[b] & MASK32
    s[d] = _rotate(s[d] ^ s[a], 8)
    s[c] = s[c] + s[d] & MASK32
    s[b] = _rotate(s[b] ^ s[c], 7)


def hchacha20(key, nonce):
    """draft-irtf-cfrg-xchacha section 2.2."""
    s = list(struct.unpack("<4I8I4I", b"expand 32-byte k" + key + nonce))
    for _ in range(10):
        for i in range(4):
            _quarter(s, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            _quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def stream_xor(key, n, data):
    """data xor stream(key, n)."""
    nonce = (n + b"\x01").ljust(24, b"\x00")
    subkey = hchacha20(key, nonce[:16])
    return Cipher(algorithms.ChaCha20(subkey, bytes(8) + nonce[16:]), mode=None).encryptor().update(data)


def nh(words, piece):
    """The 32 bytes of NH of one piece, whose length is a multiple of 16."""
    m = struct.unpack(f"<{len(piece) // 4}I", piece)
    out = []
    for p in range(4):
        k, total = words[4 * p:], 0
        for i in range(0, len(m), 4):
            total += (m[i] + k[i] & MASK32) * (m[i + 2] + k[i + 2] & MASK32)
            total += (m[i + 1] + k[i + 1] & MASK32) * (m[i + 3] + k[i + 3] & MASK32)
        out.append(total & MASK64)
    return struct.pack("<4Q", *out)


class Adiantum:
    """The cipher under one key; blocks of 16 bytes and more."""

    def __init__(self, key):
        self.key = key
        keys = stream_xor(key, b"", bytes(1136))
        self.aes = Cipher(algorithms.AES(keys[:32]), modes.ECB())
        self.key_t, self.key_m = keys[32:48], keys[48:64]
        self.words = struct.unpack("<268I", keys[64:])

    def _hash(self, tweak, left):
        padded = left + bytes(-len(left) % 16)
        hashed = b"".join(nh(self.words, padded[i:i + 1024]) for i in range(0, len(padded), 1024))
        header = (8 * len(left)).to_bytes(16, "little") + tweak
        return sum(int.from_bytes(Poly1305.generate_tag(k + bytes(16), m), "little")
                   for k, m in ((self.key_t, header), (self.key_m, hashed)))

    def encrypt(self, block, tweak=b""):
        left, right = block[:-16], int.from_bytes(block[-16:], "little")
        middle = (right + self._hash(tweak, left) & MASK128).to_bytes(16, "little")
        middle = self.aes.encryptor().update(middle)
        left = stream_xor(self.key, middle, left)
        right = int.from_bytes(middle, "little") - self._hash(tweak, left) & MASK128
        return left + right.to_bytes(16, "little")

    def decrypt(self, block, tweak=b""):
        left, right = block[:-16], int.from_bytes(block[-16:], "little")
        middle = (right + self._hash(tweak, left) & MASK128).to_bytes(16, "little")
        left = stream_xor(self.key, middle, left)
        middle = self.aes.decryptor().update(middle)
        right = int.from_bytes(middle, "little") - self._hash(tweak, left) & MASK128
        return left + right.to_bytes(16, "little")
