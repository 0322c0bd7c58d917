// Secrets at rest, and the links that are taken.
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { Keep } from '../dist/keep.js';
import { parseLink, sameSite, siteOf } from '../dist/site.js';

globalThis.crypto ??= webcrypto; // Node 18 has it under this name alone

const area = () => {
  const kept = {};
  return {
    kept,
    get: async (keys) => Object.fromEntries(keys.filter((k) => k in kept).map((k) => [k, structuredClone(kept[k])])),
    set: async (items) => void Object.assign(kept, structuredClone(items)),
    remove: async (keys) => keys.forEach((k) => delete kept[k]),
  };
};
const token = 'aB3x'.repeat(16);
const secret = { server: 'https://example.org', token, domains: ['example.org'], key: '', book: [] };

test('without a passphrase nothing is on the disk; with one it is encrypted and opens with that alone', async () => {
  const session = area();
  const local = area();
  const keep = new Keep(session, local);
  await keep.write(secret);
  assert.equal(JSON.stringify(local.kept), '{}');
  await assert.rejects(keep.passphrase('seven77'), { code: 'short' });
  await keep.passphrase('correct horse');
  assert.ok(!JSON.stringify(local.kept).includes(token) && !JSON.stringify(local.kept).includes('example'));
  const size = local.kept.sealed.box.length;
  await keep.write({ ...secret, book: [{ address: 'a@example.org', site: 'shop.example', at: 1, derived: false, tries: -1 }] });
  assert.equal(local.kept.sealed.box.length, size, 'the size tells how many aliases there are');
  await keep.lock();
  assert.equal(await keep.read(), null);
  await assert.rejects(keep.write(secret), { code: 'locked' });
  await assert.rejects(keep.unlock('wrong horse'), { code: 'passphrase' });
  await keep.unlock('correct horse');
  assert.equal((await keep.read()).book.length, 1);
  local.kept.sealed.rounds--;
  await assert.rejects(keep.unlock('correct horse'), { code: 'passphrase' });
  await keep.forget();
  assert.equal(JSON.stringify([local.kept, session.kept]), '[{},{}]');
});

test('links', () => {
  assert.deepEqual(parseLink(` https://example.org/aliases/connect#token=${token} `), { server: 'https://example.org', token });
  assert.equal(parseLink(`http://127.0.0.1:8443/aliases/connect#token=${token}`).server, 'http://127.0.0.1:8443');
  for (const bad of ['', 'x', `http://example.org/aliases/connect#token=${token}`, `https://example.org/aliases/connect#token=${token}0`,
    `https://example.org/connect#token=${token}`, `https://a:b@example.org/aliases/connect#token=${token}`, `ftp://example.org/aliases/connect#token=${token}`]) {
    assert.throws(() => parseLink(bad), { code: 'link' }, bad);
  }
});

test('sites', () => {
  assert.equal(siteOf('https://www.Shop.example:8443/x?y'), 'shop.example');
  assert.equal(siteOf('about:blank'), '');
  assert.ok(sameSite('shop.example', 'login.shop.example') && sameSite('login.shop.example', 'shop.example') && sameSite('localhost', 'localhost'));
  assert.ok(!sameSite('shop.example', 'myshop.example') && !sameSite('example', 'shop.example') && !sameSite('', ''));
});
