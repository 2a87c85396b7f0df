//go:build !race

package proxy_test

// shadow is how much memory a byte of the program's takes.
const shadow = 1
