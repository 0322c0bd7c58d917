// What the add-on does with aliases, over the server's interface and what is kept here. One call at a time changes
// what is kept.

import { API } from './api.js';
import { fromBase64 } from './codec.js';
import { derive, numbers } from './derived.js';
import type { Keep } from './keep.js';
import { Failure, type Alias, type Entry, type Secret, type Settings, type State } from './kinds.js';
import { parseLink, sameSite } from './site.js';

export const mostEntries = 2000; // that are remembered
const mostTries = 5; // to tell the server for which site an alias was derived
const tellAtOnce = 3; // such aliases that are told at one time
const soon = 3_000; // ms after which a new alias is derived here instead of waited for
const shortly = 2_000; // ms that a list of a site's aliases may take

export interface DeskOptions {
  keep: Keep;
  fetch?: typeof fetch;
  now?: () => number;
  random?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

export class Desk {
  private turn: Promise<unknown> = Promise.resolve();
  private now: () => number;
  private random: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;

  constructor(private o: DeskOptions) {
    this.now = o.now ?? Date.now;
    this.random = o.random ?? ((b) => crypto.getRandomValues(b));
  }

  private api(s: Secret): API {
    return new API(s.server, s.token, this.o.fetch);
  }

  /** Runs one change of what is kept, after those before it. */
  private alone<T>(f: () => Promise<T>): Promise<T> {
    const next = this.turn.then(f, f);
    this.turn = next.catch(() => undefined);
    return next;
  }

  private async secret(): Promise<Secret> {
    const s = await this.o.keep.read();
    if (!s) throw new Failure((await this.o.keep.sealed()) ? 'locked' : 'unset');
    return s;
  }

  /** Changes the secrets if they are still those of the same server and token. */
  private edit(of: Secret, f: (s: Secret) => void): Promise<void> {
    return this.alone(async () => {
      const s = await this.o.keep.read();
      if (!s || s.server !== of.server || s.token !== of.token) return;
      f(s);
      await this.o.keep.write(s);
    });
  }

  async state(): Promise<State> {
    const s = await this.o.keep.read();
    const sealed = (await this.o.keep.sealed()) !== null;
    return {
      phase: s ? 'ready' : sealed ? 'locked' : 'unset',
      host: s ? new URL(s.server).host : '',
      domains: s?.domains ?? [],
      sealed,
      offline: !!s?.key,
      settings: await this.o.keep.settings(),
    };
  }

  /** Takes a link, after the server has said that its token is good. A connection of before ends. */
  async connect(link: string): Promise<State> {
    const { server, token } = parseLink(link);
    const s: Secret = { server, token, domains: [], key: '', book: [] };
    const api = this.api(s);
    try {
      const k = await api.key();
      s.domains = k.domains;
      if (k.version === 1 && k.domains.length > 0 && fromBase64(k.key).length === 32) s.key = k.key;
    } catch (err) {
      // A token that may not see the key can still make aliases; whether it is one shows when it does.
      if (!(err instanceof Failure && (err.code === 'denied' || err.code === 'gone'))) throw err;
    }
    await this.alone(() => this.o.keep.write(s));
    return this.state();
  }

  async forget(): Promise<State> {
    await this.alone(() => this.o.keep.forget());
    return this.state();
  }

  async unlock(passphrase: string): Promise<State> {
    await this.alone(() => this.o.keep.unlock(passphrase));
    return this.state();
  }

  async lock(): Promise<State> {
    await this.alone(() => this.o.keep.lock());
    return this.state();
  }

  async seal(passphrase: string): Promise<State> {
    await this.alone(() => this.o.keep.passphrase(passphrase));
    return this.state();
  }

  async settings(s: Settings): Promise<State> {
    await this.alone(() => this.o.keep.setSettings(s));
    return this.state();
  }

