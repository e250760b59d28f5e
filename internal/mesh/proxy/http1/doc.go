// Package http1 relays HTTP/1 between a client's connection and an
// application, one request after the other, as it stands on the wire.
//
// What flows through: the bytes of a request head are parsed where they lie
// (head), a Handler decides on it, and the head is written again for the
// application without what concerns one connection only or what a client may not
// say (rewrite). The body follows as it is, its framing checked while it passes
// (framing). The application's head is parsed as strictly, its answer goes back
// in the same way (exchange). A connection is one goroutine; a request whose
// body is not there with its head is sent by a second one, so that an answer may
// come first. While nothing is under way a connection has no buffer (wait).
//
// A Carrier asks an application in HTTP/1 what came in another protocol (carry), with
// the same care for what is sent and what comes back.
//
// What it promises:
//
//   - The application is sent only what was judged: each head has one reading,
//     and where another server could read it in another way it is refused, with
//     400 and the end of the connection. Nothing after it is looked at.
//   - No connection to the application serves two clients, and none is used
//     again on which anything came that was not asked for.
//   - A steady request takes no lock and allocates nothing.
//   - For each call of Handler.Decide there is one of Handler.Responded.
//
// It refuses: versions other than 1.0 and 1.1, methods that are not upper-case,
// targets with a fragment, a backslash, a control or a byte past ASCII; a target
// whose authority the Host field contradicts, no Host (1.1), two; bare CR or LF,
// folded lines, white space before a colon, controls in values; content-length
// and transfer-encoding together, either twice, any length but plain decimal
// digits, any coding but chunked; and whatever is beyond Limits.
package http1
