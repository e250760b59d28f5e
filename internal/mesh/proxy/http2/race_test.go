//go:build race

package http2

func init() { raced = true }
