// Package lint finds what is wrong with scenarios though they can be parsed: parts
// that nobody uses, claims that cannot fail, writes whose effect nobody waits for,
// and expectations that the rules exclude as far as that can be told without a
// cluster.
//
// Files go in, and findings with file, line and column come out; what makes a run
// fail for certain is an error, all else a warning. It runs nothing, and what only
// a cluster can tell it does not guess.
package lint
