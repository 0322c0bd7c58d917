// Bytes to text and back.
export function utf8(text) {
    return new TextEncoder().encode(text);
}
export function concat(...parts) {
    const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) {
        out.set(p, at);
        at += p.length;
    }
    return out;
}
export function toBase64(bytes) {
    let text = '';
    for (const b of bytes)
        text += String.fromCharCode(b);
    return btoa(text);
}
/** Throws if text is not base64. */
export function fromBase64(text) {
    const raw = atob(text);
    const out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++)
        out[i] = raw.charCodeAt(i);
    return out;
}
