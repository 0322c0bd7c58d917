// Package limits bounds what strangers and users may take: connections, rates
// and networks. Everything here holds its own bounded memory and knows nothing
// of mail.
package limits