  /**
   * Makes an alias: at the server, or here if it should be derived, or if the server cannot be asked or takes too long.
   * In a private window nothing is remembered and the server does not learn the site.
   */
  async make(site: string, secretly: boolean): Promise<{ address: string; derived: boolean }> {
    const s = await this.secret();
    const settings = await this.o.keep.settings();
    const known = secretly ? '' : site;
    if (settings.style !== 'derived') {
      const style = settings.style === 'site' && !known ? 'words' : settings.style;
      const domain = s.domains.includes(settings.domain) ? settings.domain : '';
      try {
        const a = await this.api(s).create({ style, ...(domain ? { domain } : {}), ...(known ? { site: known } : {}) }, s.key ? soon : undefined);
        await this.remember(s, { address: a.address, site: known, at: this.now(), derived: false, tries: -1 });
        void this.tell().catch(() => undefined);
        return { address: a.address, derived: false };
      } catch (err) {
        if (!(err instanceof Failure) || !s.key || !['offline', 'busy', 'server'].includes(err.code)) throw err;
      }
    }
    if (!s.key) throw new Failure('offline');
    const address = await this.deriveNew(s, settings, known);
    await this.remember(s, { address, site: known, at: this.now(), derived: true, tries: known ? 0 : -1 });
    return { address, derived: true };
  }

  private async deriveNew(s: Secret, settings: Settings, site: string): Promise<string> {
    const domain = s.domains.includes(settings.domain) ? settings.domain : s.domains[0]!;
    for (;;) {
      // A number that is drawn, not counted: after the browser has forgotten it, an alias that was deleted must not come again.
      const n = new DataView(this.random(new Uint8Array(4)).buffer).getUint32(0) % numbers;
      const address = (await derive(fromBase64(s.key), domain, site, n)) + '@' + domain;
      if (!s.book.some((e) => e.address === address)) return address;
    }
  }

  private async remember(s: Secret, e: Entry): Promise<void> {
    if (e.site === '' && !e.derived) return;
    if (e.site === '') return;
    await this.edit(s, (now) => {
      now.book = [e, ...now.book.filter((old) => old.address !== e.address)].slice(0, mostEntries);
    });
  }

  /** The aliases for a site, newest first: those that are remembered here, and those that the server knows. */
  async site(site: string): Promise<Entry[]> {
    const s = await this.secret();
    if (!site) return [];
    const found = new Map<string, Entry>();
    for (const e of s.book) if (sameSite(e.site, site)) found.set(e.address, e);
    try {
      for (const a of (await this.api(s).list({ site, limit: 20 }, shortly)).aliases) {
        if (a.state !== 'active') found.delete(a.address);
        else if (!found.has(a.address)) found.set(a.address, { address: a.address, site: a.site, at: Date.parse(a.created) || 0, derived: a.derived, tries: -1 });
      }
    } catch {
      // what is remembered here is what there is
    }
    return [...found.values()].sort((a, b) => b.at - a.at);
  }

  /** Tells the server for which sites aliases were derived while it was not asked. */
  async tell(): Promise<void> {
    const s = await this.secret();
    for (const e of s.book.filter((b) => b.tries >= 0 && b.tries < mostTries).slice(0, tellAtOnce)) {
      let tries = -1;
      try {
        await this.api(s).change(e.address, { site: e.site });
      } catch (err) {
        if (err instanceof Failure && err.code === 'offline') return;
        tries = e.tries + 1;
      }
      await this.edit(s, (now) => {
        for (const b of now.book) if (b.address === e.address) b.tries = tries;
      });
    }
  }

  async list(search: string, cursor: string): Promise<{ aliases: Alias[]; next: string }> {
    const s = await this.secret();
    await this.tell();
    return this.api(s).list({ search, cursor, limit: 50 });
  }

  async pause(address: string, paused: boolean): Promise<Alias> {
    return this.api(await this.secret()).change(address, { paused });
  }

  /** Deletes an alias. One that was derived here and never got a mail may be unknown to the server: then it is forgotten. */
  async remove(address: string): Promise<void> {
    const s = await this.secret();
    const here = s.book.find((e) => e.address === address);
    try {
      await this.api(s).remove(address);
    } catch (err) {
      if (!(here?.derived && err instanceof Failure && (err.code === 'gone' || err.code === 'offline'))) throw err;
    }
    await this.edit(s, (now) => {
      now.book = now.book.filter((e) => e.address !== address);
    });
  }

  async restore(address: string): Promise<void> {
    await this.api(await this.secret()).restore(address);
  }

  /** Puts a new token in the place of the one in use. */
  async rotate(): Promise<State> {
    await this.alone(async () => {
      const s = await this.secret();
      s.token = await this.api(s).rotate();
      await this.o.keep.write(s);
    });
    return this.state();
  }
}
