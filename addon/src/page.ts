// What the add-on's own pages share: texts, elements, the clipboard, calls to the background.

import { Failure, type Answer, type Calls, type Code } from './kinds.js';

/** The text of a message. */
export function text(name: string, ...args: string[]): string {
  return chrome.i18n.getMessage(name, args) || name;
}

/** Puts the texts into elements with data-text, data-label (accessible name) or data-hint (placeholder). */
export function translate(root: ParentNode = document): void {
  document.documentElement.lang = chrome.i18n.getUILanguage();
  document.documentElement.dir = text('@@bidi_dir');
  for (const el of root.querySelectorAll<HTMLElement>('[data-text]')) el.textContent = text(el.dataset['text']!);
  for (const el of root.querySelectorAll<HTMLElement>('[data-label]')) el.setAttribute('aria-label', text(el.dataset['label']!));
  for (const el of root.querySelectorAll<HTMLElement>('[data-hint]')) el.setAttribute('placeholder', text(el.dataset['hint']!));
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** An element with text inside. */
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, content = '', cls = ''): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  if (content) el.textContent = content;
  if (cls) el.className = cls;
  return el;
}

/** A button of one line. */
export function button(name: string, run: () => unknown, cls = ''): HTMLButtonElement {
  const el = make('button', text(name), cls);
  el.type = 'button';
  el.addEventListener('click', run);
  return el;
}

/** Asks the background. Throws Failure. */
export async function call<K extends keyof Calls>(what: K, args: Calls[K][0]): Promise<Calls[K][1]> {
  const answer = (await chrome.runtime.sendMessage({ do: what, ...args })) as Answer<Calls[K][1]> | undefined;
  if (answer && 'ok' in answer) return answer.ok;
  throw new Failure(answer?.error ?? 'answer');
}

/** What to say of an error. */
export function failure(err: unknown): string {
  const code: Code = err instanceof Failure ? err.code : 'answer';
  return text('error_' + code);
}

/** Puts an address into the clipboard; false if the browser does not let us. */
export async function copy(address: string, field?: HTMLInputElement | HTMLTextAreaElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(address);
    return true;
  } catch {
    field?.select();
    return !!field && document.execCommand('copy');
  }
}
