"use strict";
// The button beside fields for e-mail addresses. A plain script, as fields.ts, which runs before it.
//
// It stands in a closed shadow root at the end of the page (or of the dialog that the field is in), so that neither the
// page's styles nor its scripts reach it and the page's layout stays as it was. In the order of the Tab key it
// comes after its field. Only real clicks count: a page's script cannot make an alias.
(() => {
    const scope = globalThis;
    const fields = scope.posternFields;
    if (!fields || scope.posternButton)
        return;
    scope.posternButton = true;
    const most = 20; // buttons on one page
    const mostShadows = 100; // shadow roots that are watched
    const size = 24; // px: what a finger can hit (WCAG 2.5.8)
    const gap = 4;
    const mostOffered = 5; // aliases in the menu
    const text = (name, ...args) => chrome.i18n.getMessage(name, args) || name;
    async function ask(what) {
        let answer;
        try {
            answer = await chrome.runtime.sendMessage({ do: what });
        }
        catch {
            throw 'reload'; // the add-on was updated or taken away under this page
        }
        if (answer && 'ok' in answer)
            return answer.ok;
        throw answer?.error ?? 'answer';
    }
    /** Sets styles by properties alone: no policy of the page forbids those. */
    function style(el, styles) {
        for (const [k, v] of Object.entries(styles))
            el.style.setProperty(k, v, 'important');
    }
    function icon() {
        const ns = 'http://www.w3.org/2000/svg';
        const svg = document.createElementNS(ns, 'svg');
        svg.setAttribute('viewBox', '0 0 24 24');
        svg.setAttribute('aria-hidden', 'true');
        style(svg, { width: '16px', height: '16px', display: 'block', 'pointer-events': 'none' });
        for (const d of ['M4 22V11a8 8 0 0 1 16 0v11z', 'M8 13h8v6H8z', 'm8 13 4 3.4 4-3.4']) {
            const path = document.createElementNS(ns, 'path');
            path.setAttribute('d', d);
            style(path, { fill: 'none', stroke: 'currentColor', 'stroke-width': '1.8', 'stroke-linejoin': 'round' });
            svg.append(path);
        }
        return svg;
    }
    let place = 'beside';
    class Badge {
        field;
        host = document.createElement('div');
        button = document.createElement('button');
        panel = document.createElement('div');
        status = document.createElement('div');
        busy = false;
        /** What each button does: Firefox presses none by the keyboard in the shadow root of an add-on, so we do. */
        runs = new Map();
        dismissed = false;
        visible = false;
        constructor(field) {
            this.field = field;
            const root = this.host.attachShadow({ mode: 'closed' });
            style(this.host, { all: 'initial', position: 'fixed', 'z-index': '2147483646', width: `${size}px`, height: `${size}px`, display: 'none' });
            const b = this.button;
            b.type = 'button';
            b.setAttribute('aria-label', text('fieldButton'));
            b.title = text('fieldButton');
            b.append(icon());
            style(b, {
                'box-sizing': 'border-box', width: `${size}px`, height: `${size}px`, padding: '0', margin: '0', display: 'flex', 'align-items': 'center',
                'justify-content': 'center', 'border-radius': '6px', border: '1px solid #5b4bb5', background: '#f4f2ff', color: '#43359b', cursor: 'pointer',
            });
            style(this.panel, {
                position: 'absolute', top: `${size + gap}px`, right: '0', display: 'none', 'min-width': '14em', 'max-width': '24em', padding: '6px', 'border-radius': '8px',
                border: '1px solid #5b4bb5', background: '#ffffff', color: '#1b1b2f', font: '14px/1.4 system-ui, sans-serif', 'box-shadow': '0 4px 16px rgb(0 0 0 / .25)',
                'overflow-wrap': 'anywhere',
            });
            this.status.setAttribute('role', 'status');
            style(this.status, { position: 'absolute', width: '1px', height: '1px', overflow: 'hidden', 'clip-path': 'inset(50%)', 'white-space': 'nowrap' });
            root.append(b, this.panel, this.status);
            this.runs.set(b, () => void this.clicked());
            b.addEventListener('click', (e) => {
                if (e.isTrusted)
                    void this.clicked();
            });
            root.addEventListener('keydown', (e) => this.key(e));
            for (const kind of ['mousedown', 'pointerdown', 'focusin', 'input', 'click', 'mouseup', 'pointerup', 'touchstart', 'touchend']) {
                root.addEventListener(kind, (e) => e.stopPropagation()); // a page that closes its dialog on clicks elsewhere must not see ours
            }
            b.addEventListener('mousedown', (e) => e.preventDefault()); // the field keeps the focus
            field.addEventListener('keydown', this.tab, true);
        }
        /** Tab in the field leads to the button. */
        tab = (e) => {
            if (!e.isTrusted || e.key !== 'Tab' || e.shiftKey || e.ctrlKey || e.altKey || e.metaKey || !this.visible)
                return;
            e.preventDefault();
            this.button.focus();
        };
        key(e) {
            e.stopPropagation();
            if (!e.isTrusted)
                return;
            const items = [...this.panel.querySelectorAll('button')];
            const at = items.indexOf(e.target);
            if (e.key === 'Enter' || e.key === ' ') {
                e.preventDefault(); // the click that would follow
                if (!e.repeat && e.target)
                    this.runs.get(e.target)?.();
            }
            else if (e.key === 'Escape') {
                e.preventDefault();
                if (this.open())
                    this.close();
                else
                    this.dismissed = true;
                this.field.focus();
                this.position();
            }
            else if (e.key === 'Tab' && e.shiftKey && at <= 0) {
                e.preventDefault();
                this.close();
                this.field.focus();
            }
            else if (e.key === 'Tab' && !e.shiftKey && (at === items.length - 1 || !this.open())) {
                this.close();
                this.field.focus(); // from here the browser goes on to what comes after the field
            }
            else if ((e.key === 'ArrowDown' || e.key === 'ArrowUp') && items.length > 0) {
                e.preventDefault();
                items[(at + (e.key === 'ArrowDown' ? 1 : items.length - 1) + (at < 0 && e.key === 'ArrowUp' ? 1 : 0)) % items.length].focus();
            }
        }
        open() {
            return this.panel.style.display !== 'none';
        }
        is(target) {
            return target === this.host;
        }
        close() {
            for (const b of this.panel.children)
                this.runs.delete(b);
            this.panel.replaceChildren();
            style(this.panel, { display: 'none' });
            this.button.removeAttribute('aria-expanded');
        }
        async clicked() {
            if (this.busy)
                return;
            if (this.open())
                return this.close();
            this.busy = true;
            this.button.setAttribute('aria-busy', 'true');
            style(this.button, { opacity: '.5' });
            try {
                const known = await ask('fieldSite');
                place = known.place;
                if (known.entries.length > 0)
                    this.menu(known.entries.slice(0, mostOffered));
                else
                    await this.fresh();
            }
            catch (err) {
                this.failed(String(err));
            }
            finally {
                this.busy = false;
                this.button.removeAttribute('aria-busy');
                style(this.button, { opacity: '1' });
            }
        }
        async fresh() {
            this.put((await ask('fieldMake')).address);
        }
        put(address) {
            this.close();
            if (fields.fill(this.field, address))
                this.status.textContent = text('filled', address);
            else
                this.failed('fill');
        }
        menu(entries) {
            this.panel.replaceChildren();
            for (const e of entries)
                this.item(e.address, () => this.put(e.address));
            this.item(text('fieldNew'), async () => {
                try {
                    await this.fresh();
                }
                catch (err) {
                    this.failed(String(err));
                }
            });
            this.show();
            this.panel.querySelector('button').focus();
        }
        item(name, run) {
            const b = document.createElement('button');
            b.type = 'button';
            b.textContent = name;
            style(b, {
                display: 'block', width: '100%', 'min-height': '32px', padding: '4px 8px', margin: '0', border: '0', 'border-radius': '4px', background: 'transparent',
                color: 'inherit', font: 'inherit', 'text-align': 'start', cursor: 'pointer',
            });
            b.addEventListener('mouseenter', () => style(b, { background: '#ece9ff' }));
            b.addEventListener('mouseleave', () => style(b, { background: 'transparent' }));
            this.runs.set(b, run);
            b.addEventListener('click', (e) => {
                if (e.isTrusted)
                    run();
            });
            this.panel.append(b);
        }
        failed(code) {
            this.panel.replaceChildren();
            const p = document.createElement('div');
            p.setAttribute('role', 'alert');
            p.textContent = text('error_' + code);
            this.panel.append(p);
            if (code === 'unset' || code === 'locked' || code === 'token') {
                this.item(text('openSettings'), () => {
                    this.close();
                    void ask('fieldSetup').catch(() => undefined);
                });
            }
            this.show();
        }
        show() {
            style(this.panel, { display: 'block' });
            this.button.setAttribute('aria-expanded', 'true');
            style(this.panel, { right: '0', left: 'auto' });
            if (this.panel.getBoundingClientRect().left < 0)
                style(this.panel, { right: 'auto', left: '0' });
        }
        /** The element at whose end the button stands: outside of an open dialog nothing can be clicked. */
        container() {
            for (let n = this.field; n; n = n.parentNode ?? (n instanceof ShadowRoot ? n.host : null)) {
                if (n instanceof HTMLDialogElement && n.open)
                    return n;
                if (n instanceof HTMLElement && n.popover !== null && n.matches(':popover-open'))
                    return n;
            }
            return document.body ?? document.documentElement;
        }
        /** Whether nothing stands at a place but the field, and what the field stands in. */
        free(x, y) {
            if (x < 0 || y < 0 || x + size > document.documentElement.clientWidth || y + size > innerHeight)
                return false;
            for (const [dx, dy] of [[0.5, 0.5], [0.15, 0.5], [0.85, 0.5], [0.5, 0.15], [0.5, 0.85]]) {
                let hit = document.elementFromPoint(x + dx * size, y + dy * size);
                for (let inner = hit && fields.shadow(hit)?.elementFromPoint(x + dx * size, y + dy * size); inner && inner !== hit;) {
                    hit = inner;
                    inner = fields.shadow(hit)?.elementFromPoint(x + dx * size, y + dy * size);
                }
                if (!hit || !holds(hit, this.field))
                    return false;
            }
            return true;
        }
        /** Puts the button where it covers nothing, or hides it. */
        position() {
            const box = this.field.getBoundingClientRect();
            const want = !this.dismissed && fields.isEmail(this.field) && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
            if (!want)
                return this.hide();
            const home = this.container();
            if (this.host.parentNode !== home)
                home.append(this.host);
            style(this.host, { 'pointer-events': 'none', display: 'block', visibility: 'hidden' });
            const y = box.top + (box.height - size) / 2;
            const inside = [box.right - size - gap, box.right - 2 * (size + gap), box.right - 3 * (size + gap)];
            if (getComputedStyle(this.field).backgroundImage !== 'none')
                inside.shift(); // an icon drawn into the field
            const beside = [box.right + gap, box.left - size - gap];
            const x = (place === 'inside' ? [...inside, ...beside] : [...beside, ...inside]).find((at) => this.free(at, y));
            if (x === undefined)
                return this.hide();
            style(this.host, { left: `${x}px`, top: `${y}px` });
            const is = this.host.getBoundingClientRect(); // elsewhere, if what we stand in is moved by a transform
            if (Math.abs(is.left - x) > 0.5 || Math.abs(is.top - y) > 0.5)
                style(this.host, { left: `${2 * x - is.left}px`, top: `${2 * y - is.top}px` });
            style(this.host, { 'pointer-events': 'auto', visibility: 'visible' });
            this.visible = true;
        }
        hide() {
            if (this.visible)
                this.close();
            style(this.host, { display: 'none' });
            this.visible = false;
        }
        remove() {
            this.field.removeEventListener('keydown', this.tab, true);
            this.host.remove();
        }
    }
    /** Whether an element is the field or around it, through shadow roots. */
    function holds(el, field) {
        for (let n = field; n; n = n.parentNode ?? (n instanceof ShadowRoot ? n.host : null))
            if (n === el)
                return true;
        return false;
    }
    const badges = new Map();
    const watched = new WeakSet();
    let shadows = 0;
    function add(field) {
        if (badges.has(field) || badges.size >= most)
            return;
        const badge = new Badge(field);
        badges.set(field, badge);
        sizes.observe(field);
        let root = field.getRootNode();
        for (; root instanceof ShadowRoot && !watched.has(root) && shadows < mostShadows; root = root.host.getRootNode()) {
            watched.add(root);
            shadows++;
            changes.observe(root, watch);
            root.addEventListener('scroll', soon, { capture: true, passive: true });
        }
        badge.position();
    }
    function look() {
        for (const field of fields.all(document, most))
            add(field);
        move();
    }
    function move() {
        for (const [field, badge] of badges) {
            if (field.isConnected) {
                badge.position();
                continue;
            }
            badge.remove();
            sizes.unobserve(field);
            badges.delete(field);
        }
    }
    // Work is put together: one search in a quarter of a second, one move a frame.
    let searching = false;
    function search() {
        if (searching)
            return;
        searching = true;
        setTimeout(() => {
            searching = false;
            look();
        }, 250);
    }
    let moving = false;
    function soon() {
        if (moving)
            return;
        moving = true;
        requestAnimationFrame(() => {
            moving = false;
            move();
        });
    }
    const watch = { childList: true, subtree: true, attributes: true, attributeFilter: ['type', 'disabled', 'readonly', 'hidden', 'open', 'class'] };
    const changes = new MutationObserver(search);
    const sizes = new ResizeObserver(soon);
    changes.observe(document, watch);
    addEventListener('scroll', soon, { capture: true, passive: true });
    addEventListener('resize', soon, { passive: true });
    addEventListener('transitionend', soon, { capture: true, passive: true });
    addEventListener('focusin', (e) => {
        const el = e.composedPath()[0];
        if (el instanceof Element && fields.isEmail(el))
            add(el); // in a shadow root that came unseen
        soon();
    }, true);
    addEventListener('pointerdown', (e) => {
        for (const badge of badges.values())
            if (!e.composedPath().some((n) => badge.is(n)))
                badge.close();
    }, true);
    void ask('fieldPlace').then((k) => {
        place = k.place;
        soon();
    }, () => undefined);
    look();
})();
