// Package transitions is the library's folder of that name as a Ginkgo suite: what
// calls get between the old policy and the new one. How scenarios become specs is
// package specs' affair.
package transitions
