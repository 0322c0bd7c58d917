// IMAP as imapflow speaks it: host, port, certificate, user, password, and whether the
// server compresses.
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { ImapFlow } from 'imapflow';

const [host, port, cert, user, pass, form] = process.argv.slice(2);
const connect = async (password = pass, more = {}) => {
  const c = new ImapFlow({ host, port: +port, secure: true, tls: { ca: readFileSync(cert), servername: 'localhost' },
    auth: { user, pass: password }, logger: false, ...more });
  c.on('error', () => {});
  await c.connect();
  return c;
};
const client = await connect(pass, { qresync: true });
const second = await connect();
assert.equal(Boolean(client._inflate), form === 'compressed', 'COMPRESS');
const boxes = await client.list();
for (const use of ['\\Drafts', '\\Sent', '\\Trash', '\\Junk']) assert(boxes.some((b) => b.specialUse === use), use);
await client.mailboxCreate('Flow');
let lock = await client.getMailboxLock('Flow');
for (let i = 0; i < 6; i++)
  await client.append('Flow', `From: A <a@example.org>\r\nTo: b@example.org\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe_${i}?=\r\nMessage-ID: <${i}@flow>\r\n\r\nbody ${i}\r\n`, i % 2 ? ['\\Seen'] : []);
await client.noop();
assert.equal(client.mailbox.exists, 6);
const all = [];
for await (const m of client.fetch('1:*', { uid: true, flags: true, envelope: true, bodyStructure: true, source: true, internalDate: true, size: true, threadId: true })) all.push(m);
assert.equal(all.length, 6);
assert.equal(all[3].envelope.subject, 'grüße 3');
assert.equal(all[3].bodyStructure.type, 'text/plain');
assert(all[3].source.toString().endsWith('body 3\r\n'));
assert.equal(all[3].size, all[3].source.length);
assert(all[3].emailId, 'OBJECTID');
assert.deepEqual(await client.search({ seen: true }, { uid: true }), all.filter((m) => m.flags.has('\\Seen')).map((m) => m.uid));
assert.deepEqual(await client.search({ subject: 'grüße 4' }, { uid: true }), [all[4].uid]);
assert.deepEqual(await client.search({ body: 'body 5' }, { uid: true }), [all[5].uid]);

// A second session changes things while the first waits.
const flags = new Promise((done) => client.once('flags', done));
const gone = new Promise((done) => client.once('expunge', done));
const more = new Promise((done) => client.once('exists', done));
const idling = client.idle();
const other = await second.getMailboxLock('Flow');
await second.messageFlagsAdd(String(all[0].uid), ['\\Flagged', 'word'], { uid: true });
const flagged = await flags;
assert(flagged.flags.has('\\Flagged') && flagged.flags.has('word'));
await second.messageDelete(String(all[1].uid), { uid: true });
const lost = await gone;
assert(lost.vanished === true ? lost.uid === all[1].uid : lost.seq === 2, JSON.stringify(lost));
// After VANISHED imapflow keeps its old count, so it takes two new mails to make it differ.
for (let i = 0; i < 2; i++) await second.append('Flow', 'Subject: new\r\n\r\nnew\r\n');
assert.equal((await more).count, 7);
other.release();
await client.noop(); // ends the IDLE
await idling;

const copied = await client.messageCopy(`${all[2].uid}`, 'INBOX', { uid: true });
assert(copied.uidMap.has(all[2].uid));
const moved = await client.messageMove(`${all[3].uid}`, 'INBOX', { uid: true });
assert(moved.uidMap.has(all[3].uid));
const modseq = client.mailbox.highestModseq;
await client.messageFlagsSet(`${all[4].uid}`, ['\\Answered'], { uid: true });
const changed = [];
for await (const m of client.fetch('1:*', { uid: true, flags: true }, { changedSince: modseq })) changed.push(m.uid);
assert(changed.includes(all[4].uid), String(changed));
lock.release();
const status = await client.status('INBOX', { messages: true, unseen: true, uidNext: true, highestModseq: true });
assert.equal(status.messages, 2);
const quota = await client.getQuota('INBOX');
assert(quota && quota.storage && quota.storage.limit > 0);
await client.mailboxRename('Flow', 'Flow-2');
assert((await client.list()).some((b) => b.path === 'Flow-2'));
await second.logout();
await client.mailboxDelete('Flow-2');
await client.logout();
await assert.rejects(connect('wrong'), (e) => e.authenticationFailed === true);
console.log('done');
process.exit(0); // the refused connection is still open
