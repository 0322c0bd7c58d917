// Shapes that the parts of the add-on share. Those of the server are docs/aliases.md's.

/** An alias, as the server shows it to its owner. Days are "2006-01-02"; "" means never. */
export interface Alias {
  address: string;
  site: string;
  label: string;
  state: string; // "active", "paused", "expired", "deleted"
  derived: boolean;
  created: string;
  last: string;
  received: number;
  refused: number;
  leaked: boolean;
}

/** What the add-on remembers by itself: which alias was made for which site. */
export interface Entry {
  address: string;
  site: string;
  at: number; // ms since 1970
  derived: boolean;
  /** Times that the server was told of the site in vain; -1: it knows. */
  tries: number;
}

/** What nobody else may read. It lies in the session's storage, or encrypted (keep.ts). */
export interface Secret {
  server: string; // origin
  token: string;
  domains: string[]; // of aliases, first the default
  key: string; // base64 of the alias key; "": the server gives none
  book: Entry[]; // newest first
}

export type Style = 'words' | 'random' | 'site' | 'derived';

/** Choices that are no secret. */
export interface Settings {
  style: Style;
  domain: string; // "": the server's default
  place: 'beside' | 'inside'; // where the button stands
  click: 'new' | 'list'; // what a click on the toolbar does
}

export const defaults: Settings = { style: 'words', domain: '', place: 'beside', click: 'new' };

/** How the add-on stands: without a server, with its secrets locked, or ready. */
export interface State {
  phase: 'unset' | 'locked' | 'ready';
  host: string; // of the server, for people
  domains: string[];
  sealed: boolean; // a passphrase is set
  offline: boolean; // derived aliases can be made
  settings: Settings;
}

/** What went wrong. The codes are names of messages, "error_" before them. */
export type Code =
  | 'unset' | 'locked' | 'link' | 'offline' | 'token' | 'denied' | 'busy' | 'full' | 'gone' | 'invalid' | 'server'
  | 'passphrase' | 'short' | 'fill' | 'answer';

export class Failure extends Error {
  constructor(readonly code: Code) {
    super(code);
  }
}

/** The requests of the add-on's own pages, with their answers. */
export interface Calls {
  state: [{}, State];
  connect: [{ link: string }, State];
  forget: [{}, State];
  unlock: [{ passphrase: string }, State];
  lock: [{}, State];
  seal: [{ passphrase: string }, State]; // "": no passphrase any more
  settings: [{ settings: Settings }, State];
  make: [{ site: string; private: boolean }, { address: string; derived: boolean }];
  site: [{ site: string }, Entry[]];
  fill: [{ tab: number; address: string }, boolean];
  list: [{ search: string; cursor: string }, { aliases: Alias[]; next: string }];
  pause: [{ address: string; paused: boolean }, Alias];
  remove: [{ address: string }, {}];
  restore: [{ address: string }, {}];
  rotate: [{}, State];
}

/** Those of the button in web pages. The site is the one that the browser names. */
export interface FieldCalls {
  fieldMake: [{}, { address: string; derived: boolean }];
  fieldSite: [{}, { entries: Entry[]; place: Settings['place'] }];
  fieldPlace: [{}, { place: Settings['place'] }];
  fieldSetup: [{}, {}];
}

export type Answer<T> = { ok: T } | { error: Code };
