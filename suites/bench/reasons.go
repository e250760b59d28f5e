package main

// reasons say, of rows that miss their top figure (or, where it says so, their
// gate), what stands between. No figures in here: those are measured.
var reasons = map[string]string{
	"P1/saturated":  "beside the four system calls that a request needs, reads that find nothing: before Go's poller parks who reads, and the look at the application's connection before it is used again",
	"P1/sparse":     "a wake-up of Go's poller and scheduler for each of the two directions, where haproxy has one event loop",
	"P2/saturated":  "as P1, with Go's AES, which does not use the widest instructions",
	"P2/sparse":     "as P1/sparse",
	"P3/sparse":     "one frame per wake-up: nothing to batch, so that the wake-ups decide",
	"P4/sparse":     "as P3/sparse",
	"P6/http1":      "the proxy reads and writes each request and each answer once more, and the load's and the application's share of that is small",
	"P7/cpu":        "the kernel's copies decide, and haproxy splices",
	"P8/throughput": "Go's AES is slower than OpenSSL's",
	"P8/cpu":        "Go's AES is slower than OpenSSL's",
	"P9/rate":       "the client's half of the handshake, which is the same for both, bounds the rate",
	"P10/http1":     "two wake-ups of a sleeping Go process more than one event loop has",
	"P10/grpc":      "as P10/http1",
	"P11/idle":      "a goroutine with its stack and the runtime's descriptors for both sides of a connection; the stacks come in powers of two",
	"P11/idle-heap": "two stacks, two connections of package net and the state of one policy watch for each connection",
	"P12":           "within what rounds differ by",
	"P13":           "a decision, its record and its counts are real work beside so short a request",
	"P16/scenario":  "many clients are asked about each policy, and many scenarios at a time share the processors with a whole cluster",
	"P16/suite":     "as P16/scenario",
	"C3":            "a bare grpc-go stream takes nearly all of it: two goroutines, a framer and its buffers",
	"C6":            "a map of ten times the size is colder in the caches",
	"C8":            "the API server's watch delivers a burst in pieces, and the first piece is put in force without waiting for the rest",
	"C9/streams":    "grpc-go begins a stream with a goroutine, whose stack grows, a context and a decoded head; a change is a write",
	"C9/restart":    "grpc-go's connecting, which costs a server without policies as much (row `controller/bare-restart`)",
}
