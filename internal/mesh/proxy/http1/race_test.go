//go:build race

package http1

func init() { raced = true }
