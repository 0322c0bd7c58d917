package imapmodel

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
)

// Account is an account of the server under test, used by one run.
type Account struct {
	Dial     func() (net.Conn, error) // a connection on which the greeting comes and LOGIN may be used
	User     string
	Password string
	Deliver  func() error // puts one mail into INBOX from outside; nil: nothing comes from outside
}

// Options say how a run goes.
type Options struct {
	Seed     uint64
	Steps    int           // at most 1<<20
	Only     []int         // the steps to take; nil: all
	Sessions int           // 2 to 4
	Fault    *Fault        // broken on purpose between server and tested sessions; nil: nothing
	Timeout  time.Duration // of one answer; 0: 20 s
	Notify   bool          // the first session uses NOTIFY (RFC 5465) with SELECTED-DELAYED
	Quirks   Quirks
}

// Report is what a run did.
type Report struct {
	Commands map[string]int
	Bursts   int
}

// Violation is a broken rule.
type Violation struct {
	Step    int
	Session string
	Command string
	Reply   string // that broke it, if one did
	Err     error
	Log     []string // all that was said, in order
}

func (v *Violation) Error() string {
	text := fmt.Sprintf("step %d, session %s, at %q", v.Step, v.Session, v.Command)
	if v.Reply != "" {
		text += fmt.Sprintf(", response %q", v.Reply)
	}
	return text + ": " + v.Err.Error()
}

func (v *Violation) Unwrap() error { return v.Err }

type run struct {
	opt      Options
	account  Account
	log      *Log
	boxes    []*box
	sessions []*session
	observer *wire
	mails    int
	most     int // messages of a mailbox above which nothing is added
	report   Report
}

const defaultTimeout = 20 * time.Second

