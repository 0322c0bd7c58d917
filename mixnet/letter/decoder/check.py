"""Reads the vectors of docs/letter.md, which this was written from, and says what is wrong.

Usage: check.py GOLDEN.JSON. X-Wing and HPKE are those of the packet's decoder.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "packet" / "decoder"))

import p1  # noqa: E402
import xwing  # noqa: E402
from cryptography.exceptions import InvalidSignature, InvalidTag  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey  # noqa: E402
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402

wrong = 0


def same(what, got, want):
    global wrong
    if got != want:
        wrong += 1
        print(f"{what}: got {got!r}, want {want!r}")


def sha256(b):
    return hashlib.sha256(b).digest()


# --- Reed-Solomon over GF(2^8), polynomial 0x11d (§3) ---
EXP, LOG = [0] * 510, [0] * 256
x = 1
for i in range(255):
    EXP[i] = EXP[i + 255] = x
    LOG[x] = i
    x <<= 1
    if x & 0x100:
        x ^= 0x11D


def mul(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def power(a, n):
    if n == 0:
        return 1
    return EXP[LOG[a] * n % 255] if a else 0


def invert(m):
    n = len(m)
    m = [row[:] + [int(i == j) for j in range(n)] for i, row in enumerate(m)]
    for c in range(n):
        p = next(r for r in range(c, n) if m[r][c])
        m[c], m[p] = m[p], m[c]
        f = EXP[255 - LOG[m[c][c]]]
        m[c] = [mul(f, v) for v in m[c]]
        for r in range(n):
            if r != c and m[r][c]:
                f = m[r][c]
                m[r] = [v ^ mul(f, w) for v, w in zip(m[r], m[c])]
    return [row[n:] for row in m]


def product(a, b):
    out = []
    for row in a:
        line = []
        for j in range(len(b[0])):
            v = 0
            for i, w in enumerate(row):
                v ^= mul(w, b[i][j])
            line.append(v)
        out.append(line)
    return out


def times(row, parts):
    out = bytearray(len(parts[0]))
    for f, p in zip(row, parts):
        if f:
            table = bytes(mul(f, v) for v in range(256))
            out = bytearray(a ^ b for a, b in zip(out, p.translate(table)))
    return bytes(out)


def restore(have, k, n):
    """have: fragments of a chunk by number. Gives its k parts."""
    v = [[power(i, j) for j in range(k)] for i in range(n)]
    code = product(v, invert(v[:k]))
    use = sorted(have)[:k]
    back = invert([code[i] for i in use])
    parts = [times(row, [have[i] for i in use]) for row in back]
    for i, got in have.items():  # the others fit too
        same(f"fragment {i} of a chunk", times(code[i], parts) == got, True)
    return parts


# --- fragments (§3, §4) ---
def parse(body):
    h, part = body[:64], body[64:]
    assert h[0] == 1 and h[1:4] == bytes(3) and h[40:] == bytes(24), "form of a header"
    total, index, length, k, n, chunk = struct.unpack(">IIQBBH", h[20:40])
    return h[4:20], total, index, length, k, n, chunk, part


def exporter(key, enc):
    """X-Wing for an encapsulation of 1120 bytes, DHKEM(X25519, HKDF-SHA256) of RFC 9180 section 4.1 for one of 32."""
    if len(enc) == 1120:
        return xwing.Exporter(key.decapsulate(enc), b"postern/letter: encapsulation")
    dh = key.x.exchange(X25519PublicKey.from_public_bytes(enc))
    suite = b"KEM" + (0x20).to_bytes(2, "big")
    prk = hmac.digest(bytes(32), b"HPKE-v1" + suite + b"eae_prk" + dh, "sha256")
    info = (32).to_bytes(2, "big") + b"HPKE-v1" + suite + b"shared_secret" + enc + key.public_x
    shared = hmac.digest(prk, info + b"\x01", "sha256")
    return xwing.Exporter(shared, b"postern/letter: classical encapsulation", kem_id=0x20)


def open_sealed(key, body):
    """Gives the fragment, and the key that it was sealed to."""
    for length, to in ((1120, key.public), (32, key.public_x)):
        exported = exporter(key, body[:length]).export(b"postern/letter: keys", 80)
        ident, seal, nonce_key = exported[:16], exported[16:48], exported[48:]
        nonce, rest = body[length:length + 12], body[length + 12:]
        try:
            f = parse(AESGCM(seal).decrypt(nonce, rest, b""))
        except InvalidTag:
            continue
        assert f[0] == ident, "ID is not the exported one"
        want = hmac.new(nonce_key, struct.pack(">I", f[2]), hashlib.sha256).digest()[:12]
        same("nonce", nonce, want)
        return f, to
    raise ValueError("sealed to somebody else")


def assemble(fragments):
    ident, total, _, length, k, _, _, part = fragments[0]
    size, coded = len(part), k != 0
    m = -(-length // size)
    if not coded:
        assert total == m and sorted(f[2] for f in fragments) == list(range(m)), "not whole"
        whole = b"".join(f[7] for f in sorted(fragments, key=lambda f: f[2]))
    else:
        c = -(-m // 16)
        whole, index = b"", 0
        for i in range(c):
            ki = m // c + (1 if i < m % c else 0)
            ni = -(-4 * ki // 3)
            have = {}
            for f in fragments:
                if index <= f[2] < index + ni:
                    assert f[4:7] == (ki, ni, i), "k, n, chunk"
                    have[f[2] - index] = f[7]
            whole += b"".join(restore(have, ki, ni))
            index += ni
        assert total == index, "number of fragments"
    assert not any(whole[length:]), "zeros at the end"
    return ident, whole[:length]


# --- the whole (§2) ---
def read_whole(whole, ident, recipient):
    version, flags, name_len, zero, content_len, data_len, date = struct.unpack(">BBHIQQQ", whole[:32])
    assert version == 1 and flags & ~3 == 0 and zero == 0, "form of a head"
    rest, name, signer = whole[32:], b"", b""
    if flags & 2:
        name, rest = rest[:name_len], rest[name_len:]
        ed, ml, ed_sig = rest[:32], rest[32:1984], rest[1984:2048]
        rest = rest[2048 + 3309:]
    assert len(rest) == data_len, "length of the data"
    content = rest
    if flags & 1:
        d = zlib.decompressobj(-15)
        content = d.decompress(rest, content_len + 1)
        assert d.eof and not d.unused_data, "end of the stream"
    assert len(content) == content_len, "length of the content"
    if flags & 2:
        text = (b"postern/letter: signature\n" + ident + sha256(recipient) + struct.pack(">QH", date, name_len) + name + sha256(content))
        signer = sha256(b"postern/directory identity\n" + ed + ml)
        try:
            Ed25519PublicKey.from_public_bytes(ed).verify(ed_sig, b"postern/directory signature\n" + text)
        except InvalidSignature:
            same("Ed25519 signature", "wrong", "right")
    return date, name.decode(), signer, content


def main():
    g = json.load(open(sys.argv[1]))
    key = xwing.PrivateKey(bytes.fromhex(g["seed"]))
    for v in g["letters"]:
        bodies = [bytes.fromhex(b) for b in v["bodies"]]
        opened = [open_sealed(key, b) if v["sealed"] else (parse(b), None) for b in bodies]
        ident, whole = assemble([f for f, _ in opened])
        same(f"{v['name']}: classical", opened[0][1] == key.public_x, v.get("classical", False))
        date, name, signer, content = read_whole(whole, ident, opened[0][1])
        for field, got in (("id", ident.hex()), ("date", date), ("sender", name), ("from", signer.hex()),
                           ("content_sha256", sha256(content).hex()), ("content_length", len(content))):
            same(f"{v['name']}: {field}", got, v[field])
    a = g["address"]
    text = a["text"].removeprefix("pb:")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    same("address", (raw[0], raw[1:33].hex(), raw[33:65].hex(), sha256(raw[65:1281]).hex(), raw[1281:]),
         (1, a["relay"], a["mailbox"], a["key_sha256"], sha256(b"postern/letter: address\n" + raw[:1281])[:8]))
    b = g["blocks"]
    key_seed = xwing.hkdf(bytes.fromhex(b["seed"]), bytes.fromhex(b["hint"]), b"postern/letter: key of a reply block", 32)
    same("key of the blocks", sha256(xwing.PrivateKey(key_seed).public).hex(), b["key_sha256"])
    names = []
    for part in b["text"].split("-----BEGIN POSTERN REPLY BLOCK-----")[1:]:
        part = part.split("-----END")[0].split("\n\n", 1)[1]
        raw = base64.b64decode("".join(part.split()))
        same("a block", (raw[0], raw[1:17].hex(), sha256(raw[17:1233]).hex(), raw[6249:]),
             (1, b["hint"], b["key_sha256"], sha256(b"postern/letter: reply block\n" + raw[:6249])[:8]))
        p1.parse_surb(raw[1233:6249])
        names.append(sha256(b"postern/p1 reply: name of a block" + raw[1233:6249])[:16].hex())
    same("names of the blocks", names, b["names"])
    print(f"{len(g['letters'])} letters, an address and {len(names)} reply blocks were read")
    sys.exit(1 if wrong else 0)


main()
