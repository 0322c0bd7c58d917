#!/usr/bin/env python3
"""Runs the decoder against public vectors of its primitives and against the vectors of P1.

    check.py DIRECTORY     the directory that docs/packet.md section 9 describes

It prints how many checks passed, or what differs, and then fails."""

import hashlib
import json
import pathlib
import sys

import adiantum
import mlkem
import p1
import xwing

checks = 0


def same(what, got, want):
    global checks
    if isinstance(got, (bytes, bytearray)):
        got = got.hex()
    if got != want:
        sys.exit(f"{what}: got {str(got)[:200]}, want {str(want)[:200]}")
    checks += 1


def unhex(s):
    return bytes.fromhex(s)


def sha256(b):
    return hashlib.sha256(b).hexdigest()


def public_vectors(path):
    v = json.loads(path.read_text())
    for i, a in enumerate(v["adiantum"]):
        cipher, tweak = adiantum.Adiantum(unhex(a["key"])), unhex(a["tweak"])
        same(f"Adiantum {i}", cipher.encrypt(unhex(a["plaintext"]), tweak), a["ciphertext"])
        same(f"Adiantum {i}, back", cipher.decrypt(unhex(a["ciphertext"]), tweak), a["plaintext"])
    h = v["hchacha20"]
    same("HChaCha20", adiantum.hchacha20(unhex(h["key"]), unhex(h["nonce"])), h["subkey"])
    h = v["hkdf"]
    same("HKDF", xwing.hkdf(unhex(h["ikm"]), unhex(h["salt"]), unhex(h["info"]), h["length"]), h["okm"])
    for i, x in enumerate(v["xwing"]):
        key = xwing.PrivateKey(unhex(x["sk"]))
        same(f"X-Wing {i}: public key", key.public, x["pk"])
        same(f"X-Wing {i}: secret", key.decapsulate(unhex(x["ct"])), x["ss"])
    h = v["hpke"]
    key = xwing.PrivateKey(unhex(h["skRm"]))
    same("HPKE: public key", key.public, h["pkRm"])
    secret = key.decapsulate(unhex(h["enc"]))
    same("HPKE: shared secret", secret, h["shared_secret"])
    context = xwing.Exporter(secret, unhex(h["info"]), h["aead_id"])
    same("HPKE: exporter secret", context.secret, h["exporter_secret"])
    for e in h["exports"]:
        same("HPKE: export", context.export(unhex(e["exporter_context"]), e["L"]), e["exported_value"])
    same("ML-KEM-768, accumulated", accumulated(v["mlkem"]["rounds"]), v["mlkem"]["digest"])


def accumulated(rounds):
    """Keys, encapsulations, decapsulations and implicit rejections from one stream: the scheme of c2sp.org/CCTV/ML-KEM."""
    stream, at, out = hashlib.shake_128().digest(rounds * (64 + 32 + mlkem.CT_LEN)), 0, hashlib.shake_128()

    def draw(n):
        nonlocal at
        at += n
        return stream[at - n:at]

    for _ in range(rounds):
        key = mlkem.Private(draw(32), draw(32))
        secret, ct = key.public.encapsulate(draw(32))
        for b in (key.public.bytes, ct, secret):
            out.update(b)
        if key.decapsulate(ct) != secret:
            sys.exit("ML-KEM-768: decapsulation gives another secret")
        out.update(key.decapsulate(draw(mlkem.CT_LEN)))
    return out.digest(32)


def packet_vector(path):
    v = json.loads(path.read_text())
    name, packet = path.name, unhex(v["packet"])
    content = v.get("content")
    if reply := v.get("reply"):
        block = p1.parse_surb(unhex(reply["surb"]))
        same(f"{name}: first", block.first, reply["first"])
        same(f"{name}: name", block.name, reply["name"])
        same(f"{name}: expiry", block.expires_hours, reply["expires_hours"])
        answer = p1.Content(content["kind"], unhex(content["surb"]), unhex(content["body"]))
        same(f"{name}: use", p1.use_surb(unhex(reply["surb"]), answer, block.expires_hours - 1), v["packet"])
    for i, h in enumerate(v["hops"]):
        what = f"{name}, hop {i}"
        key = xwing.PrivateKey(unhex(h["seed"]))
        same(f"{what}: key ID", p1.key_id(key.public), h["key_id"])
        hop = p1.unwrap(key, packet)
        for field in ("layer", "header_key", "tag", "routing", "delay_ms", "next", "next_key_id", "mark", "payload_key"):
            same(f"{what}: {field}", getattr(hop, field), h[field])
        same(f"{what}: command", p1.NAMES[hop.command], h["command"])
        last = i == len(v["hops"]) - 1
        same(f"{what}: the last one", hop.command != p1.FWD, last)
        if last:
            same(f"{what}: payload", sha256(hop.payload), v["payload_sha256"])
            continue
        packet = hop.next_packet
        same(f"{what}: next packet", sha256(packet), h["next_packet_sha256"])
        if "next_packet" in h:
            same(f"{what}: next packet", packet, h["next_packet"])
    if content:
        got = p1.parse_content(hop.payload) if not reply else p1.open_reply(unhex(reply["seed"]), unhex(reply["mark"]), hop.payload)
        same(f"{name}: kind", got.kind, content["kind"])
        same(f"{name}: reply block", got.surb, content["surb"])
        same(f"{name}: body", got.body, content["body"])
    return {h["command"] for h in v["hops"]}


def rejected_vectors(path):
    reasons = set()
    for v in json.loads(path.read_text()):
        head = unhex(v["head"])
        try:
            if v["kind"] == "packet":
                node = {"seen": [unhex(tag) for tag in v.get("seen", [])]}
                if "layers" in v:
                    node["layers"] = v["layers"]
                p1.unwrap(xwing.PrivateKey(unhex(v["seed"])), head.ljust(v["length"], b"\x00"), **node)
            elif v["kind"] == "unit":
                p1.cut_unit(head.ljust(v["length"], b"\x00"))
            elif v["kind"] == "public_key":
                p1.parse_public_key(head)
            elif v["kind"] == "content":
                p1.parse_content(head.ljust(p1.PAYLOAD, b"\x00"))
            elif v["kind"] == "surb":
                p1.parse_surb(head)
            elif v["kind"] == "expired":
                p1.use_surb(head, p1.Content(0, b"", b""), v["now_hours"])
            else:
                sys.exit(f"{v['name']}: unknown kind")
            sys.exit(f"{v['name']}: not rejected")
        except p1.Rejected as e:
            same(v["name"], str(e), v["reason"])
            reasons.add(v["reason"])
    return reasons


def main():
    here, vectors = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])
    public_vectors(here / "public.json")
    commands = set()
    for path in sorted(vectors.glob("*.json")):
        if path.name != "rejected.json":
            commands |= packet_vector(path)
    same("commands seen", commands == set(p1.NAMES.values()), True)
    reasons = {"prefix", "size", "layer", "key", "header", "replay", "routing", "payload", "content", "surb", "expired", "public key"}
    same("reasons seen", rejected_vectors(vectors / "rejected.json") == reasons, True)
    print(f"{checks} checks passed")


if __name__ == "__main__":
    main()
