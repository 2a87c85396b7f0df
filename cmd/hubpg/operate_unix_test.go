//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

func TestTheSignalOfAHangupIsPassedOn(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("the tests run under nohup")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := hangups(ctx, cancel)
	for range 2 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
		case <-ctx.Done():
			t.Fatal("taken for the end of the terminal")
		case <-time.After(time.Minute):
			t.Fatal("not passed on")
		}
	}
}
