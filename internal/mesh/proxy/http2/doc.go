// Package http2 relays one client's HTTP/2 connection to the application, frame
// by frame. Request heads are decoded, judged by a Handler and encoded again;
// DATA passes as it is; response heads are decoded for their status.
//
// What flows through: a client connection whose first bytes are the HTTP/2
// preface goes in; heads come out to Handler.Decide; permitted streams keep
// their number on a connection to the application that serves this client only.
// Streams that the Handler wants for itself (HTTP/1 carried in HTTP/2, H-01) come out
// as *Stream.
//
// What it refuses: to know policy, identities or metrics; to forward a head that
// RFC 9113 calls malformed or that exceeds a limit; to let a client choose
// l5d-client-id or l5d-orig-proto (I-07, H-01); server push, CONNECT with
// :protocol, priorities (they are read and dropped).
//
// # How it is built
//
//	client ──▶ Conn.readClient ──▶ app.out ──▶ application
//	client ◀── client.out ◀── Conn.readApp ◀── application
//
// Each connection has one goroutine that reads it. A goroutine takes Conn.mu once
// per read, handles all whole frames that the read brought, lets go of it and
// writes what came together for either peer in one write each. Nothing is shared
// between client connections.
//
// # Invariants
//
// The tests name them by these numbers.
//
//  1. Four HPACK contexts per pair of connections: both decoders and both encoders
//     belong to the relay. Every header block that arrives is decoded completely,
//     whatever becomes of its stream, or else its connection ends; a block is
//     encoded only at the moment it is put into the buffer it is sent from. So no
//     verdict can bring a peer's table out of step.
//  2. A stream has the same number on both connections. Client numbers only rise,
//     so those of the application rise too; numbers of streams that were not
//     forwarded are skipped, which closes them there.
//  3. Nothing of a stream reaches the application before Decide has returned
//     Forward for it, and nothing of one that was answered ever does.
//  4. Every DATA byte that arrives, padding included, is credited to its
//     connection exactly once: when it has been put into the buffer towards the
//     other peer, when a Stream's reader has taken it, or when it is dropped.
//  5. Bytes held for a stream never exceed the window that was advertised for it,
//     those held for a connection never its window; buffers towards a peer that
//     does not read stop the goroutine that fills them.
//  6. A stream that the relay reset is remembered until as many others have been
//     reset as a client may have open. A client that counts a stream as open until
//     it has seen the reset cannot have frames on its way for an older one.
//  7. For each Decide, HandOut aside, Responded is called exactly once.
//  8. Close order: nothing calls the Handler, and no goroutine of the relay runs,
//     after Serve has returned.
package http2
