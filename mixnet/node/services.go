package node

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/stats"
)

// Services answer queries that come through the network from nobody knows whom.
type Services interface {
	// Serve answers one request to a service (content.ServiceCertificate and others), with a
	// status of content (AnswerOK and others) and up to content.MaxAnswer bytes, none unless
	// the status is AnswerOK. It should be quick: one query is answered after another. A query
	// may come again after a crash. It must not keep request, and returns when ctx ends; what it
	// says then does not count.
	Serve(ctx context.Context, service uint8, request []byte) (status uint8, answer []byte)
}

// Bounds of services, where Options do not say otherwise.
const (
	DefaultServiceRate  = 20  // queries a second, of everybody together
	DefaultServiceQueue = 256 // queries that wait

	serviceBatch = 16 // queries whose answers are put into the log at once
	serviceAll   = "all"
)

// query takes a query over, or answers at once that there are too many. It gives what is to be tried
// again, with the reason.
func (e *ends) query(c packet.Content, w waiting) (unsent []waiting, err error) {
	n := e.n
	if _, _, err := content.ParseQuery(c); err != nil || n.o.Services == nil {
		why := "query"
		if err == nil {
			why = "service"
		}
		w.p.Drop()
		n.drop(why)
		return nil, nil
	}
	length, _ := e.queries.state()
	if ok, _ := e.rate.Allow(serviceAll); ok && length < n.o.ServiceQueue {
		e.queries.put(w)
		return nil, nil
	}
	n.count(stats.UnretriableDelivery, "query: later")
	later, err := content.NewAnswer(content.AnswerLater, nil)
	if err != nil {
		return []waiting{w}, err
	}
	return e.answer([]answer{{c.SURB, later, w}})
}

func (e *ends) runQueries(ctx context.Context) error {
	return e.queries.run(ctx, serviceBatch, e.serve)
}

// serve answers queries.
func (e *ends) serve(ctx context.Context, ws []waiting) {
	n := e.n
	var answers []answer
	for _, w := range ws {
		_, c, have, whole := open(w)
		if !have || !whole { // it was whole when it was taken over
			continue
		}
		service, request, err := content.ParseQuery(c)
		if err != nil {
			w.p.Drop()
			continue
		}
		status, b := n.o.Services.Serve(ctx, service, request)
		if ctx.Err() != nil {
			return // they are in the log, and come again at the next start
		}
		reply, err := content.NewAnswer(status, b)
		if err != nil {
			n.o.Logger.Error("a service gave an answer that cannot be sent", "service", service, "error", errs.Public(err))
			if reply, err = content.NewAnswer(content.AnswerRefused, nil); err != nil {
				w.p.Drop()
				continue
			}
		}
		n.count(stats.SuccessfulDelivery, "query")
		answers = append(answers, answer{c.SURB, reply, w})
	}
	unsent, err := e.answer(answers)
	if len(unsent) > 0 {
		n.o.Logger.Warn("queries could not be answered; it is tried again", "error", errs.Public(err))
	}
	e.queries.tried(len(answers)-len(unsent), unsent, err)
}
