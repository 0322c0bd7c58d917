// Where the secrets are. While the browser runs they lie in the session's storage, which is memory and closed to web
// pages. If the user sets a passphrase they lie in the profile, too, encrypted: AES-256-GCM with a key made of
// the passphrase by PBKDF2-HMAC-SHA-256 (WebCrypto has nothing costlier). Without one they end with the browser.
import { fromBase64, toBase64, utf8 } from './codec.js';
import { defaults, Failure } from './kinds.js';
export const rounds = 600_000;
export const shortest = 8; // characters of a passphrase
const mostRounds = 10_000_000; // that a stored record can make us work
/** The key of a passphrase, 32 bytes. */
async function stretch(passphrase, salt, n) {
    const base = await crypto.subtle.importKey('raw', utf8(passphrase.normalize('NFC')), 'PBKDF2', false, ['deriveBits']);
    return new Uint8Array(await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt, iterations: n }, base, 256));
}
const aes = (key, use) => crypto.subtle.importKey('raw', key, 'AES-GCM', false, [use]);
/** What is authenticated beside the text. */
const header = (s) => utf8(`postern add-on 1 ${s.rounds} ${s.salt}`);
/** Lengths in steps, so that the record does not tell how many aliases there are. */
const step = 4096;
function pad(text) {
    const out = new Uint8Array(Math.ceil((text.length + 1) / step) * step);
    out.set(text);
    out[text.length] = 0x80;
    return out;
}
export async function sealSecret(secret, key, salt, n) {
    const nonce = crypto.getRandomValues(new Uint8Array(12));
    const box = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce, additionalData: header({ rounds: n, salt }) }, await aes(key, 'encrypt'), pad(utf8(JSON.stringify(secret))));
    return { version: 1, rounds: n, salt, nonce: toBase64(nonce), box: toBase64(new Uint8Array(box)) };
}
/** Throws Failure "passphrase" if the key is another, or the record was changed. */
export async function openSecret(s, key) {
    try {
        const text = new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv: fromBase64(s.nonce), additionalData: header(s) }, await aes(key, 'decrypt'), fromBase64(s.box)));
        return JSON.parse(new TextDecoder().decode(text.subarray(0, text.lastIndexOf(0x80))));
    }
    catch {
        throw new Failure('passphrase');
    }
}
/** The secrets and the settings. Calls must come one after another (desk.ts). */
export class Keep {
    session;
    local;
    constructor(session, local) {
        this.session = session;
        this.local = local;
    }
    /** The secrets; null while there are none, or they are locked. */
    async read() {
        return (await this.session.get(['secret']))['secret'] ?? null;
    }
    async write(secret) {
        const { key } = (await this.session.get(['key']));
        const old = await this.sealed();
        if (key && old)
            await this.local.set({ sealed: await sealSecret(secret, fromBase64(key), old.salt, old.rounds) });
        else if (old)
            throw new Failure('locked'); // a new connection does not take the place of one that is locked
        await this.session.set({ secret });
    }
    async sealed() {
        return (await this.local.get(['sealed']))['sealed'] ?? null;
    }
    async unlock(passphrase) {
        const s = await this.sealed();
        if (!s || s.version !== 1 || !(s.rounds > 0 && s.rounds <= mostRounds))
            throw new Failure('passphrase');
        const key = await stretch(passphrase, fromBase64(s.salt), s.rounds);
        await this.session.set({ secret: await openSecret(s, key), key: toBase64(key) });
    }
    /** Without a passphrase there is nothing to unlock with: Failure "unset". */
    async lock() {
        if (!(await this.sealed()))
            throw new Failure('unset');
        await this.session.remove(['secret', 'key']);
    }
    /** Sets, changes or (with "") takes away the passphrase. */
    async passphrase(text) {
        const secret = await this.read();
        if (!secret)
            throw new Failure('locked');
        if (text === '') {
            await this.local.remove(['sealed']);
            await this.session.remove(['key']);
            return;
        }
        if ([...text].length < shortest)
            throw new Failure('short');
        const salt = crypto.getRandomValues(new Uint8Array(16));
        const key = await stretch(text, salt, rounds);
        await this.local.set({ sealed: await sealSecret(secret, key, toBase64(salt), rounds) });
        await this.session.set({ key: toBase64(key) });
    }
    async forget() {
        await this.session.remove(['secret', 'key']);
        await this.local.remove(['sealed']);
    }
    async settings() {
        return { ...defaults, ...(await this.local.get(['settings']))['settings'] };
    }
    async setSettings(s) {
        await this.local.set({ settings: s });
    }
}
