// What a click on the toolbar opens: a new alias, at once, and in the clipboard.
import { Failure } from './kinds.js';
import { button, byId, call, copy, failure, make, text, translate } from './page.js';
import { isConnectPage, isLink, patternOf, siteOf } from './site.js';
translate();
const [tab] = await chrome.tabs.query({ active: true, currentWindow: true });
const site = siteOf(tab?.url);
const address = byId('address');
function show(id, on = true) {
    byId(id).hidden = !on;
}
function say(words) {
    byId('status').textContent = words;
}
function failed(err) {
    byId('error').textContent = failure(err);
    show('error');
}
/** Runs what a button asks for, and shows what went wrong. */
async function attempt(run) {
    show('error', false);
    try {
        await run();
    }
    catch (err) {
        failed(err);
        if (err instanceof Failure && err.code === 'locked')
            await begin(false);
    }
}
async function connect(link) {
    await call('connect', { link });
    if (tab?.id !== undefined && isLink(tab.url)) {
        // The token need not stay in the address bar.
        await chrome.scripting.executeScript({ target: { tabId: tab.id }, func: () => history.replaceState(null, '', location.pathname) }).catch(() => undefined);
    }
    await begin(false);
}
async function take(a) {
    show('made');
    address.value = a;
    address.focus();
    address.select();
    say(text((await copy(a, address)) ? 'copied' : 'pressCopy'));
    address.select();
}
async function makeOne() {
    const made = await call('make', { site, private: tab?.incognito === true });
    await take(made.address);
    if (made.derived)
        say(byId('status').textContent + ' ' + text('derivedHere'));
    const row = byId('madeButtons');
    row.replaceChildren(button('copy', () => attempt(() => take(address.value))));
    if (site)
        row.append(button('fillIn', () => attempt(() => fill(address.value))));
    row.append(button('undo', () => attempt(async () => {
        await call('remove', { address: made.address });
        show('made', false);
        show('start');
    })));
}
async function fill(a) {
    await call('fill', { tab: tab.id, address: a });
    close();
}
function here(entries) {
    const list = byId('hereList');
    list.replaceChildren();
    for (const e of entries.filter((x) => x.address !== address.value).slice(0, 5)) {
        const li = make('li');
        const row = make('span', '', 'row');
        row.append(button('copy', () => attempt(() => take(e.address))), button('fillIn', () => attempt(() => fill(e.address))));
        for (const b of row.querySelectorAll('button'))
            b.setAttribute('aria-label', `${b.textContent} ${e.address}`);
        li.append(make('span', e.address, 'address'), row);
        list.append(li);
    }
    byId('hereTitle').textContent = text('usedHere', site);
    show('here', list.childElementCount > 0);
}
async function offer() {
    const pattern = patternOf(tab?.url);
    if (!pattern || (await chrome.permissions.contains({ origins: [pattern] })))
        return show('allow', false);
    const b = byId('allowSite');
    b.textContent = text('allowSite', site);
    show('allow');
    // The browser's question needs the click itself; what follows is the background's (showNow).
    b.onclick = () => void chrome.permissions.request({ origins: [pattern] }).then((yes) => {
        show('allow', !yes);
        byId('refused').textContent = yes ? '' : text('refusedSites');
    }, failed);
}
async function begin(first) {
    const state = await call('state', {});
    for (const id of ['unset', 'confirm', 'locked', 'made', 'start', 'here', 'allow'])
        show(id, false);
    if (first && isLink(tab?.url)) {
        byId('confirmHost').textContent = text('confirm', new URL(tab.url).host);
        show('confirm');
        byId('confirmYes').focus();
    }
    else if (state.phase === 'unset') {
        show('unset');
        byId('link').focus();
    }
    else if (state.phase === 'locked') {
        show('locked');
        byId('passphrase').focus();
    }
    else {
        void offer();
        // Nobody wants an alias for the page that has just set the add-on up.
        if (state.settings.click === 'new' && !isConnectPage(tab?.url))
            await attempt(makeOne);
        else {
            byId('connected').textContent = first ? '' : text('connectedTo', state.host);
            show('start');
        }
        if (site && !tab?.incognito)
            await call('site', { site }).then(here, () => undefined);
    }
}
byId('paste').addEventListener('submit', (e) => {
    e.preventDefault();
    void attempt(() => connect(byId('link').value));
});
byId('confirmYes').addEventListener('click', () => void attempt(() => connect(tab.url)));
byId('unlock').addEventListener('submit', (e) => {
    e.preventDefault();
    void attempt(async () => {
        await call('unlock', { passphrase: byId('passphrase').value });
        await begin(false);
    });
});
byId('makeNow').addEventListener('click', () => void attempt(async () => {
    await makeOne();
    show('start', false);
}));
byId('manage').addEventListener('click', () => {
    void chrome.runtime.openOptionsPage();
    close();
});
for (const c of (await chrome.commands?.getAll?.()) ?? []) {
    if (c.name === 'fill' && c.shortcut)
        byId('keys').textContent = text('shortcutFill', c.shortcut);
}
await attempt(() => begin(true));
