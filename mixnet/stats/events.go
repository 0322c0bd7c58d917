package stats

// Events that mixminiond had. Any other name of letters and digits may be counted as well.
const (
	ReceivedPacket      = "ReceivedPacket"
	ReceivedConnection  = "ReceivedConnection"
	AttemptedConnect    = "AttemptedConnect"
	SuccessfulConnect   = "SuccessfulConnect"
	FailedConnect       = "FailedConnect"
	AttemptedRelay      = "AttemptedRelay"
	SuccessfulRelay     = "SuccessfulRelay"
	FailedRelay         = "FailedRelay"      // to be tried again
	UnretriableRelay    = "UnretriableRelay" // given up
	AttemptedDelivery   = "AttemptedDelivery"
	SuccessfulDelivery  = "SuccessfulDelivery"
	FailedDelivery      = "FailedDelivery"
	UnretriableDelivery = "UnretriableDelivery"
)

// Events of our own.
const (
	Replay  = "Replay"  // a packet that was taken before
	Dropped = "Dropped" // a packet that was not kept; the argument says why
	Later   = "Later"   // a packet that was put off: disk or memory were full
	Loop    = "Loop"    // a measuring packet of this node; the argument: sent, returned
)

// order is in which order events are written; those that are not here follow by name.
func order() []string {
	return []string{ReceivedPacket, ReceivedConnection, AttemptedConnect, SuccessfulConnect, FailedConnect,
		AttemptedRelay, SuccessfulRelay, FailedRelay, UnretriableRelay,
		AttemptedDelivery, SuccessfulDelivery, FailedDelivery, UnretriableDelivery}
}
