// The server's own interface (openapi.json), as far as the add-on asks. A token goes into a header, never into an address;
// cookies are neither sent nor kept.
import { Failure } from './kinds.js';
/** Longer than a server needs, shorter than people wait. */
export const patience = 10_000;
const statuses = { 400: 'invalid', 401: 'token', 403: 'denied', 404: 'gone', 422: 'invalid', 429: 'busy' };
/** The server's codes of errors. */
const names = {
    auth: 'token', denied: 'denied', 'not-found': 'gone', invalid: 'invalid', exists: 'invalid', full: 'full', busy: 'busy', 'too-large': 'invalid', unsupported: 'denied',
};
export class API {
    server;
    token;
    get;
    constructor(server, token, get = fetch.bind(globalThis)) {
        this.server = server;
        this.token = token;
        this.get = get;
    }
    async call(method, path, body, limit = patience) {
        let r;
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
        }
        catch {
            throw new Failure('offline');
        }
        let value = {};
        try {
            if (r.status !== 204)
                value = await r.json();
        }
        catch {
            if (r.ok)
                throw new Failure('answer');
        }
        if (r.ok)
            return value;
        const name = value?.error?.code ?? '';
        throw new Failure(names[name] ?? statuses[r.status] ?? 'server');
    }
    async key() {
        const v = (await this.call('GET', 'key'));
        if (typeof v.key !== 'string' || !Array.isArray(v.domains) || typeof v.version !== 'number')
            throw new Failure('answer');
        return { key: v.key, domains: v.domains.filter((d) => typeof d === 'string'), version: v.version };
    }
    async create(c, limit) {
        return alias(await this.call('POST', 'aliases', c, limit));
    }
    async list(q, limit) {
        const query = new URLSearchParams();
        for (const [k, v] of Object.entries(q))
            if (v)
                query.set(k, String(v));
        const v = (await this.call('GET', `aliases?${query}`, undefined, limit));
        if (!Array.isArray(v.aliases))
            throw new Failure('answer');
        return { aliases: v.aliases.map(alias), next: typeof v.next === 'string' ? v.next : '' };
    }
    async change(address, what) {
        return alias(await this.call('PATCH', `aliases/${encodeURIComponent(address)}`, what));
    }
    async remove(address) {
        await this.call('DELETE', `aliases/${encodeURIComponent(address)}`);
    }
    async restore(address) {
        await this.call('POST', `aliases/${encodeURIComponent(address)}/restore`, {});
    }
    /** Gives the new token; the one of before is void. */
    async rotate() {
        const v = (await this.call('POST', 'token/rotate', {}));
        if (typeof v.token !== 'string' || !/^[A-Za-z0-9]{64}$/.test(v.token))
            throw new Failure('answer');
        return v.token;
    }
}
/** What the server said of an alias, in the types that the pages show. Throws Failure "answer". */
function alias(v) {
    const a = (v ?? {});
    const text = (k) => (typeof a[k] === 'string' ? a[k] : '');
    const count = (k) => (typeof a[k] === 'number' ? a[k] : 0);
    if (!/^[^\s@]+@[^\s@]+$/.test(text('address')))
        throw new Failure('answer');
    return {
        address: text('address'), site: text('site'), label: text('label'), state: text('state') || 'active', derived: a['derived'] === true,
        created: text('created'), last: text('last'), received: count('received'), refused: count('refused'), leaked: a['leaked'] === true,
    };
}
