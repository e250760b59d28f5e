package fuzz

import "context"

// smaller makes the findings smaller, and writes them.
func (f *Fuzz) smaller(ctx context.Context, b bench) error { return nil }
