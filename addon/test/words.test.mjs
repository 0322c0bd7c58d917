// Texts: each language has all of them, with the same arguments, and none is used that does not exist.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';

const root = new URL('../', import.meta.url);
const read = (path) => readFile(new URL(path, root), 'utf8');
const languages = await readdir(new URL('static/_locales', root));
const messages = Object.fromEntries(await Promise.all(languages.map(async (l) => [l, JSON.parse(await read(`static/_locales/${l}/messages.json`))])));
const english = messages.en;
const args = (s) => [...s.matchAll(/\$\d/g)].map((m) => m[0]).sort().join();

test('five languages have the same texts with the same arguments', () => {
  assert.ok(languages.length >= 5);
  for (const l of languages) {
    assert.deepEqual(Object.keys(messages[l]).sort(), Object.keys(english).sort(), l);
    for (const [k, v] of Object.entries(messages[l])) {
      assert.ok(v.message.trim(), `${l} ${k}`);
      assert.equal(args(v.message), args(english[k].message), `${l} ${k}`);
    }
  }
});

test('every text that is used exists, and every one is used', async () => {
  const used = new Set();
  let all = '';
  for (const dir of ['src', 'static']) {
    for (const name of await readdir(new URL(dir, root))) {
      if (!/\.(ts|html|json)$/.test(name) || name === 'api.ts') continue; // its text() is another
      const body = await read(`${dir}/${name}`);
      all += body;
      for (const m of body.matchAll(/data-(?:text|label|hint)="(\w+)"|__MSG_(\w+)__|(?:text|button)\('(\w+)'/g)) used.add(m[1] ?? m[2] ?? m[3]);
    }
  }
  for (const k of [...used].filter((k) => !k.endsWith('_'))) assert.ok(english[k], `"${k}" is used and has no text`);
  for (const k of Object.keys(english)) {
    const name = k.replace(/^(error|state|menu)_/, '');
    assert.ok(used.has(k) || all.includes(`'${name}'`) || all.includes(`"${name}"`) || k.startsWith('state_'), `"${k}" is used nowhere`);
  }
  const codes = (await read('src/kinds.ts')).match(/export type Code =([^;]*);/)[1];
  for (const m of codes.matchAll(/'(\w+)'/g)) assert.ok(english[`error_${m[1]}`], m[1]);
});

test('no shortcut is one that the browsers have', async () => {
  // Alt, Shift and a letter open menus in Firefox (F, E, V, S, B, T, H in English, others elsewhere: D and L in German, M in
  // French) and do things of Chromium's own (A, B, I, N, P, R, T, W, X, Z), which then give the add-on none.
  const { commands } = JSON.parse(await read('static/manifest.json'));
  const keys = Object.values(commands).map((c) => c.suggested_key.default);
  assert.equal(new Set(keys).size, 3);
  for (const k of keys) assert.match(k, /^Alt\+Shift\+[GJKQUY]$/);
});
