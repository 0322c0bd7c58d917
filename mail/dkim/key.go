package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
)

// key is a key record (RFC 6376 §3.6.1).
type key struct {
	algorithm string // "rsa", "ed25519"
	strict    bool   // t=s: i= must be of d= itself
	public    crypto.PublicKey
}

// clean takes out what some zone files leave in a record.
var clean = strings.NewReplacer(`"`, "", `\`, "")

// parseKey reads a record; why tells what makes it useless.
func parseKey(txt string) (k key, why string) {
	tags, ok := parseTags(clean.Replace(txt))
	if !ok {
		return k, "malformed key record"
	}
	if v, given := tags["v"]; given && v != "DKIM1" {
		return k, "no key"
	}
	p, given := tags["p"]
	if !given {
		return k, "no key"
	}
	if squeeze(p) == "" {
		return k, "revoked key"
	}
	if h, given := tags["h"]; given && !slices.Contains(list(h), "sha256") {
		return k, "the key is not for SHA-256"
	}
	if s, given := tags["s"]; given && !slices.Contains(list(s), "*") && !slices.Contains(list(s), "email") {
		return k, "the key is not for mail"
	}
	k.strict = slices.Contains(list(tags["t"]), "s")
	der, ok := decode(p)
	if !ok {
		return k, "malformed key"
	}
	switch k.algorithm = strings.ToLower(tags["k"]); k.algorithm {
	case "", "rsa":
		k.algorithm = "rsa"
		return k, k.readRSA(der)
	case "ed25519": // RFC 8463 §4: the 32 bytes, nothing around them
		if len(der) != ed25519.PublicKeySize {
			return k, "malformed key"
		}
		k.public = ed25519.PublicKey(der)
		return k, ""
	}
	return k, "unknown kind of key"
}

// readRSA takes both forms that are in use: SubjectPublicKeyInfo, which all examples
// show, and RSAPublicKey, which the text of RFC 6376 §3.6.1 names (erratum 3017).
func (k *key) readRSA(der []byte) (why string) {
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		any, err = x509.ParsePKCS1PublicKey(der)
	}
	public, ok := any.(*rsa.PublicKey)
	switch {
	case err != nil || !ok:
		return "malformed key"
	case public.N.BitLen() < MinRSA:
		return "RSA key too short"
	case public.N.BitLen() > MaxRSA:
		return "RSA key too long"
	}
	k.public = public
	return ""
}

// verify gives "" when the signature is this key's.
func (k key) verify(s signature, digest []byte) (why string) {
	if k.algorithm != s.algorithm {
		return "the key is of another kind"
	}
	if k.strict && s.agent != s.domain {
		return "the key allows no subdomain"
	}
	ok := false
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, s.text) == nil
	case ed25519.PublicKey:
		ok = ed25519.Verify(public, digest, s.text) // RFC 8463 §3: of the hash
	}
	if !ok {
		return "the signature does not fit"
	}
	return ""
}
