"""SMTP as Python's smtplib speaks it: host, port of TLS, port of STARTTLS,
certificate, user, password, recipient, file with a mail."""
import smtplib, ssl, sys

host, tls, starttls, cert, user, password, to, path = sys.argv[1:]
context = ssl.create_default_context(cafile=cert)
mail = open(path, "rb").read()
with smtplib.SMTP_SSL(host, int(tls), context=context) as s:
    s.login(user, password)
    assert s.sendmail(user, [to], mail) == {}
    try:
        s.sendmail(user, [to], b"From: <%s>\r\nSubject: clear\r\n\r\nhello\r\n" % user.encode())
        raise SystemExit("cleartext is taken")
    except smtplib.SMTPDataError as e:
        assert e.smtp_code == 523, e
with smtplib.SMTP(host, int(starttls)) as s:
    try:
        s.login(user, password)
        raise SystemExit("a password is taken in the clear")
    except smtplib.SMTPNotSupportedError:
        pass
    s.starttls(context=context)
    s.login(user, password)
    try:
        s.sendmail("somebody-else@" + user.split("@")[1], [to], mail)
        raise SystemExit("another's address is taken")
    except (smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError):
        pass
print("done")
