//go:build race

package proxy_test

// shadow is how much memory a byte of the program's takes, with what the race detector keeps of it.
const shadow = 5
