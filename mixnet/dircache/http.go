package dircache

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// httpSource fetches the consensus from a web server.
type httpSource struct {
	client *http.Client
	base   *url.URL
}

// HTTP gives a source that fetches the consensus over HTTPS, or HTTP: it is signed, and a
// mirror can do no more than keep it back. The address is that of the consensus, as
// "https://authority.example/postern/consensus"; what Handler serves, or a file. Of requests
// only RequestConsensus is known. Proxies, time limits and redirects are the client's.
// errs.Invalid for another kind of address.
func HTTP(client *http.Client, address string) (Source, error) {
	const op = "mixnet/dircache.HTTP"
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "" {
		return nil, errs.E(op, errs.Invalid, "the address of the consensus is not like https://host/postern/consensus", err)
	}
	return &httpSource{client: client, base: u}, nil
}

// Fetch implements Source.
func (s *httpSource) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	const op = "mixnet/dircache.HTTP.Fetch"
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if r.Kind != directory.RequestConsensus {
		return nil, errs.E(op, errs.Unsupported, "only the consensus can be had over HTTP", nil)
	}
	u := *s.base
	q := u.Query()
	if r.Epoch != 0 {
		q.Set("epoch", strconv.FormatUint(r.Epoch, 10))
	}
	if r.From != (directory.Hash{}) {
		q.Set("from", r.From.String())
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, errs.E(op, errs.Canceled, "", err)
		}
		return nil, errs.E(op, errs.Unavailable, "the web server cannot be reached", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return nil, errs.E(op, errs.NotFound, "the web server does not have the consensus", nil)
	case code == http.StatusTooManyRequests || code >= 500:
		return nil, errs.E(op, errs.Unavailable, "the web server cannot answer now: "+resp.Status[:min(3, len(resp.Status))], nil)
	case code != http.StatusOK:
		return nil, errs.E(op, errs.Denied, "the web server refuses: "+resp.Status[:min(3, len(resp.Status))], nil)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, directory.MaxConsensus+1))
	switch {
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "the answer of the web server broke off", err)
	case len(b) > directory.MaxConsensus:
		return nil, errs.E(op, errs.TooLarge, "the web server's consensus is too large", nil)
	}
	return b, nil
}

// Handler serves what HTTP asks for: the newest consensus, with ?epoch=N that of an epoch,
// with &from=HASH the difference from one that the asker has, where it is known. answer is
// Cache.Answer or another that knows RequestConsensus.
func Handler(answer func(request []byte) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodGet && q.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		r := directory.Request{Kind: directory.RequestConsensus}
		if err := readQuery(&r, q.URL.Query()); err != nil {
			http.Error(w, errs.Public(err), http.StatusBadRequest)
			return
		}
		plain, err := ask(answer, r)
		if err != nil {
			http.Error(w, errs.Public(err), httpStatus(err))
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=us-ascii")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "public, max-age=60")
		h.Set("Vary", "Accept-Encoding")
		body := [][]byte{plain}
		if acceptsGzip(q.Header.Values("Accept-Encoding")) {
			r.Packed = true
			if packed, err := ask(answer, r); err == nil {
				if z := gzipped(packed, plain); z != nil {
					h.Set("Content-Encoding", "gzip")
					body = z
				}
			}
		}
		size := 0
		for _, b := range body {
			size += len(b)
		}
		h.Set("Content-Length", strconv.Itoa(size))
		if q.Method == http.MethodHead {
			return
		}
		for _, b := range body {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
}

func ask(answer func([]byte) ([]byte, error), r directory.Request) ([]byte, error) {
	b, err := directory.AppendRequest(nil, r)
	if err != nil {
		return nil, err
	}
	return answer(b)
}

func readQuery(r *directory.Request, q url.Values) error {
	const op = "mixnet/dircache.Handler"
	if s := q.Get("epoch"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n == 0 {
			return errs.E(op, errs.Invalid, "epoch is not a number", nil)
		}
		r.Epoch = n
	}
	if s := q.Get("from"); s != "" {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != len(r.From) {
			return errs.E(op, errs.Invalid, "from is not a hash", nil)
		}
		copy(r.From[:], b)
	}
	return nil
}

func httpStatus(err error) int {
	switch k := errs.KindOf(err); {
	case k == errs.NotFound:
		return http.StatusNotFound
	case k == errs.Invalid || k == errs.Unsupported || k == errs.TooLarge:
		return http.StatusBadRequest
	case k.Temporary():
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3) as far as it matters here.
func acceptsGzip(values []string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				return strings.Trim(strings.TrimPrefix(strings.TrimSpace(weight), "q="), "0.") != "" || weight == ""
			}
		}
	}
	return false
}

// gzipped puts the head and the end of a gzip file (RFC 1952) around the deflated bytes of a
// packed document, so that nothing is compressed again. nil for what is not packed.
func gzipped(packed, plain []byte) [][]byte {
	z := directory.Deflated(packed)
	if z == nil {
		return nil
	}
	head := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	end := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(plain))
	end = binary.LittleEndian.AppendUint32(end, uint32(len(plain)))
	return [][]byte{head, z, end}
}
