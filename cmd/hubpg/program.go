package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"hubpg/internal/config"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Program is hubpg with its streams and environment.
type Program struct {
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
	// Hangup tells of SIGHUP, which serve takes as the wish to read its certificates again and which ends every other
	// command. Nil where none comes.
	Hangup <-chan struct{}

	reload atomic.Pointer[func()] // what a hangup does; nil: it ends the command
}

// Run runs one command line and returns its exit status. Everything started has ended when it returns.
func (p *Program) Run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	ctx, stop := p.watchHangup(ctx)
	defer stop()
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDiffers): // the report has said it
		return exitFailed
	}
	f := explain(err)
	f.print(p.Stderr)
	return f.status
}

// watchHangup makes a hangup reload what the command has said, or end its context. stop ends the watch.
func (p *Program) watchHangup(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-p.Hangup:
			}
			if reload := p.reload.Load(); reload != nil {
				(*reload)()
			} else {
				cancel()
			}
		}
	})
	return ctx, func() {
		cancel()
		watch.Wait()
	}
}

func (p *Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "hubpg",
		Short:         "A HubSpot account as live Postgres tables",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		Example: "  hubpg demo\n  hubpg serve --config hubpg.yaml",
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{problem: config.FlagProblem(err), command: cmd.CommandPath()}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(p.demoCommand(), p.serveCommand(), p.sandboxCommand(), p.statusCommand(), p.verifyCommand(), p.resyncCommand(), p.schemaCommand(),
		p.planCommand(), p.listenCommand(), p.connectCommand(), p.configCommand(), p.versionCommand())
	return root
}

// noArguments refuses what stands behind the flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	problem := fmt.Sprintf("unexpected argument %q", args[0])
	if !cmd.HasParent() {
		problem = fmt.Sprintf("unknown command %q", args[0])
	}
	return usageError{problem: problem, command: cmd.CommandPath()}
}

// logger makes the log that the configuration asks for, on standard error.
func (p *Program) logger(c config.Log) (*slog.Logger, error) {
	level, err := c.SlogLevel()
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(p.Stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(p.Stderr, options)), nil
}
