"""POP3 as Python's poplib speaks it: host, port of TLS, port of STLS, certificate,
user, password, number of mails. It deletes the first and the last."""
import poplib, ssl, sys

host, tls, stls, cert, user, password, count = sys.argv[1:]
context = ssl.create_default_context(cafile=cert)
count = int(count)


def login(box):
    box.user(user)
    box.pass_(password)
    return box


def refused(what, *args):
    try:
        what(*args)
    except poplib.error_proto as e:
        return str(e)
    raise SystemExit("not refused: %r" % (args,))


box = poplib.POP3_SSL(host, int(tls), context=context)
caps = box.capa()
for want in ("UIDL", "TOP", "USER", "PIPELINING", "RESP-CODES", "SASL"):
    assert want in caps, caps
login(box)
assert box.stat()[0] == count, box.stat()
uids = [line.split()[1] for line in box.uidl()[1]]
assert len(set(uids)) == count
sizes = [int(line.split()[1]) for line in box.list()[1]]
for i in range(1, count + 1):
    _, lines, octets = box.retr(i)
    assert sum(len(line) + 2 for line in lines) == sizes[i - 1], (i, sizes)
    head = box.top(i, 0)[1]
    assert lines[: len(head) - 1] == head[: len(head) - 1]
assert "IN-USE" in refused(login, poplib.POP3_SSL(host, int(tls), context=context))
box.dele(1)
refused(box.retr, 1)
box.rset()
assert box.stat()[0] == count
box.dele(1)
box.close()  # no QUIT: nothing is deleted (RFC 1939 §6)

for _ in range(50):  # the lock of a lost connection goes when the server sees the loss
    box = poplib.POP3(host, int(stls))
    box.stls(context)
    try:
        login(box)
        break
    except poplib.error_proto as e:
        assert "IN-USE" in str(e), e
        import time

        time.sleep(0.1)
assert box.stat()[0] == count, "deleted without QUIT"
assert [line.split()[1] for line in box.uidl()[1]] == uids, "UIDL changed between sessions"
box.dele(1)
box.dele(count)
box.quit()
box = login(poplib.POP3_SSL(host, int(tls), context=context))
assert [line.split()[1] for line in box.uidl()[1]] == uids[1:-1]
box.quit()
box = poplib.POP3_SSL(host, int(tls), context=context)
box.user(user)
assert "AUTH" in refused(box.pass_, "wrong")
box = poplib.POP3(host, int(stls))
refused(login, box)  # no password in the clear
print("done")
