// Package abuse attacks the real inbound proxy from outside, case by case. Its
// 80 cases have the numbers of the list of bypasses and abuses that the project
// keeps; `make abuse` runs them, prints one row for each and ends with how many
// hold.
//
//	client (raw bytes, frames, TLS) -> proxy (its own process) -> application
//	                                                              |
//	                        oracle  <- what the application saw --+
//
// The application records every byte and reads paths as nginx, as Go and as a
// lenient server would. Whatever else a case asks for, the oracle holds: the
// application never observes a request whose own view of it is not allowed.
//
// Cases of the policy plane are shown by Go tests of the controller, which are
// named here and run as part of the case. A case that does not hold fails; none
// is skipped.
package abuse