// Run drives the server for some steps. The error is a *Violation, or something
// that kept the run from being made.
func Run(account Account, opt Options) (Report, error) {
	if opt.Timeout == 0 {
		opt.Timeout = defaultTimeout
	}
	r := &run{opt: opt, account: account, log: &Log{}, most: 24, report: Report{Commands: map[string]int{}}}
	defer r.close()
	if err := r.open(); err != nil {
		return r.report, fmt.Errorf("before the first step: %w\n%s", err, strings.Join(r.log.Lines(), "\n"))
	}
	only := opt.Only
	if only == nil {
		for i := range opt.Steps {
			only = append(only, i+1)
		}
	}
	for _, step := range only {
		if err := r.step(step); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

func (r *run) close() {
	for _, s := range r.sessions {
		s.w.close()
	}
	if r.observer != nil {
		r.observer.close()
	}
}

// open connects the sessions: without extensions or with NOTIFY, with CONDSTORE, with
// QRESYNC, and IMAP4rev2 with QRESYNC.
func (r *run) open() error {
	login := fmt.Sprintf("LOGIN %s %s", quote(r.account.User), quote(r.account.Password))
	connect := func(name string, through func() (net.Conn, error)) (*wire, error) {
		w, err := dial(name, through, r.log, r.opt.Timeout)
		if err != nil {
			return nil, err
		}
		if _, err = w.next(r.opt.Timeout); err == nil {
			_, err = w.do(login)
		}
		if err != nil {
			w.close()
			return nil, err
		}
		return w, nil
	}
	var err error
	if r.observer, err = connect("observer", r.account.Dial); err != nil {
		return err
	}
	caps, err := r.observer.do("CAPABILITY")
	if err != nil {
		return err
	}
	if _, err := r.observer.do("CREATE second"); err != nil {
		return err
	}
	for _, name := range []string{"INBOX", "second"} {
		got, err := observe(r.observer, name)
		if err != nil {
			return err
		}
		b := &box{name: name, validity: got.validity, uidnext: got.uidnext, highest: got.highest, byUID: map[uint32]*message{}}
		if err := b.reconcile(0, got, nil, nil, len(got.uids)); err != nil {
			return err
		}
		r.boxes = append(r.boxes, b)
	}
	through := r.account.Dial
	if r.opt.Fault != nil {
		through = r.opt.Fault.between(r.account.Dial)
	}
	for i := range r.opt.Sessions {
		w, err := connect(string(rune('A'+i)), through)
		if err != nil {
			return err
		}
		s := &session{w: w, quirks: r.opt.Quirks, kept: map[string]cache{}}
		r.sessions = append(r.sessions, s)
		switch i {
		case 0:
			if r.opt.Notify {
				s.notify = true
				_, err = w.do("NOTIFY SET (SELECTED-DELAYED (MessageNew (UID FLAGS) MessageExpunge FlagChange))")
			}
		case 1:
			s.condstore = true // with its first SELECT (CONDSTORE)
		case 2:
			s.condstore, s.qresync = true, true
			_, err = w.do("ENABLE QRESYNC")
		case 3:
			s.condstore, s.qresync = true, true
			enable := "ENABLE QRESYNC"
			if strings.Contains(caps[0].Raw, "IMAP4rev2") {
				s.rev2 = true
				enable += " IMAP4rev2"
			}
			_, err = w.do(enable)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// step makes up one or a few commands, runs them at the same moment, and judges.
func (r *run) step(step int) error {
	rng := rand.New(rand.NewPCG(r.opt.Seed, uint64(step)))
	var ops []*op
	for _, s := range r.sessions {
		s.step = step
	}
	if rng.IntN(5) == 0 { // a few at the same moment
		for _, i := range rng.Perm(len(r.sessions)) {
			if s := r.sessions[i]; s.idle == "" && rng.IntN(4) > 0 {
				ops = append(ops, r.draw(s, rng, false))
			}
		}
		r.report.Bursts++
	}
	if r.account.Deliver != nil && len(r.boxes[0].alive()) <= r.most && rng.IntN(12) == 0 {
		ops = append(ops, &op{kind: "DELIVER", line: "(a mail comes from outside)", dst: r.boxes[0], outside: 1})
	}
	if len(ops) == 0 {
		ops = append(ops, r.draw(r.sessions[rng.IntN(len(r.sessions))], rng, true))
	}
	ops = slices.DeleteFunc(ops, func(o *op) bool { return len(ops) > 1 && o.kind == "DONE" })
	if err := r.perform(step, ops); err != nil {
		return err
	}
	if !r.opt.Quirks.IdleTellsLate {
		for _, s := range r.sessions {
			if (s.idle != "" || s.notify && s.box != nil) && rng.IntN(3) == 0 {
				if err := r.awaitTold(step, s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *run) fail(step int, o *op, s *session, reply string, err error) error {
	v := &Violation{Step: step, Reply: reply, Err: err}
	if o != nil {
		v.Command = o.line
	}
	if s != nil {
		v.Session = s.w.name
	} else {
		v.Session = "observer"
	}
	v.Log = r.log.Lines()
	return v
}

func (r *run) perform(step int, ops []*op) error {
	for _, o := range ops {
		r.report.Commands[o.kind]++
		if o.s == nil {
			continue
		}
		if err := r.drain(step, o.s); err != nil { // all of them, before anything happens
			return err
		}
	}
	for _, o := range ops {
		if o.s == nil {
			continue
		}
		if err := r.send(o); err != nil {
			return r.fail(step, o, o.s, "", err)
		}
	}
	for _, o := range ops {
		if o.s == nil {
			r.log.add("mail>", o.line)
			if err := r.account.Deliver(); err != nil {
				return fmt.Errorf("delivery: %w", err)
			}
			continue
		}
		replies, err := o.s.w.until(o.tag)
		o.replies = replies
		if err != nil {
			last := ""
			if len(replies) > 0 {
				last = replies[len(replies)-1].Raw
			}
			return r.fail(step, o, o.s, last, err)
		}
	}
	alone := len(ops) == 1
	if err := r.explain(step, ops, alone); err != nil {
		return err
	}
	for _, o := range ops {
		if o.s == nil {
			continue
		}
		if err := r.interpret(step, o, alone); err != nil {
			return err
		}
	}
	return nil
}

// send writes a command; what came before it is in the queue and was drained.
func (r *run) send(o *op) (err error) {
	s := o.s
	s.begin(o)
	switch o.kind {
	case "IDLE":
		if o.tag, err = s.w.send("IDLE", ""); err != nil {
			return err
		}
		s.idle, o.tag = o.tag, "+"
		return nil
	case "DONE":
		o.tag, o.line = s.idle, "DONE"
		return s.w.raw("DONE")
	}
	o.tag, err = s.w.send(o.line, o.literal)
	return err
}

// drain takes in what a session was told while it had no command, or during IDLE.
func (r *run) drain(step int, s *session) error {
	for {
		select {
		case reply, ok := <-s.w.replies:
			if !ok {
				return r.fail(step, nil, s, "", fmt.Errorf("connection lost: %w", s.w.failed))
			}
			if err := s.take(reply, nil); err != nil {
				return r.fail(step, nil, s, reply.Raw, err)
			}
		default:
			return nil
		}
	}
}

// awaitTold waits until an idling session was told all, or one with NOTIFY all but what
// expunges it may not be told now.
func (r *run) awaitTold(step int, s *session) error {
	line, told := "IDLE", s.settled
	if s.idle == "" {
		line, told = "(between commands)", s.notified
	}
	deadline := time.Now().Add(r.opt.Timeout)
	for {
		if err := r.drain(step, s); err != nil {
			return err
		}
		err := told()
		if err == nil {
			return nil
		}
		reply, lost := s.w.next(time.Until(deadline))
		if lost != nil {
			return r.fail(step, &op{line: line}, s, "", fmt.Errorf("%w; %w", err, lost))
		}
		if err := s.take(reply, nil); err != nil {
			return r.fail(step, &op{line: line}, s, reply.Raw, err)
		}
	}
}

// explain brings the truth up to date and demands that the commands explain it.
func (r *run) explain(step int, ops []*op, alone bool) error {
	e := &effects{touches: map[*box][]touch{}, births: map[*box][]birth{}, deliveries: map[*box]int{}}
	for _, o := range ops {
		if o.s == nil {
			_ = o.collect(e, alone)
			continue
		}
		if o.kind == "IDLE" {
			continue
		}
		err := o.accept()
		if err == nil {
			err = o.collect(e, alone)
		}
		if err != nil {
			return r.fail(step, o, o.s, o.replies[len(o.replies)-1].Raw, err)
		}
	}
	for _, o := range ops {
		if o.s != nil {
			if err := o.copies(e, alone); err != nil {
				return r.fail(step, o, o.s, o.last.Raw, err)
			}
		}
	}
	lines := make([]string, len(ops))
	for i, o := range ops {
		lines[i] = o.line
	}
	for _, b := range r.boxes {
		if len(e.touches[b])+len(e.births[b])+e.deliveries[b] == 0 {
			continue
		}
		got, err := observe(r.observer, b.name)
		if err == nil {
			err = b.reconcile(step, got, e.touches[b], e.births[b], e.deliveries[b])
		}
		if err != nil {
			return r.fail(step, &op{line: strings.Join(lines, "; ")}, nil, "", fmt.Errorf("%s: %w", b.name, err))
		}
	}
	return nil
}

// interpret takes all responses of one command in.
func (r *run) interpret(step int, o *op, alone bool) error {
	s := o.s
	if o.select_ != nil {
		o.selected = map[string]string{}
		s.box, s.readonly, s.slots, s.maxUID, s.keywords = o.select_.box, o.select_.readonly, nil, 0, nil
	}
	judged := o
	if o.kind == "DONE" || o.kind == "IDLE" {
		judged = nil // what comes is told by IDLE, which is a command in progress
	}
	for _, reply := range o.replies[:len(o.replies)-1] {
		if err := s.take(reply, judged); err != nil {
			return r.fail(step, o, s, reply.Raw, err)
		}
	}
	if o.kind == "DONE" {
		s.idle = ""
	}
	if o.kind == "IDLE" {
		return nil
	}
	if err := s.code(o.last, nil); err != nil {
		return r.fail(step, o, s, o.last.Raw, err)
	}
	if err := s.conclude(o, alone); err != nil {
		return r.fail(step, o, s, o.last.Raw, err)
	}
	return nil
}
