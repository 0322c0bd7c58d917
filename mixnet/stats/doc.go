// Package stats counts what happens in a node, by period. A period is written to the file of
// statistics when its interval has passed and at least three quarters of it were
// observed: a node that was up for ten minutes of a day must not publish these ten minutes, which
// would say more about single users than it should. Names of events, rule and layout are those
// of mixminiond, whose operators have tools for them.
//
// The counts of the period that has not ended lie in a cache file, which is written now and then
// and survives the end of the process at any moment: what is lost is what was counted since
// it was written last, together with the time in which it was observed.
package stats
