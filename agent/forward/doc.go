// Package forward serves aliases whose owner has no mailbox here but one elsewhere, the target
// (post/alias.Target):
//
//   - mail for an alias is sent on to the target, from a reverse address that stands for its sender,
//     with a return address of its own as envelope sender (mail/verp) (Forward);
//   - what the target writes to a reverse address goes to that sender, as the alias, stripped of
//     everything that tells of the target (Take);
//   - what comes back counts against the target; too much, and nothing is sent there for a while
//     (Take, Returned);
//   - nothing is sent on before whoever reads the target has agreed (Ask, Handler).
//
// Nothing here reveals the target to a sender, in an answer, a refusal or a report. The formats are
// docs/aliases-forward.md.
package forward
