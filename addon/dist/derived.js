// Derived aliases: local parts that whoever holds the alias key makes without asking the server, and that the
// server recognises (docs/aliases-derived.md). The Go side is mail/aliasname; both are tested with the same vectors.
import { concat, utf8 } from './codec.js';
export const keyLength = 32; // bytes
/** Numbers that the add-on draws from for one site. */
export const numbers = 1024;
const length = 20; // characters: 100 bits
const letters = 'abcdefghijklmnopqrstuvwxyz234567'; // base32 (RFC 4648, section 6) in lower case
const version = 1;
// Bits, from the first: version 4, nonce 40, tag 46, check sum 10.
const nonceBits = 40n;
const tagBits = 46n;
const domainContext = 'postern alias domain 1\0';
const nonceContext = 'postern alias nonce 1\0';
/** ASCII capitals alone are folded. */
const fold = (s) => s.replace(/[A-Z]/g, (c) => c.toLowerCase());
const sha256 = async (b) => new Uint8Array(await crypto.subtle.digest('SHA-256', b));
const hashDomain = async (domain) => (await sha256(utf8(domainContext + fold(domain)))).slice(0, 16);
/** The first 40 bits of HMAC-SHA256(key, context ‖ domain ‖ n ‖ label). */
async function nonceOf(key, domain, label, n) {
    const number = new Uint8Array(4);
    new DataView(number.buffer).setUint32(0, n);
    const k = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
    return new Uint8Array(await crypto.subtle.sign('HMAC', k, concat(utf8(nonceContext), domain, number, utf8(fold(label))))).slice(0, 5);
}
/** The first 46 bits of SHA-256(key ‖ version ‖ nonce ‖ domain): the length is fixed, so the plain prefix is a MAC. */
async function tagOf(key, nonce, domain) {
    return bits(await sha256(concat(key, new Uint8Array([version]), nonce, domain))) >> (256n - tagBits);
}
function bits(b) {
    let v = 0n;
    for (const byte of b)
        v = (v << 8n) | BigInt(byte);
    return v;
}
function characters(v, count) {
    let out = '';
    for (let i = count - 1; i >= 0; i--)
        out += letters[Number((v >> BigInt(5 * i)) & 31n)];
    return out;
}
/** CRC-10/ATM (x^10 + x^9 + x^5 + x^4 + x + 1) of the characters' values, from all ones. */
function checkSum(chars) {
    let sum = 0x3ff;
    for (const c of chars) {
        const v = letters.indexOf(c);
        for (let bit = 4; bit >= 0; bit--) {
            const top = ((sum >> 9) & 1) ^ ((v >> bit) & 1);
            sum = (sum << 1) & 0x3ff;
            if (top)
                sum ^= 0x233;
        }
    }
    return BigInt(sum);
}
/**
 * Gives the local part that a key of 32 bytes makes for a label, usually a site's host: the same for the same key, domain,
 * label and n (0 to 2^32-1).
 */
export async function derive(key, domain, label, n) {
    if (key.length !== keyLength)
        throw new RangeError('an alias key has 32 bytes');
    const d = await hashDomain(domain);
    const nonce = await nonceOf(key, d, label, n);
    const head = characters((((BigInt(version) << nonceBits) | bits(nonce)) << tagBits) | (await tagOf(key, nonce, d)), 18);
    return head + characters(checkSum(head), 2);
}
/** Reads a local part in any capitals; null if it has not the derived form: length, alphabet, version, check sum. */
function parse(local) {
    const text = fold(local);
    if (text.length !== length || [...text].some((c) => !letters.includes(c)))
        return null;
    if (characters(checkSum(text.slice(0, 18)), 2) !== text.slice(18))
        return null;
    let v = 0n;
    for (const c of text.slice(0, 18))
        v = (v << 5n) | BigInt(letters.indexOf(c));
    if (v >> (nonceBits + tagBits) !== BigInt(version))
        return null;
    const nonce = new Uint8Array(5);
    for (let i = 0; i < 5; i++)
        nonce[i] = Number((v >> (tagBits + BigInt(8 * (4 - i)))) & 255n);
    return { nonce, tag: v & ((1n << tagBits) - 1n) };
}
/** Whether a local part has the form of a derived one. */
export function derivedForm(local) {
    return parse(local) !== null;
}
/** Whether the key made a local part for a domain. */
export async function verify(key, domain, local) {
    const p = parse(local);
    return p !== null && (await tagOf(key, p.nonce, await hashDomain(domain))) === p.tag;
}
