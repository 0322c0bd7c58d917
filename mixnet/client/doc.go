// Package client is the user's end of the mix network: which way a packet takes, when
// something leaves, what waits to be sent and what has come.
//
// The first half is pure and needs neither disk nor network: Pick chooses a way, Clocks say
// when a packet leaves and of what sort, a Path is a way that a user wrote down, Forecast
// tells when mail arrives. The simulation runs the same code.
//
// The second half, Client, keeps a line to the user's relay on which packets leave at
// moments that only the clocks choose, whether there is mail or not. What waits and what has
// come lies in a Store on disk.
//
// The design is Loopix (Piotrowska, Hayes, Elahi, Meiser, Danezis, USENIX Security 2017);
// all parameters come from the consensus, since a client with its own could be told apart.
package client
