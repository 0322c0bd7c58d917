"use strict";
// Fields of web pages: which are for e-mail addresses, and how one is filled. This is no module: browsers run
// content scripts as plain scripts, one after another in one scope that the page cannot see.
(() => {
    const scope = globalThis;
    if (scope.posternFields)
        return;
    const mostElements = 20_000; // that are looked at in one search
    const mostTargets = 20; // fields of which one is chosen
    // The word "e-mail" in names, labels and hints: "email", "e-mail", "mail address" and what other languages say.
    const words = /(^|[^a-z])e[-_ ]?mail|mail[-_ ]?addr|courriel|correo|correio|epost|e-post|sähköposti|почт|имейл|邮箱|邮件|郵件|メール|이메일|البريد/i;
    const others = /search|such|coupon|subject|betreff|filter/i;
    const textTypes = new Set(['text', 'email', '']);
    /** What a person reads beside a field. */
    const label = (f) => {
        const texts = [f.getAttribute('aria-label'), f.placeholder, ...[...(f.labels ?? [])].map((l) => l.textContent)];
        const root = f.getRootNode();
        for (const id of (f.getAttribute('aria-labelledby') ?? '').split(/\s+/)) {
            if (id && 'getElementById' in root)
                texts.push(root.getElementById(id)?.textContent ?? '');
        }
        return texts.filter(Boolean).join(' ').slice(0, 300);
    };
    const usable = (f) => {
        if (f.disabled || f.readOnly || f.getAttribute('aria-hidden') === 'true')
            return false;
        const box = f.getBoundingClientRect();
        if (box.width < 40 || box.height < 10)
            return false;
        const style = getComputedStyle(f);
        return style.visibility === 'visible' && style.display !== 'none' && Number(style.opacity) > 0.1;
    };
    const isEmail = (el) => {
        if (!(el instanceof HTMLInputElement))
            return false;
        const type = (el.getAttribute('type') ?? '').toLowerCase();
        if (!textTypes.has(type) || !usable(el))
            return false;
        if (type === 'email')
            return true;
        const auto = el.autocomplete.toLowerCase().split(/\s+/);
        if (auto.includes('email'))
            return true;
        if (auto.some((a) => a && !['on', 'off', 'username', 'nope', 'section-default'].includes(a) && !a.startsWith('section-')))
            return false;
        const name = `${el.name} ${el.id}`;
        if (others.test(name))
            return false;
        return words.test(name) || el.inputMode === 'email' || words.test(label(el));
    };
    /** The shadow root of an element; a closed one, too, where the browser shows it to add-ons. */
    const shadow = (el) => {
        if (el.shadowRoot)
            return el.shadowRoot;
        if (!el.localName.includes('-') && el.localName !== 'div' && el.localName !== 'span' && el.localName !== 'section')
            return null;
        try {
            const own = el.openOrClosedShadowRoot; // Firefox
            if (own !== undefined)
                return own;
            const { dom } = chrome; // Chromium
            return dom?.openOrClosedShadowRoot?.(el) ?? null;
        }
        catch {
            return null;
        }
    };
    /** The fields for addresses below a root, in shadow roots, too. */
    const all = (root, most) => {
        const found = [];
        const roots = [root];
        let looked = 0;
        for (let i = 0; i < roots.length; i++) {
            for (const el of roots[i].querySelectorAll('*')) {
                if (++looked > mostElements || found.length >= most)
                    return found;
                if (el.localName === 'input') {
                    if (isEmail(el))
                        found.push(el);
                }
                else {
                    const inner = shadow(el);
                    if (inner)
                        roots.push(inner);
                }
            }
        }
        return found;
    };
    /** The text field that has the focus, whatever it is for. */
    const focused = () => {
        let el = document.activeElement;
        for (let i = 0; el && i < 32; i++) {
            const inner = shadow(el)?.activeElement;
            if (!inner)
                break;
            el = inner;
        }
        if (!(el instanceof HTMLInputElement) || el.disabled || el.readOnly)
            return null;
        return textTypes.has((el.getAttribute('type') ?? '').toLowerCase()) ? el : null;
    };
    /** Writes as a person's typing would be seen: scripts that keep a value of their own (React) look for a change by the
     * native setter and an input event, and many check a field on change. */
    const fill = (field, address) => {
        field.focus();
        const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value')?.set;
        if (!set)
            return false;
        set.call(field, address);
        field.dispatchEvent(new InputEvent('input', { bubbles: true, composed: true, inputType: 'insertReplacementText', data: address }));
        field.dispatchEvent(new Event('change', { bubbles: true }));
        return field.value === address;
    };
    /** The field that has the focus; else the only one for addresses; else, where a newsletter is offered beside it, the only
     * one in a form that asks for a password, too. */
    const target = () => {
        const has = focused();
        if (has)
            return has;
        const fields = all(document, mostTargets);
        if (fields.length === 1)
            return fields[0];
        const accounts = fields.filter((f) => f.form?.querySelector('input[type=password]'));
        return accounts.length === 1 ? accounts[0] : null;
    };
    /** One that has the focus comes before one that has not, in the frame that has it before others. */
    const wanted = () => {
        const field = target();
        if (!field)
            return 0;
        return 1 + (focused() === field ? 2 : 0) + (document.hasFocus() ? 1 : 0);
    };
    /** Copies from a page, where the background of Chromium has no clipboard. */
    const copy = async (address) => {
        try {
            await navigator.clipboard.writeText(address);
            return true;
        }
        catch {
            const area = document.createElement('textarea');
            const before = focused();
            area.value = address;
            area.style.setProperty('position', 'fixed');
            area.style.setProperty('opacity', '0');
            document.documentElement.append(area);
            area.select();
            const done = document.execCommand('copy');
            area.remove();
            before?.focus();
            return done;
        }
    };
    let shown;
    const toast = (words) => {
        shown?.remove();
        const host = document.createElement('div');
        const line = document.createElement('div');
        const set = (el, styles) => Object.entries(styles).forEach(([k, v]) => el.style.setProperty(k, v, 'important'));
        set(host, { all: 'initial', position: 'fixed', right: '16px', bottom: '16px', 'z-index': '2147483647' });
        set(line, {
            font: '14px/1.4 system-ui, sans-serif', color: '#1b1b2f', background: '#f4f2ff', border: '1px solid #5b4bb5', 'border-radius': '8px', padding: '10px 14px',
            'max-width': '28em', 'overflow-wrap': 'anywhere',
        });
        line.setAttribute('role', 'status');
        host.attachShadow({ mode: 'closed' }).append(line);
        document.documentElement.append(host);
        line.textContent = words;
        shown = host;
        setTimeout(() => host.remove(), 5000);
    };
    scope.posternFields = {
        isEmail, all, shadow, focused, fill, copy, toast,
        fillHere: (address) => {
            const field = target();
            return field ? fill(field, address) : false;
        },
        wanted,
    };
})();
