package packet

import (
	"io"

	"postern.email/kit/errs"
)

// AppendUnit appends to dst a packet as links carry it: filled up with random bytes to
// Size, so that a packet looks the same on every link. errs.Invalid for what is no packet.
func AppendUnit(dst, packet []byte, random io.Reader) ([]byte, error) {
	const op = "packet.AppendUnit"
	if _, err := ParsePrefix(packet); err != nil {
		return dst, errs.Wrap(op, err)
	}
	out, unit := extend(dst, Size)
	if _, err := io.ReadFull(random, unit[copy(unit, packet):]); err != nil {
		return dst, errs.E(op, errs.Internal, "", err)
	}
	return out, nil
}

// Fill is AppendUnit in place: it fills up a packet, whose slice must have the capacity, and
// gives the whole unit.
func Fill(packet []byte, random io.Reader) ([]byte, error) {
	const op = "packet.Fill"
	if _, err := ParsePrefix(packet); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if cap(packet) < Size {
		return nil, reject(op, errs.Invalid, errSize)
	}
	unit := packet[:Size]
	if _, err := io.ReadFull(random, unit[len(packet):]); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	return unit, nil
}

// CutUnit gives the packet within the Size bytes that came over a link. Its prefix is
// checked as ParsePrefix does.
func CutUnit(unit []byte) ([]byte, Prefix, error) {
	const op = "packet.CutUnit"
	if len(unit) != Size {
		return nil, Prefix{}, reject(op, errs.Invalid, errSize)
	}
	p, err := parsePrefix(unit)
	if err != nil {
		return nil, Prefix{}, reject(op, errs.Invalid, err)
	}
	return unit[:SizeAt(p.Layer)], p, nil
}
