"""IMAP as Python's imaplib speaks it: host, port, certificate, user, password."""
import imaplib, ssl, sys, time

host, port, cert, user, password = sys.argv[1:]
context = ssl.create_default_context(cafile=cert)
M = imaplib.IMAP4_SSL(host, int(port), ssl_context=context)


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


ok(M.login(user, password))
ok(M.create("Python"))
ok(M.create("Python/Inner"))
names = b"\n".join(ok(M.list()))
assert b"Python/Inner" in names and b"INBOX" in names, names
ok(M.subscribe("Python"))
assert b"Python" in b"\n".join(ok(M.lsub()))
for i in range(5):
    text = b"From: a@example.org\r\nSubject: mail %d\r\n\r\nbody %d\r\n" % (i, i)
    ok(M.append("Python", r"(\Flagged)" if i == 2 else None, imaplib.Time2Internaldate(time.time()), text))
assert ok(M.select("Python")) == [b"5"]
assert ok(M.search(None, "FLAGGED")) == [b"3"]
assert ok(M.search("UTF-8", "SUBJECT", '"mail 4"')) == [b"5"]
assert ok(M.search(None, "BODY", '"body 1"')) == [b"2"]
head, body = ok(M.fetch("2", "(UID RFC822.SIZE BODY[])"))[0]
assert body.endswith(b"body 1\r\n") and b"RFC822.SIZE %d" % len(body) in head, (head, body)
assert rb"\Seen" in b"".join(ok(M.fetch("2", "(FLAGS)")))
assert b"BODYSTRUCTURE" in ok(M.fetch("1", "(BODYSTRUCTURE ENVELOPE)"))[0]
ok(M.uid("STORE", "1:2", "+FLAGS", r"(\Deleted custom)"))
ok(M.copy("3:4", "Python/Inner"))
ok(M.uid("MOVE", "5", "Python/Inner"))
ok(M.expunge())
assert ok(M.search(None, "ALL")) == [b"1 2"]
ok(M.rename("Python/Inner", "Renamed"))
assert b"MESSAGES 3" in ok(M.status("Renamed", "(MESSAGES UIDNEXT)"))[0]
ok(M.close())
assert ok(M.select("Renamed", readonly=True)) == [b"3"]
try:
    kind, answer = M.store("1", "+FLAGS", r"(\Deleted)")
    assert kind == "NO", answer
except M.readonly:
    pass
ok(M.unselect())
ok(M.delete("Renamed"))
ok(M.noop())
assert M.logout()[0] == "BYE"
try:
    imaplib.IMAP4_SSL(host, int(port), ssl_context=context).login(user, "wrong")
    raise SystemExit("a wrong password is taken")
except imaplib.IMAP4.error as e:
    assert "AUTHENTICATIONFAILED" in str(e), e
print("done")
