package cluster

import (
	"errors"
	"fmt"
)

// Errors a caller decides by.
var (
	ErrExists   = errors.New("a cluster of this name exists")
	ErrNotFound = errors.New("no such cluster")
	// ErrName means that a cluster cannot be called that.
	ErrName = errors.New("not a name for a cluster")
	// ErrNotReady means that a cluster was started and did not become ready.
	ErrNotReady = errors.New("the cluster did not become ready")
)

// SetupError means that the machine, and not the product under test, stands in
// the way of a cluster. It has a cause and what to do about it, one line each.
type SetupError struct {
	// Cause is what was attempted and how it failed.
	Cause string
	// Remedy is what the user can do; empty when nobody knows.
	Remedy string
	// Err is the underlying error, if any.
	Err error
}

func (e *SetupError) Error() string {
	text := e.Cause
	if e.Err != nil {
		text = fmt.Sprintf("%s: %v", text, e.Err)
	}
	if e.Remedy != "" {
		text += " (remedy: " + e.Remedy + ")"
	}
	return text
}

func (e *SetupError) Unwrap() error { return e.Err }

// OptionError means that a setting that the user chose cannot be.
type OptionError struct {
	// Option is the setting's name as the user spells it, without dashes.
	Option string
	// Problem is what is wrong with its value, and what would do.
	Problem string
}

func (e *OptionError) Error() string { return "--" + e.Option + ": " + e.Problem }
