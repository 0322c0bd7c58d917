# Drives the server with Python's imaplib, a client that is not ours.
import imaplib
import ssl
import sys

host, port = sys.argv[1].rsplit(":", 1)
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


c = imaplib.IMAP4(host, int(port))
assert "STARTTLS" in c.capabilities and "LOGINDISABLED" in c.capabilities, c.capabilities
ok(c.starttls(context))
ok(c.login("pythonist@example.org", 'a "quoted\\ word"'))
ok(c.enable("CONDSTORE"))
capabilities = ok(c.capability())[0].split()
for need in (b"IDLE", b"UIDPLUS", b"MOVE", b"CONDSTORE", b"QUOTA", b"METADATA", b"XCHATMAIL", b"XDELTAPUSH"):
    assert need in capabilities, need
assert ok(c.namespace()) == [b'(("" "/")) NIL NIL']
assert ok(c.select("INBOX")) == [b"0"]
mail = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: %d\r\n\r\nbody %d\r\n"
for i in range(1, 6):
    ok(c.append("INBOX", r"(\Seen)" if i % 2 else None, imaplib.Time2Internaldate(1700000000 + i), mail % (i, i)))
assert ok(c.select("INBOX")) == [b"5"]
assert ok(c.search(None, "UNSEEN")) == [b"2 4"]
assert ok(c.search("UTF-8", "SUBJECT", '"3"')) == [b"3"]
data = ok(c.fetch("2", "(UID BODY.PEEK[] RFC822.SIZE)"))
assert data[0][1] == mail % (2, 2), data


def raw(*words):
    """Sends a command that imaplib has no method for, and gives the untagged responses."""
    ok(c.xatom(*words))
    out, c.untagged_responses = c.untagged_responses, {}
    return out


raw("ID", '("name" "imaplib")')
assert b"MAILBOXID (F" in ok(c.status("INBOX", "(SIZE APPENDLIMIT MAILBOXID DELETED)"))[0]
raw("CREATE", "Kept/2026", r"(USE (\Archive))")
listed = raw("LIST", "(SUBSCRIBED)", '""', '("*" "%")', "RETURN", "(CHILDREN SPECIAL-USE STATUS (MESSAGES))")
assert any(rb"\Subscribed" in l and b"INBOX" in l for l in listed["LIST"]) and len(listed["STATUS"]) == 5, listed
assert any(rb"\Archive" in l for l in raw("LIST", '""', '"Kept/%"')["LIST"])
# WITHIN, ESEARCH, SEARCHRES.
assert ok(c.search(None, "OLDER", "86400")) == [b"1 2 3 4 5"] and ok(c.search(None, "YOUNGER", "86400")) == [b""]
found = raw("UID SEARCH", "RETURN", "(MIN MAX COUNT)", "SEEN")["ESEARCH"]
assert found[0].endswith(b" UID MIN 1 MAX 5 COUNT 3"), found
raw("SEARCH", "RETURN", "(SAVE)", "SEEN")
assert len(ok(c.fetch("$", "(UID)"))) == 3
# BINARY, PREVIEW, OBJECTID.
data = ok(c.fetch("3", "(BINARY.SIZE[1] BINARY.PEEK[1])"))
assert data[0][1] == b"body 3\r\n" and b"BINARY.SIZE[1] 8" in data[0][0], data
assert b'PREVIEW "body 3"' in ok(c.fetch("3", "(PREVIEW)"))[0]
assert b"EMAILID (M" in ok(c.fetch("3", "(EMAILID THREADID)"))[0]
saved = ok(c.fetch("1", "(SAVEDATE INTERNALDATE)"))[0]
assert b'SAVEDATE "20-Nov-2026 12:00:00 +0000"' in saved and b'"14-Nov-2023' in saved, saved
assert ok(c.search(None, "SAVEDON", "20-Nov-2026", "SENTBEFORE", "1-Jan-2030")) == [b""]
assert ok(c.search(None, "SAVEDON", "20-Nov-2026", "BEFORE", "1-Jan-2024", "SAVEDATESUPPORTED")) == [b"1 2 3 4 5"]
assert ok(c.sort("(REVERSE SUBJECT)", "UTF-8", "ALL")) == [b"5 4 3 2 1"]
assert ok(c.uid("SORT", "(SUBJECT)", "UTF-8", "2:4")) == [b"2 3 4"]
assert ok(c.thread("ORDEREDSUBJECT", "UTF-8", "ALL")) == [b"(1)(2)(3)(4)(5)"]
assert ok(c.thread("REFERENCES", "UTF-8", "SUBJECT", '"1"')) == [b"(1)"]
assert ok(c.uid("THREAD", "REFERENCES", "US-ASCII", "2:3")) == [b"(2)(3)"]
ok(c._simple_command("SORT", "RETURN", "(MIN MAX COUNT)", "(REVERSE SUBJECT)", "UTF-8", "ALL"))
esearch = c.untagged_responses.pop("ESEARCH")
assert esearch[0].endswith(b" MIN 5 MAX 1 COUNT 5"), esearch
ok(c.store("2", "+FLAGS", r"(\Deleted $custom)"))
assert b"$custom" in ok(c.fetch("2", "(FLAGS)"))[0]
ok(c.copy("1:2", "Trash"))
assert ok(c.expunge()) == [b"2"]
assert ok(c.uid("MOVE", "4", "Junk")) is not None
assert ok(c.uid("SEARCH", "ALL")) == [b"1 3 5"]
ok(c.create('"Pl&AOQ-ne/2026"'))
names = [n for n in ok(c.list('""', "*")) if b"Pl&AOQ-ne/2026" in n]
assert len(names) == 1, names
ok(c.subscribe('"Pl&AOQ-ne/2026"'))
assert b"2026" in b" ".join(ok(c.lsub('""', "*")))
ok(c.rename('"Pl&AOQ-ne/2026"', '"later"'))
ok(c.delete('"later"'))
assert b"MESSAGES 2" in ok(c.status("Trash", "(MESSAGES UNSEEN UIDNEXT)"))[0]
root, quota = ok(c.getquotaroot("INBOX"))
assert b"STORAGE" in quota[0], quota
typ, _ = c.select("nowhere")
assert typ == "NO", typ
ok(c.select("INBOX"))
if hasattr(c, "idle"):
    with c.idle(0.1) as idler:
        list(idler)
