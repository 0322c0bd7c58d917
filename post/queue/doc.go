// Package queue keeps the mails that wait for another host, sealed at rest, and says
// which is due where.
//
// Everything of a mail lies in one shard (the sender's), behind the letter 'q', a kind and
// the mail's random number:
//
//	key                 value
//	q m number          version; key of the body, sealed for queue-body; envelope,
//	                    sealed for queue-mail
//	q r number n        recipient n (uint16), sealed for queue-recipient
//	q t number          the bytes of the mail up to 64 KiB, sealed by the body's key
//
// Larger bodies are files of post/blob under the mail's number. Nothing can be read
// without the node key but counts, random numbers and padded sizes: due times and
// destinations are inside the seal, because the schedule is kept in memory and built
// again by Open.
//
// A recipient's row is deleted by the transaction that settles it, and the last row
// takes the mail along: what is in the store is what is still to be done.
//
// What cannot be read is set aside: it is not handed out, List and Check name it, and
// only Drop (or Retry, after the damage was mended) ends that.
package queue
