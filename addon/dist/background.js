// The add-on's background: the one place that changes what is kept. It answers the add-on's pages and the button in web
// pages, and does what the context menu and the shortcuts ask for. Browsers end it when it is idle; nothing is
// kept in its variables.
import { Desk } from './desk.js';
import { Keep } from './keep.js';
import { Failure } from './kinds.js';
import { siteOf } from './site.js';
const desk = new Desk({ keep: new Keep(chrome.storage.session, chrome.storage.local) });
const text = (name, ...args) => chrome.i18n.getMessage(name, args);
const pages = {
    state: () => desk.state(),
    connect: (a) => desk.connect(a.link),
    forget: () => desk.forget(),
    unlock: (a) => desk.unlock(a.passphrase),
    lock: () => desk.lock(),
    seal: (a) => desk.seal(a.passphrase),
    settings: (a) => desk.settings(a.settings),
    make: (a) => desk.make(a.site, a.private),
    site: (a) => desk.site(a.site),
    fill: (a) => fill(a.tab, a.address),
    list: (a) => desk.list(a.search, a.cursor),
    pause: (a) => desk.pause(a.address, a.paused),
    remove: async (a) => (await desk.remove(a.address), {}),
    restore: async (a) => (await desk.restore(a.address), {}),
    rotate: () => desk.rotate(),
};
/** The site of a tab, or of the frame if the browser does not tell us the tab's. */
const siteOfSender = (s) => siteOf(s.tab?.url ?? s.url);
const fields = {
    fieldMake: (_, s) => desk.make(siteOfSender(s), s.tab?.incognito === true),
    fieldSite: async (_, s) => ({ entries: await desk.site(s.tab?.incognito ? '' : siteOfSender(s)), place: (await desk.state()).settings.place }),
    fieldPlace: async () => ({ place: (await desk.state()).settings.place }),
    fieldSetup: async () => (await chrome.runtime.openOptionsPage(), {}),
};
chrome.runtime.onMessage.addListener((message, sender, reply) => {
    const own = sender.url?.startsWith(chrome.runtime.getURL('')) ?? false;
    const name = String(message?.do);
    const table = (own ? pages : fields);
    const run = Object.hasOwn(table, name) ? table[name] : undefined;
    if (sender.id !== chrome.runtime.id || !run)
        return false;
    run(message, sender).then((ok) => reply({ ok }), (err) => reply({ error: err instanceof Failure ? err.code : 'answer' }));
    return true;
});
/** Brings fields.js into all frames of a tab that the browser opens to us; false if it opens none. */
async function enter(tab) {
    try {
        await chrome.scripting.executeScript({ target: { tabId: tab, allFrames: true }, files: ['fields.js'] });
        return true;
    }
    catch {
        return false;
    }
}
/** The frame with the field that is most likely meant, or undefined. */
async function frameWanted(tab) {
    const all = await chrome.scripting.executeScript({ target: { tabId: tab, allFrames: true }, func: () => posternFields.wanted() });
    let best;
    for (const { frameId, result } of all)
        if (result && result > (best?.result ?? 0))
            best = { frameId, result };
    return best?.frameId;
}
async function fillFrame(tab, frame, address) {
    const [r] = await chrome.scripting.executeScript({
        target: { tabId: tab, frameIds: [frame] }, func: (a) => posternFields.fillHere(a), args: [address],
    });
    return r?.result === true;
}
async function fill(tab, address) {
    if (!(await enter(tab)))
        throw new Failure('fill');
    const frame = await frameWanted(tab);
    if (frame === undefined || !(await fillFrame(tab, frame, address)))
        throw new Failure('fill');
    return true;
}
/** Says something on a page, or on the toolbar where there is no page. */
async function say(tab, words) {
    try {
        await chrome.scripting.executeScript({ target: { tabId: tab }, func: (w) => posternFields.toast(w), args: [words] });
    }
    catch {
        await chrome.action.setBadgeText({ text: '!', tabId: tab });
        await chrome.action.setTitle({ title: words, tabId: tab });
    }
}
async function copyFrom(tab, address) {
    try {
        if (typeof document !== 'undefined') { // Firefox: the background is a page
            await navigator.clipboard.writeText(address);
            return true;
        }
    }
    catch {
        // the page's own way is tried
    }
    const [r] = await chrome.scripting.executeScript({ target: { tabId: tab }, func: (a) => posternFields.copy(a), args: [address] });
    return r?.result === true;
}
/** Fills the field that the user is at, or copies if there is none. What went wrong is said on the page. */
async function assist(tab, how, frame) {
    if (tab?.id === undefined)
        return;
    const open = await enter(tab.id);
    try {
        const site = siteOf(tab.url);
        const known = how === 'again' && !tab.incognito ? await desk.site(site) : [];
        const address = known[0]?.address ?? (await desk.make(site, tab.incognito)).address;
        const at = how === 'copy' || !open ? undefined : (frame ?? (await frameWanted(tab.id)));
        if (at !== undefined && (await fillFrame(tab.id, at, address)))
            await say(tab.id, text('filled', address));
        else if (await copyFrom(tab.id, address))
            await say(tab.id, text('copiedAddress', address));
        else
            await say(tab.id, text('copyYourself', address));
    }
    catch (err) {
        const code = err instanceof Failure ? err.code : 'fill';
        if (code === 'unset' || code === 'locked')
            await chrome.runtime.openOptionsPage();
        else
            await say(tab.id, text('error_' + code));
    }
}
// Some browsers have no context menu or no shortcuts (Firefox on Android): each is asked for before it is used.
function makeMenus() {
    if (!chrome.contextMenus)
        return;
    chrome.contextMenus.removeAll(() => {
        const add = (id, contexts) => chrome.contextMenus.create({ id, title: text('menu_' + id), contexts }, () => void chrome.runtime.lastError);
        add('new', ['editable']);
        add('again', ['editable']);
        add('copy', ['page', 'frame', 'selection', 'link', 'image']);
        add('manage', ['page', 'frame', 'editable', 'action']);
    });
}
chrome.contextMenus?.onClicked.addListener((info, tab) => {
    if (info.menuItemId === 'manage')
        void chrome.runtime.openOptionsPage();
    else
        void assist(tab, info.menuItemId, info.menuItemId === 'copy' ? undefined : info.frameId);
});
chrome.commands?.onCommand.addListener((command, tab) => {
    if (command === 'manage')
        void chrome.runtime.openOptionsPage();
    else if (command === 'fill')
        void assist(tab, 'new');
});
// The button is there on the sites that the user allowed.
const scripts = ['fields.js', 'button.js'];
async function syncSites() {
    const { origins = [] } = await chrome.permissions.getAll();
    const old = await chrome.scripting.getRegisteredContentScripts({ ids: ['button'] });
    if (origins.length === 0) {
        if (old.length > 0)
            await chrome.scripting.unregisterContentScripts({ ids: ['button'] });
        return;
    }
    const script = { id: 'button', js: scripts, matches: origins, allFrames: true, runAt: 'document_idle', persistAcrossSessions: true };
    if (old.length > 0)
        await chrome.scripting.updateContentScripts([script]);
    else
        await chrome.scripting.registerContentScripts([script]);
}
/** Calls come one after another, since each looks at what the one before left. */
let syncing = Promise.resolve();
const sync = () => (syncing = syncing.then(syncSites, syncSites));
/** Pages that are open get the button at once. */
async function showNow(origins) {
    await sync();
    for (const tab of await chrome.tabs.query({ url: origins })) {
        if (tab.id !== undefined)
            await chrome.scripting.executeScript({ target: { tabId: tab.id, allFrames: true }, files: scripts }).catch(() => undefined);
    }
}
chrome.permissions.onAdded.addListener((p) => void showNow(p.origins ?? []));
chrome.permissions.onRemoved.addListener(() => void sync());
function begin() {
    makeMenus();
    void sync();
}
chrome.runtime.onInstalled.addListener(begin);
chrome.runtime.onStartup.addListener(begin);