# Changes of another session come without a command.
ok(c.xatom("NOTIFY", "SET", "STATUS", "(selected (MessageNew (UID) MessageExpunge))", "(mailboxes Trash (MessageNew MessageExpunge))"))
assert b'"Trash" (MESSAGES 2 UIDNEXT 3' in c.response("STATUS")[1][0]
other = imaplib.IMAP4(host, int(port))
ok(other.starttls(context))
ok(other.login("pythonist@example.org", 'a "quoted\\ word"'))
ok(other.append("Trash", None, None, mail % (6, 6)))
line = c._get_line()
assert line.startswith(b'* STATUS "Trash" (MESSAGES 3 UIDNEXT 4'), line
ok(other.append("INBOX", None, None, mail % (7, 7)))
lines = [c._get_line() for _ in range(3)]
assert lines[0] == b"* 4 EXISTS" and lines[2] == b"* 4 FETCH (UID 6)", lines
ok(c.xatom("NOTIFY", "NONE"))
other.logout()
ok(c.close())
assert c.logout()[0] == "BYE"
# UTF8=ACCEPT, with a name and a message that need it, and AUTHENTICATE.
u = imaplib.IMAP4(host, int(port))
ok(u.starttls(context))
ok(u.authenticate("PLAIN", lambda _: b'\0pythonist@example.org\0a "quoted\\ word"'))
ok(u.append("Drafts", None, None, "Subject: grüße\r\n\r\n".encode()))
ok(u.enable("UTF8=ACCEPT"))
ok(u.create('"Entwürfe"'))
ok(u.select("Drafts"))
ok(u.copy("1", '"Entwürfe"'))
assert any("Entwürfe".encode() in l for l in ok(u.list('""', '"E*"')))
ok(u.select('"Entwürfe"'))
found = ok(u.search(None, "SUBJECT", '"grüße"'))
assert found == [b"1"], found
ok(u.unselect())
# MULTIAPPEND: imaplib asks a method for each literal; between two mails stand the words of the next.
mails = [b"Subject: many %d\r\n\r\nx\r\n" % i for i in range(3)]


class Parts:
    def __init__(self, *parts):
        self.parts = iter(parts)

    def next(self, _):
        return next(self.parts)


u.literal = Parts(mails[0] + b" (\\Flagged) {%d}" % len(mails[1]), mails[1] + b" {%d}" % len(mails[2]), mails[2]).next
tag = u._command("APPEND", "Drafts", "(\\Seen)", "{%d}" % len(mails[0]))
ok(u._command_complete("APPEND", tag))
ok(u.select("Drafts"))
assert ok(u.search(None, "SUBJECT", "many"))[0].split() == [b"2", b"3", b"4"]
assert ok(u.search(None, "SUBJECT", "many", "FLAGGED")) == [b"3"]
u.logout()
print("done")
