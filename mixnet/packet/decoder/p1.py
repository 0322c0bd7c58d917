"""P1 packets and reply blocks, read as docs/packet.md says. Paragraph signs name its sections."""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import mlkem
import xwing
from adiantum import Adiantum

# §2
SIZE, PREFIX, LAYER, PAYLOAD, LAST = 32768, 16, 1232, 26592, 4
ENC, ROUTING = 1120, 96
SURB, SURB_TAIL = 5016, 72

FWD, DELIVER, SURB_REPLY, DROP, PING, EXIT = range(1, 7)
NAMES = {FWD: "FWD", DELIVER: "DELIVER", SURB_REPLY: "SURB_REPLY", DROP: "DROP", PING: "PING", EXIT: "EXIT"}


class Rejected(Exception):
    """The bold word of the step that failed."""


def size_at(layer):
    return SIZE - LAYER * layer


def number(b):
    return int.from_bytes(b, "big")


def zero(b):
    return not any(b)


def key_id(public):
    """§3.1"""
    return number(hashlib.sha256(b"postern/p1 key id" + public).digest()[:4])


def prefix(layer, ident):
    """§4.1"""
    return bytes([1, 0, layer, 0]) + ident.to_bytes(4, "big") + bytes(8)


def parse_prefix(b):
    """§4.1: layer and key ID."""
    if len(b) < PREFIX:
        raise Rejected("size")
    if b[0] != 1 or b[1] or b[2] > LAST or b[3] or not zero(b[8:16]):
        raise Rejected("prefix")
    return b[2], number(b[4:8])


def cut_unit(unit):
    """§8: the packet in what came over a link."""
    if len(unit) != SIZE:
        raise Rejected("size")
    layer, _ = parse_prefix(unit)
    return unit[:size_at(layer)]


def parse_public_key(b):
    """Appendix A"""
    if len(b) != mlkem.EK_LEN + 32:
        raise Rejected("public key")
    try:
        mlkem.Public(b[:mlkem.EK_LEN])
    except ValueError:
        raise Rejected("public key") from None


@dataclass
class Hop:
    """What a hop learns."""
    layer: int
    header_key: bytes
    tag: bytes
    routing: bytes
    command: int
    delay_ms: int
    next: bytes
    next_key_id: int
    mark: bytes
    payload_key: bytes
    payload: bytes
    next_packet: bytes  # empty unless FWD


def unwrap(key, packet, layers=range(LAST + 1), seen=()):
    """§4.5, for a node that has one key, serves some layers and has seen some replay tags."""
    layer, ident = parse_prefix(packet)
    if len(packet) != size_at(layer):
        raise Rejected("size")
    if layer not in layers:
        raise Rejected("layer")
    if ident != key_id(key.public):
        raise Rejected("key")
    header, payload = packet[PREFIX:-PAYLOAD], packet[-PAYLOAD:]
    try:
        secret = key.decapsulate(header[:ENC])
        exported = xwing.Exporter(secret, b"postern/p1 hop: encapsulation").export(b"postern/p1 hop: keys", 48)
        plain = AESGCM(exported[:32]).decrypt(bytes(12), header[ENC:], packet[:PREFIX])
    except (ValueError, InvalidTag):
        raise Rejected("header") from None
    if exported[32:] in seen:
        raise Rejected("replay")
    r = plain[:ROUTING]
    hop = Hop(layer, exported[:32], exported[32:], r, r[0], number(r[4:8]), r[8:40], number(r[40:44]), r[48:64], r[64:96], b"", b"")
    check_routing(hop)
    hop.payload = Adiantum(hop.payload_key).decrypt(payload)
    if hop.command == FWD:
        hop.next_packet = prefix(layer + 1, hop.next_key_id) + plain[ROUTING:] + hop.payload
    return hop


def check_routing(h):
    """§4.3: the table."""
    layers = {FWD: range(0, 4), DELIVER: [4], SURB_REPLY: [4], DROP: range(0, 5), PING: range(0, 5), EXIT: [4]}
    canonical = (
        h.layer in layers.get(h.command, [])
        and zero(h.routing[1:4]) and zero(h.routing[44:48])
        and (h.command == FWD or h.delay_ms == 0 and h.next_key_id == 0)
        and (h.command in (FWD, DELIVER, SURB_REPLY) or zero(h.next))
        and (h.command in (SURB_REPLY, PING) or zero(h.mark))
    )
    if not canonical:
        raise Rejected("routing")


@dataclass
class Content:
    kind: int
    surb: bytes  # empty if there is none
    body: bytes


def parse_content(b):
    """§5"""
    if len(b) != PAYLOAD:
        raise Rejected("size")
    if not zero(b[:32]):
        raise Rejected("payload")
    kind, flags, length, rest, surb = b[32], b[33], number(b[34:36]), b[36:], b""
    if flags > 1:
        raise Rejected("content")
    if flags:
        surb, rest = rest[:SURB], rest[SURB:]
        parse_surb(surb)
    if length > len(rest) or kind == 0 and length > 0 or not zero(rest[length:]):
        raise Rejected("content")
    return Content(kind, surb, rest[:length])


def write_content(c):
    """§5"""
    out = bytes(32) + bytes([c.kind, 1 if c.surb else 0]) + len(c.body).to_bytes(2, "big") + c.surb + c.body
    return out.ljust(PAYLOAD, b"\x00")


@dataclass
class ReplyBlock:
    head: bytes
    first: bytes
    body_key: bytes
    expires_hours: int
    name: bytes


def parse_surb(b):
    """§6.2"""
    if len(b) != SURB:
        raise Rejected("surb")
    try:
        layer, _ = parse_prefix(b)
    except Rejected:
        raise Rejected("surb") from None
    tail = b[-SURB_TAIL:]
    if layer != 1 or not zero(tail[68:]):
        raise Rejected("surb")
    name = hashlib.sha256(b"postern/p1 reply: name of a block" + b).digest()[:16]
    return ReplyBlock(b[:-SURB_TAIL], tail[:32], tail[32:64], number(tail[64:68]), name)


def use_surb(b, content, now_hours):
    """§6.3"""
    block = parse_surb(b)
    if now_hours >= block.expires_hours:
        raise Rejected("expired")
    return block.head + Adiantum(block.body_key).encrypt(write_content(content))


def open_reply(seed, mark, payload):
    """§6.4"""
    def key(label):
        return Adiantum(xwing.hkdf(seed, mark, label, 32))
    for i in (4, 3, 2, 1):
        payload = key(b"postern/p1 reply: layer %d" % i).encrypt(payload)
    return parse_content(key(b"postern/p1 reply: body").decrypt(payload))
