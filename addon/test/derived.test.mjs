// The vectors of mail/aliasname, with the add-on's own code.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { derive, derivedForm, verify } from '../dist/derived.js';

globalThis.crypto ??= webcrypto; // Node 18 has it under this name alone

const vectors = JSON.parse(await readFile(new URL('../../mail/aliasname/testdata/derived.json', import.meta.url)));
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'));

test('derived aliases are those of the other implementation', async () => {
  assert.ok(vectors.derived.length > 5);
  for (const v of vectors.derived) {
    assert.equal(await derive(bytes(v.key), v.domain, v.label, v.n), v.local, JSON.stringify(v));
    assert.ok(await verify(bytes(v.key), v.domain, v.local));
    assert.ok(await verify(bytes(v.key), v.domain, v.local.toUpperCase()));
    assert.ok(!(await verify(bytes(v.key), 'other.' + v.domain, v.local)));
  }
});

test('a local part with one character changed has not the form', () => {
  for (const v of vectors.derived) {
    for (let i = 0; i < v.local.length; i++) {
      const other = v.local[i] === 'q' ? 'r' : 'q';
      assert.ok(!derivedForm(v.local.slice(0, i) + other + v.local.slice(i + 1)));
    }
    assert.ok(!derivedForm(v.local + 'a') && !derivedForm(v.local.slice(1)) && !derivedForm(v.local.slice(0, 19) + '1'));
  }
});

test('what is not of the form, or of the key, is refused', async () => {
  assert.ok(vectors.not_of_form.length > 5 && vectors.not_of_key.length > 1);
  for (const local of vectors.not_of_form) assert.ok(!derivedForm(local), local);
  for (const v of vectors.not_of_key) {
    assert.ok(derivedForm(v.local), v.local);
    assert.ok(!(await verify(bytes(v.key), v.domain, v.local)), v.local);
  }
});

test('a key of another length is refused', async () => {
  await assert.rejects(derive(new Uint8Array(31), 'example.org', '', 0), RangeError);
});
