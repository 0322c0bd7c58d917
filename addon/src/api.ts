// The server's own interface (openapi.json), as far as the add-on asks. A token goes into a header, never into an address;
// cookies are neither sent nor kept.

import { Failure, type Alias, type Code } from './kinds.js';

/** Longer than a server needs, shorter than people wait. */
export const patience = 10_000;

export interface Create {
  style?: string;
  domain?: string;
  site?: string;
}

const statuses: Record<number, Code> = { 400: 'invalid', 401: 'token', 403: 'denied', 404: 'gone', 422: 'invalid', 429: 'busy' };
/** The server's codes of errors. */
const names: Record<string, Code> = {
  auth: 'token', denied: 'denied', 'not-found': 'gone', invalid: 'invalid', exists: 'invalid', full: 'full', busy: 'busy', 'too-large': 'invalid', unsupported: 'denied',
};

export class API {
  constructor(readonly server: string, private token: string, private get: typeof fetch = fetch.bind(globalThis)) {}

  private async call(method: string, path: string, body?: object, limit = patience): Promise<unknown> {
    let r: Response;
    try {
      r = await this.get(`${this.server}/api/postern/v1/${path}`, {
        method,
        headers: { Authorization: `Bearer ${this.token}`, ...(body ? { 'Content-Type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
        credentials: 'omit',
        cache: 'no-store',
        redirect: 'error', // the token is for this server alone
        referrerPolicy: 'no-referrer',
        signal: AbortSignal.timeout(limit),
      });
    } catch {
      throw new Failure('offline');
    }
    let value: unknown = {};
    try {
      if (r.status !== 204) value = await r.json();
    } catch {
      if (r.ok) throw new Failure('answer');
    }
    if (r.ok) return value;
    const name = (value as { error?: { code?: string } } | null)?.error?.code ?? '';
    throw new Failure(names[name] ?? statuses[r.status] ?? 'server');
  }

  async key(): Promise<{ key: string; domains: string[]; version: number }> {
    const v = (await this.call('GET', 'key')) as { key?: unknown; domains?: unknown; version?: unknown };
    if (typeof v.key !== 'string' || !Array.isArray(v.domains) || typeof v.version !== 'number') throw new Failure('answer');
    return { key: v.key, domains: v.domains.filter((d): d is string => typeof d === 'string'), version: v.version };
  }

  async create(c: Create, limit?: number): Promise<Alias> {
    return alias(await this.call('POST', 'aliases', c, limit));
  }

  async list(q: { search?: string; site?: string; cursor?: string; limit?: number }, limit?: number): Promise<{ aliases: Alias[]; next: string }> {
    const query = new URLSearchParams();
    for (const [k, v] of Object.entries(q)) if (v) query.set(k, String(v));
    const v = (await this.call('GET', `aliases?${query}`, undefined, limit)) as { aliases?: unknown; next?: unknown };
    if (!Array.isArray(v.aliases)) throw new Failure('answer');
    return { aliases: v.aliases.map(alias), next: typeof v.next === 'string' ? v.next : '' };
  }

  async change(address: string, what: { paused?: boolean; site?: string; label?: string }): Promise<Alias> {
    return alias(await this.call('PATCH', `aliases/${encodeURIComponent(address)}`, what));
  }

  async remove(address: string): Promise<void> {
    await this.call('DELETE', `aliases/${encodeURIComponent(address)}`);
  }

  async restore(address: string): Promise<void> {
    await this.call('POST', `aliases/${encodeURIComponent(address)}/restore`, {});
  }

  /** Gives the new token; the one of before is void. */
  async rotate(): Promise<string> {
    const v = (await this.call('POST', 'token/rotate', {})) as { token?: unknown };
    if (typeof v.token !== 'string' || !/^[A-Za-z0-9]{64}$/.test(v.token)) throw new Failure('answer');
    return v.token;
  }
}

/** What the server said of an alias, in the types that the pages show. Throws Failure "answer". */
function alias(v: unknown): Alias {
  const a = (v ?? {}) as Record<string, unknown>;
  const text = (k: string) => (typeof a[k] === 'string' ? (a[k] as string) : '');
  const count = (k: string) => (typeof a[k] === 'number' ? (a[k] as number) : 0);
  if (!/^[^\s@]+@[^\s@]+$/.test(text('address'))) throw new Failure('answer');
  return {
    address: text('address'), site: text('site'), label: text('label'), state: text('state') || 'active', derived: a['derived'] === true,
    created: text('created'), last: text('last'), received: count('received'), refused: count('refused'), leaked: a['leaked'] === true,
  };
}
