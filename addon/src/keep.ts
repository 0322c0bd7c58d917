// Where the secrets are. While the browser runs they lie in the session's storage, which is memory and closed to web
// pages. If the user sets a passphrase they lie in the profile, too, encrypted: AES-256-GCM with a key made of
// the passphrase by PBKDF2-HMAC-SHA-256 (WebCrypto has nothing costlier). Without one they end with the browser.

import { fromBase64, toBase64, utf8 } from './codec.js';
import { defaults, Failure, type Secret, type Settings } from './kinds.js';

export const rounds = 600_000;
export const shortest = 8; // characters of a passphrase
const mostRounds = 10_000_000; // that a stored record can make us work

interface Sealed {
  version: 1;
  rounds: number;
  salt: string;
  nonce: string;
  box: string;
}

/** The key of a passphrase, 32 bytes. */
async function stretch(passphrase: string, salt: Uint8Array<ArrayBuffer>, n: number): Promise<Uint8Array<ArrayBuffer>> {
  const base = await crypto.subtle.importKey('raw', utf8(passphrase.normalize('NFC')), 'PBKDF2', false, ['deriveBits']);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt, iterations: n }, base, 256));
}

const aes = (key: Uint8Array<ArrayBuffer>, use: KeyUsage) => crypto.subtle.importKey('raw', key, 'AES-GCM', false, [use]);

/** What is authenticated beside the text. */
const header = (s: { rounds: number; salt: string }) => utf8(`postern add-on 1 ${s.rounds} ${s.salt}`);

/** Lengths in steps, so that the record does not tell how many aliases there are. */
const step = 4096;

function pad(text: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(Math.ceil((text.length + 1) / step) * step);
  out.set(text);
  out[text.length] = 0x80;
  return out;
}

export async function sealSecret(secret: Secret, key: Uint8Array<ArrayBuffer>, salt: string, n: number): Promise<Sealed> {
  const nonce = crypto.getRandomValues(new Uint8Array(12));
  const box = await crypto.subtle.encrypt(
    { name: 'AES-GCM', iv: nonce, additionalData: header({ rounds: n, salt }) }, await aes(key, 'encrypt'), pad(utf8(JSON.stringify(secret))));
  return { version: 1, rounds: n, salt, nonce: toBase64(nonce), box: toBase64(new Uint8Array(box)) };
}

/** Throws Failure "passphrase" if the key is another, or the record was changed. */
export async function openSecret(s: Sealed, key: Uint8Array<ArrayBuffer>): Promise<Secret> {
  try {
    const text = new Uint8Array(await crypto.subtle.decrypt(
      { name: 'AES-GCM', iv: fromBase64(s.nonce), additionalData: header(s) }, await aes(key, 'decrypt'), fromBase64(s.box)));
    return JSON.parse(new TextDecoder().decode(text.subarray(0, text.lastIndexOf(0x80)))) as Secret;
  } catch {
    throw new Failure('passphrase');
  }
}

/** The browser's storage, as far as it is used. */
export interface Area {
  get(keys: string[]): Promise<Record<string, unknown>>;
  set(items: Record<string, unknown>): Promise<void>;
  remove(keys: string[]): Promise<void>;
}

/** The secrets and the settings. Calls must come one after another (desk.ts). */
export class Keep {
  constructor(private session: Area, private local: Area) {}

  /** The secrets; null while there are none, or they are locked. */
  async read(): Promise<Secret | null> {
    return ((await this.session.get(['secret']))['secret'] as Secret | undefined) ?? null;
  }

  async write(secret: Secret): Promise<void> {
    const { key } = (await this.session.get(['key'])) as { key?: string };
    const old = await this.sealed();
    if (key && old) await this.local.set({ sealed: await sealSecret(secret, fromBase64(key), old.salt, old.rounds) });
    else if (old) throw new Failure('locked'); // a new connection does not take the place of one that is locked
    await this.session.set({ secret });
  }

  async sealed(): Promise<Sealed | null> {
    return ((await this.local.get(['sealed']))['sealed'] as Sealed | undefined) ?? null;
  }

  async unlock(passphrase: string): Promise<void> {
    const s = await this.sealed();
    if (!s || s.version !== 1 || !(s.rounds > 0 && s.rounds <= mostRounds)) throw new Failure('passphrase');
    const key = await stretch(passphrase, fromBase64(s.salt), s.rounds);
    await this.session.set({ secret: await openSecret(s, key), key: toBase64(key) });
  }

  /** Without a passphrase there is nothing to unlock with: Failure "unset". */
  async lock(): Promise<void> {
    if (!(await this.sealed())) throw new Failure('unset');
    await this.session.remove(['secret', 'key']);
  }

  /** Sets, changes or (with "") takes away the passphrase. */
  async passphrase(text: string): Promise<void> {
    const secret = await this.read();
    if (!secret) throw new Failure('locked');
    if (text === '') {
      await this.local.remove(['sealed']);
      await this.session.remove(['key']);
      return;
    }
    if ([...text].length < shortest) throw new Failure('short');
    const salt = crypto.getRandomValues(new Uint8Array(16));
    const key = await stretch(text, salt, rounds);
    await this.local.set({ sealed: await sealSecret(secret, key, toBase64(salt), rounds) });
    await this.session.set({ key: toBase64(key) });
  }

  async forget(): Promise<void> {
    await this.session.remove(['secret', 'key']);
    await this.local.remove(['sealed']);
  }

  async settings(): Promise<Settings> {
    return { ...defaults, ...((await this.local.get(['settings']))['settings'] as Partial<Settings> | undefined) };
  }

  async setSettings(s: Settings): Promise<void> {
    await this.local.set({ settings: s });
  }
}
