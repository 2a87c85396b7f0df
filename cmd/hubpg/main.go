// Command hubpg keeps a HubSpot account live in Postgres and serves it over the Postgres protocol.
//
//	hubpg demo      everything on this machine, with a simulated HubSpot: no account, no set-up
//	hubpg serve     the real thing: keeps tables true, serves them and rings LISTENing clients
//	hubpg sandbox   the simulated HubSpot alone
//	hubpg status    how complete and how fresh each table is
//	hubpg listen    prints changes as they happen
//	hubpg verify    compares every row with HubSpot
//	hubpg plan      tells what an account will cost before it is mirrored
//	hubpg connect   signs in to an account through an app, where there is no token
//	hubpg config    prints the settings in force
//
// Exit status: 0 done, 1 failed, 2 wrong usage. A failure is one line on standard error, with the next step on a
// second one.
//
// Each verb is one file. app.go is the composition root: the only place where the proxy, the materializer, HubSpot and
// Postgres are wired together. The program can be run in process, as the tests do: [Program.Run] takes its arguments,
// environment and streams and ends everything it started before it returns.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the quota's days begin at midnight of the account, also in an image without time zones
)

func main() {
	os.Exit(untilSignal())
}

// untilSignal gives the program a context that the first signal ends. A second signal ends the process.
func untilSignal() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the next signal has its default effect again
	p := &Program{Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, Hangup: hangups(ctx, stop)}
	return p.Run(ctx, os.Args[1:])
}

// hangups tells of SIGHUP, except where it means that the terminal was closed: that ends the program by stop.
func hangups(ctx context.Context, stop func()) <-chan struct{} {
	if signal.Ignored(syscall.SIGHUP) { // nohup
		return nil
	}
	signals, told := make(chan os.Signal, 1), make(chan struct{})
	terminal := isTerminal(os.Stderr)
	signal.Notify(signals, syscall.SIGHUP)
	go func() { // ends with ctx, at the latest with the process
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			if terminal && !isTerminal(os.Stderr) {
				stop()
				return
			}
			select {
			case <-ctx.Done():
			case told <- struct{}{}:
			}
		}
	}()
	return told
}
