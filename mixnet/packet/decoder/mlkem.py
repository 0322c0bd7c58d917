"""ML-KEM-768 as in FIPS 203, from its text. Not for use with secrets: nothing here takes constant time."""

import hashlib

Q, N, K = 3329, 256, 3
ETA, DU, DV = 2, 10, 4
EK_LEN, CT_LEN = 384 * K + 32, 32 * (DU * K + DV)


def _bitrev7(i):
    return int(f"{i:07b}"[::-1], 2)


_ZETAS = [pow(17, _bitrev7(i), Q) for i in range(128)]
_GAMMAS = [pow(17, 2 * _bitrev7(i) + 1, Q) for i in range(128)]


def _ntt(f):
    """Algorithm 9."""
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            z = _ZETAS[i]
            i += 1
            for j in range(start, start + length):
                t = z * f[j + length] % Q
                f[j + length] = (f[j] - t) % Q
                f[j] = (f[j] + t) % Q
        length //= 2
    return f


def _ntt_inverse(f):
    """Algorithm 10."""
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            z = _ZETAS[i]
            i -= 1
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % Q
                f[j + length] = z * (f[j + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def _add(a, b):
    return [(x + y) % Q for x, y in zip(a, b)]


def _dot(row, column):
    """The sum of products in the NTT domain: Algorithm 11."""
    out = [0] * N
    for a, b in zip(row, column):
        for i in range(128):
            a0, a1, b0, b1 = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
            out[2 * i] += a0 * b0 + a1 * b1 % Q * _GAMMAS[i]
            out[2 * i + 1] += a0 * b1 + a1 * b0
    return [x % Q for x in out]


def _encode(f, d):
    """Algorithm 5: 256 numbers of d bits, least significant bit first."""
    n = 0
    for x in reversed(f):
        n = n << d | x
    return n.to_bytes(32 * d, "little")


def _decode(b, d):
    """Algorithm 6; d = 12 is taken modulo q."""
    n, mask, out = int.from_bytes(b, "little"), (1 << d) - 1, []
    for _ in range(N):
        out.append(n & mask)
        n >>= d
    return [x % Q for x in out] if d == 12 else out


def _compress(f, d):
    return [((x << d + 1) + Q) // (2 * Q) & ((1 << d) - 1) for x in f]


def _decompress(f, d):
    return [x * Q + (1 << d - 1) >> d for x in f]


def _sample_ntt(seed):
    """Algorithm 7."""
    size, xof = 504, hashlib.shake_128(seed)
    while True:
        out, b = [], xof.digest(size)
        for i in range(0, size - 2, 3):
            d1, d2 = b[i] + 256 * (b[i + 1] % 16), b[i + 1] // 16 + 16 * b[i + 2]
            if d1 < Q:
                out.append(d1)
            if d2 < Q:
                out.append(d2)
        if len(out) >= N:
            return out[:N]
        size += 168


def _sample_cbd(b):
    """Algorithm 8 with eta = 2."""
    out = []
    for byte in b:
        for x in (byte & 15, byte >> 4):
            out.append(((x & 1) + (x >> 1 & 1) - (x >> 2 & 1) - (x >> 3)) % Q)
    return out


def _prf(s, n):
    return _sample_cbd(hashlib.shake_256(s + bytes([n])).digest(64 * ETA))


def _g(b):
    h = hashlib.sha3_512(b).digest()
    return h[:32], h[32:]


class Public:
    """An encapsulation key."""

    def __init__(self, ek):
        if len(ek) != EK_LEN:
            raise ValueError("length of the encapsulation key")
        self.bytes = ek
        coefficients = int.from_bytes(ek[:384 * K], "little")
        if any(coefficients >> 12 * i & 0xFFF >= Q for i in range(K * N)):
            raise ValueError("a coefficient of the encapsulation key")  # section 7.2
        self.t = [_decode(ek[384 * i:384 * (i + 1)], 12) for i in range(K)]
        rho = ek[384 * K:]
        self.a = [[_sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]
        self.hash = hashlib.sha3_256(ek).digest()

    def _encrypt(self, m, r):
        """Algorithm 14."""
        y = [_ntt(_prf(r, i)) for i in range(K)]
        c = b""
        for j in range(K):
            u = _ntt_inverse(_dot([self.a[i][j] for i in range(K)], y))
            c += _encode(_compress(_add(u, _prf(r, K + j)), DU), DU)
        v = _add(_ntt_inverse(_dot(self.t, y)), _prf(r, 2 * K))
        v = _add(v, _decompress(_decode(m, 1), 1))
        return c + _encode(_compress(v, DV), DV)

    def encapsulate(self, m):
        """Algorithm 17: gives the secret and the ciphertext."""
        key, r = _g(m + self.hash)
        return key, self._encrypt(m, r)


class Private:
    """A decapsulation key from its seed d | z: Algorithms 13 and 16."""

    def __init__(self, d, z):
        rho, sigma = _g(d + bytes([K]))
        a = [[_sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]
        self.s = [_ntt(_prf(sigma, i)) for i in range(K)]
        e = [_ntt(_prf(sigma, K + i)) for i in range(K)]
        t = [_add(_dot(a[i], self.s), e[i]) for i in range(K)]
        self.public = Public(b"".join(_encode(x, 12) for x in t) + rho)
        self.z = z

    def decapsulate(self, c):
        """Algorithm 18: gives the secret; a wrong ciphertext gives another one."""
        if len(c) != CT_LEN:
            raise ValueError("length of the ciphertext")
        size = 32 * DU
        u = [_decompress(_decode(c[size * i:size * (i + 1)], DU), DU) for i in range(K)]
        v = _decompress(_decode(c[size * K:], DV), DV)
        w = _ntt_inverse(_dot(self.s, [_ntt(x) for x in u]))
        m = _encode(_compress([(x - y) % Q for x, y in zip(v, w)], 1), 1)
        key, r = _g(m + self.public.hash)
        if self.public._encrypt(m, r) != c:
            return hashlib.shake_256(self.z + c).digest(32)
        return key
