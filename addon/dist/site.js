// Names of sites, and links that set the add-on up.
import { Failure } from './kinds.js';
/** The name under which a site is remembered: its host, without "www."; "" for what is no web page. */
export function siteOf(url) {
    if (!url)
        return '';
    let u;
    try {
        u = new URL(url);
    }
    catch {
        return '';
    }
    if (u.protocol !== 'https:' && u.protocol !== 'http:')
        return '';
    return u.hostname.replace(/^www\./, '').replace(/\.$/, '');
}
/** Whether an alias that was made for one site is offered on another: the same, or one below the other. */
export function sameSite(a, b) {
    if (!a || !b)
        return false;
    if (a === b)
        return true;
    if (/^[\d.]+$|:/.test(a + b))
        return false; // network addresses have no names below them
    return (a.endsWith('.' + b) && b.includes('.')) || (b.endsWith('.' + a) && a.includes('.'));
}
/** The pattern of one page's host, for the browser's question whether the add-on may work there; "" if there is none. */
export function patternOf(url) {
    if (!siteOf(url))
        return '';
    const u = new URL(url);
    return `${u.protocol}//${u.hostname}/*`;
}
const tokenForm = /^[A-Za-z0-9]{64}$/;
/** Hosts to which a token may go without TLS: this machine, and onion services, which bring encryption along. */
function needsNoTLS(host) {
    return host === 'localhost' || host === '127.0.0.1' || host === '[::1]' || host.endsWith('.onion');
}
const connectPath = '/aliases/connect';
/** Whether a page is a server's own about the add-on, with a link or where links are made. */
export function isConnectPage(url) {
    return siteOf(url) !== '' && new URL(url).pathname === connectPath;
}
/** Reads https://HOST/aliases/connect#token=TOKEN. Throws Failure "link". */
export function parseLink(link) {
    let u;
    try {
        u = new URL(link.trim());
    }
    catch {
        throw new Failure('link');
    }
    const token = new URLSearchParams(u.hash.slice(1)).get('token') ?? '';
    if (u.protocol !== 'https:' && !(u.protocol === 'http:' && needsNoTLS(u.hostname)))
        throw new Failure('link');
    if (u.pathname !== connectPath || u.username || !tokenForm.test(token))
        throw new Failure('link');
    return { server: u.origin, token };
}
/** Whether a page is one that sets the add-on up. */
export function isLink(url) {
    try {
        parseLink(url ?? '');
        return true;
    }
    catch {
        return false;
    }
}
