package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hubpg/internal/sandbox"
)

// defaultSandboxListen is where hubpg sandbox listens, and hubpg demo's sandbox when the port is free.
const defaultSandboxListen = "127.0.0.1:8098"

func (p *Program) sandboxCommand() *cobra.Command {
	var listen, limits, profileName string
	cfg := sandbox.Config{}
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a simulated HubSpot account",
		Long: "Run a simulated HubSpot account: the API that hubpg uses, as strict as HubSpot's, over a small company\n" +
			"generated from a seed. It prints \"ready http://…\" when it accepts requests. The admin API under\n" +
			"/_sandbox/ changes data and injects faults. Nothing is kept when it ends.\n\n" +
			"Profiles:\n" + describeProfiles() + "\n\n" +
			"An app can be installed at /oauth/authorize: client id " + sandbox.DefaultClientID + ", secret " +
			sandbox.DefaultClientSecret + ",\nredirected to any loopback address.",
		Example: "  hubpg sandbox\n" +
			"  hubpg sandbox --listen 127.0.0.1:8098 --contacts 100000 --limits off\n" +
			"  hubpg sandbox --profile hostile\n" +
			"  curl -H 'Authorization: Bearer sandbox' http://127.0.0.1:8098/crm/v3/objects/contacts",
		Args: noArguments,
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", defaultSandboxListen, "address to listen on")
	flags.Int64Var(&cfg.Seed, "seed", 1, "decides every generated value")
	flags.IntVar(&cfg.Contacts, "contacts", sandbox.DefaultContacts, "number of contacts; the other objects grow with it")
	flags.StringVar(&cfg.Token, "token", sandbox.DefaultToken, "access token that clients must send")
	flags.DurationVar(&cfg.Latency, "latency", 0, "delay of every answer, for instance 200ms")
	flags.StringVar(&limits, "limits", "real", "real: HubSpot's rate limits; off: none")
	flags.StringVar(&profileName, "profile", "calm", "how it behaves: "+profileNames())
	flags.DurationVar(&cfg.TokenLife, "token-life", 30*time.Minute, "how long OAuth access tokens live")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limits != "real" && limits != "off" {
			return usageError{problem: fmt.Sprintf("--limits %q: use real or off", limits), command: cmd.CommandPath()}
		}
		profile, ok := sandbox.ProfileNamed(profileName)
		if !ok {
			return usageError{
				problem: fmt.Sprintf("--profile %q: use one of %s", profileName, profileNames()), command: cmd.CommandPath(),
			}
		}
		if cfg.Contacts < 1 || cfg.Latency < 0 {
			return usageError{problem: "--contacts must be at least 1 and --latency not negative", command: cmd.CommandPath()}
		}
		cfg.Limits = limits == "real"
		return p.runSandbox(cmd.Context(), profile.Apply(cfg), listen)
	}
	return cmd
}

// profileNames are the names of the profiles, from the mildest on.
func profileNames() string {
	var names []string
	for _, p := range sandbox.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

func describeProfiles() string {
	var lines []string
	for _, p := range sandbox.Profiles() {
		lines = append(lines, fmt.Sprintf("  %-8s %s", p.Name, p.About))
	}
	return strings.Join(lines, "\n")
}

func (p *Program) runSandbox(ctx context.Context, cfg sandbox.Config, listen string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return listenError(err, "the sandbox", listen, "--listen")
	}
	account := sandbox.New(cfg)
	if _, err := fmt.Fprintf(p.Stdout, "ready %s\n", httpURL(listener)); err != nil {
		return errors.Join(err, listener.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return account.Run(ctx) })
	g.Go(func() error { return serveHTTP(ctx, listener, account) })
	return endOf(ctx, g.Wait())
}

// serveHTTP serves until ctx ends, then lets requests finish for a moment.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 16,
	}
	g := errgroup.Group{}
	defer func() { _ = g.Wait() }()
	done := make(chan struct{})
	defer close(done)
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-done:
			return nil
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			return server.Close()
		}
		return nil
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// httpURL is the address of a listener for a client on this machine.
func httpURL(l net.Listener) string { return "http://" + reachable(l.Addr()) }

// reachable turns the address of a listener into one that can be dialled.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
}

// endOf takes the end of the context for success: it is how a user stops a command.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
