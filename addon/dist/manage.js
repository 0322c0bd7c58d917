// The page with everything that is done seldom: the connection, the list of aliases, settings, sites, shortcuts.
import { Failure } from './kinds.js';
import { button, byId, call, copy, failure, make, text, translate } from './page.js';
translate();
let state;
let next = '';
const error = byId('error');
function say(words) {
    byId('status').textContent = words;
}
/** Runs what a control asks for, and says how it went. */
async function attempt(run) {
    error.hidden = true;
    say('');
    try {
        await run();
    }
    catch (err) {
        error.textContent = failure(err);
        error.hidden = false;
        if (err instanceof Failure && err.code === 'locked')
            draw(await call('state', {}));
    }
}
const on = (id, event, run) => byId(id).addEventListener(event, (e) => {
    e.preventDefault();
    void attempt(run);
});
/** Takes what a field holds, and empties it. */
function taken(id) {
    const field = byId(id);
    const value = field.value;
    field.value = '';
    return value;
}
function draw(s) {
    state = s;
    const ready = s.phase === 'ready';
    byId('connected').textContent = s.phase === 'unset' ? text('unsetHow') : s.phase === 'locked' ? text('lockedTitle') : text('connectedTo', s.host);
    byId('paste').hidden = s.phase === 'locked';
    byId('unlock').hidden = s.phase !== 'locked';
    byId('aliases').hidden = byId('secrets').hidden = !ready;
    const row = byId('connectionButtons');
    row.replaceChildren();
    if (ready)
        row.append(button('rotate', () => attempt(rotate)));
    if (ready && s.sealed)
        row.append(button('lock', () => attempt(async () => draw(await call('lock', {})))));
    if (s.phase !== 'unset')
        row.append(confirmed('forget', 'forgetSure', async () => draw(await call('forget', {}))));
    byId('secretsNow').textContent = text(s.sealed ? 'sealedNow' : 'sessionNow');
    byId('sealButtons').replaceChildren(...(s.sealed ? [button('noPassphrase', () => attempt(async () => draw(await call('seal', { passphrase: '' }))))] : []));
    for (const id of ['style', 'place', 'click'])
        byId(id).value = s.settings[id];
    const domain = byId('domain');
    domain.replaceChildren(new Option(text('domainDefault'), ''), ...s.domains.map((d) => new Option(d, d)));
    domain.value = s.domains.includes(s.settings.domain) ? s.settings.domain : '';
}
/** A button that must be pressed twice. */
function confirmed(name, question, run) {
    let sure = false;
    const b = button(name, () => {
        if (sure)
            return void attempt(run);
        sure = true;
        b.textContent = text(question);
        return undefined;
    });
    b.addEventListener('blur', () => {
        sure = false;
        b.textContent = text(name);
    });
    return b;
}
async function rotate() {
    draw(await call('rotate', {}));
    say(text('rotated'));
}
// The list.
const day = (d) => (d ? new Date(d + 'T00:00:00Z').toLocaleDateString(chrome.i18n.getUILanguage(), { timeZone: 'UTC' }) : '–');
function row(a) {
    const li = make('li', '', 'alias');
    const head = make('p', '', 'line');
    head.append(make('strong', a.address, 'address'), ' ', make('span', text('state_' + a.state), 'state ' + a.state));
    if (a.leaked)
        head.append(' ', make('span', text('leaked'), 'state leaked'));
    const what = [a.label, a.site].filter(Boolean).join(' · ');
    const facts = text('facts', String(a.received), String(a.refused), day(a.created), day(a.last));
    const paused = a.state === 'paused';
    const buttons = make('p', '', 'row');
    buttons.append(button('copy', () => attempt(async () => say(text((await copy(a.address)) ? 'copiedAddress' : 'copyYourself', a.address)))), button(paused ? 'resume' : 'pause', () => attempt(async () => {
        const changed = await call('pause', { address: a.address, paused: !paused });
        const fresh = row(changed);
        li.replaceWith(fresh);
        fresh.querySelectorAll('button')[1]?.focus();
        say(text(paused ? 'resumed' : 'pausedNow', a.address));
    })), button('remove', () => attempt(async () => {
        await call('remove', { address: a.address });
        li.remove();
        offerUndo(a);
    })));
    for (const b of buttons.querySelectorAll('button'))
        b.setAttribute('aria-label', `${b.textContent} ${a.address}`);
    li.append(head, ...(what ? [make('p', what, 'line')] : []), make('p', facts, 'hint'), buttons);
    return li;
}
function offerUndo(a) {
    const p = byId('undo');
    const b = button('undo', () => attempt(async () => {
        await call('restore', { address: a.address });
        p.hidden = true;
        await list(true);
        say(text('restored', a.address));
    }));
    p.replaceChildren(text('removed', a.address), ' ', b);
    p.hidden = false;
    b.focus();
}
async function list(fresh) {
    const search = byId('query').value.trim();
    const page = await call('list', { search, cursor: fresh ? '' : next });
    next = page.next;
    const ul = byId('list');
    if (fresh)
        ul.replaceChildren();
    ul.append(...page.aliases.map(row));
    byId('more').hidden = !next;
    byId('none').hidden = ul.childElementCount > 0;
}
// Sites and shortcuts.
async function sites() {
    const { origins = [] } = await chrome.permissions.getAll();
    byId('siteList').replaceChildren(...origins.map((o) => {
        const li = make('li');
        const name = o.replace(/^[^:]*:\/\//, '').replace(/\/\*$/, '');
        const b = button('disallow', () => attempt(async () => {
            await chrome.permissions.remove({ origins: [o] });
            await sites();
        }));
        b.setAttribute('aria-label', `${b.textContent} ${name}`);
        li.append(make('span', name === '*' ? text('everySite', o.split(':')[0]) : o.startsWith('http://') ? `http://${name}` : name), ' ', b);
        return li;
    }));
}
async function shortcuts() {
    const all = (await chrome.commands?.getAll?.()) ?? [];
    byId('shortcuts').hidden = all.length === 0;
    byId('shortcutList').replaceChildren(...all.flatMap((c) => [
        make('dt', c.name?.startsWith('_execute') ? text('commandOpen') : c.description || c.name),
        make('dd', c.shortcut || text('noShortcut')),
    ]));
    const firefox = chrome.commands;
    if (firefox?.openShortcutSettings)
        byId('shortcutButtons').replaceChildren(button('changeShortcuts', () => attempt(() => firefox.openShortcutSettings())));
}
on('paste', 'submit', async () => {
    draw(await call('connect', { link: taken('link') }));
    say(text('connectedTo', state.host));
    await list(true);
});
on('unlock', 'submit', async () => {
    draw(await call('unlock', { passphrase: taken('passphrase') }));
    await list(true);
});
on('seal', 'submit', async () => {
    draw(await call('seal', { passphrase: taken('newPassphrase') }));
    say(text('sealedNow'));
});
on('search', 'submit', () => list(true));
on('more', 'click', () => list(false));
on('settings', 'change', async () => {
    const value = (id) => byId(id).value;
    const settings = {
        style: value('style'), domain: value('domain'),
        place: value('place'), click: value('click'),
    };
    draw(await call('settings', { settings }));
    say(text('saved'));
});
byId('settings').addEventListener('submit', (e) => e.preventDefault());
byId('allSites').addEventListener('click', () => {
    // The browser's question needs the click itself.
    const asked = chrome.permissions.request({ origins: ['https://*/*', 'http://*/*'] });
    void attempt(async () => {
        if (!(await asked))
            say(text('refusedSites'));
        await sites();
    });
});
chrome.permissions.onAdded.addListener(() => void sites());
await attempt(async () => {
    draw(await call('state', {}));
    await sites();
    await shortcuts();
    if (state.phase === 'ready')
        await list(true);
});
