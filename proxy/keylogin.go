package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/scram"
)

// keyLogin is a login to Postgres with the keys of a client whose proof was accepted; pgconn knows passwords only.
type keyLogin struct {
	*loginResult
	reader   *pgwire.Reader
	exchange *scram.Client
	proved   bool // Postgres has shown that it knows the verifier, or has asked for nothing
}

// loginWithKeys connects as the client with its parameters. A *pgwire.Error is for the client to see.
func (s *Server) loginWithKeys(ctx context.Context, startup *pgwire.Startup, keys *scram.Keys) (*loginResult, error) {
	u, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	in := &keyLogin{
		loginResult: &loginResult{upstream: u}, reader: pgwire.NewReader(u.conn, maxServerLogin),
		exchange: keys.NewClient(peerEndPoint(u.conn)), proved: true,
	}
	if err := in.run(ctx, startup); err != nil {
		u.conn.Close()
		return nil, err
	}
	return in.loginResult, nil
}

// run takes the connection from the start-up packet to the first ReadyForQuery.
func (in *keyLogin) run(ctx context.Context, startup *pgwire.Startup) error {
	unwatch := context.AfterFunc(ctx, func() { _ = in.conn.SetDeadline(time.Now()) })
	defer unwatch()
	if _, err := in.conn.Write(pgwire.AppendStartup(nil, pgwire.Protocol30, startup.Parameters)); err != nil {
		return fmt.Errorf("log in to Postgres: %w", err)
	}
	for {
		h, message, err := in.reader.Read()
		if err != nil {
			return fmt.Errorf("log in to Postgres: %w", err)
		}
		if h.Type == 'Z' {
			break
		}
		if err := in.take(h.Type, message); err != nil {
			return err
		}
	}
	in.rest = in.reader.Rest()
	if !unwatch() {
		return fmt.Errorf("log in to Postgres: %w", ctx.Err())
	}
	return nil
}

// take handles one message of Postgres.
func (in *keyLogin) take(typ byte, message []byte) error {
	switch typ {
	case 'R':
		return in.authentication(message)
	case 'E':
		return pgwire.ParseError(message)
	case 'N':
		in.notices = append(in.notices, pgwire.ParseError(message))
	case 'S':
		name, rest, ok := pgwire.CutString(message[pgwire.HeaderLen:])
		value, _, okValue := pgwire.CutString(rest)
		if ok && okValue {
			in.status = append(in.status, pgwire.Parameter{Name: string(name), Value: string(value)})
		}
	case 'K':
		pid, key, err := pgwire.ParseBackendKeyData(message)
		if err != nil {
			return fmt.Errorf("log in to Postgres: %w", err)
		}
		in.pid, in.key = pid, key
	}
	return nil
}

// authentication answers one request of Postgres.
func (in *keyLogin) authentication(message []byte) error {
	code, offered, err := pgwire.ParseAuthentication(message)
	if err != nil {
		return fmt.Errorf("log in to Postgres: %w", err)
	}
	var answer []byte
	switch code {
	case pgwire.AuthOK:
		if !in.proved {
			return fmt.Errorf("log in to Postgres: %w", scram.ErrImpostor)
		}
		return nil
	case pgwire.AuthSASL:
		in.proved = false
		mechanism, first, err := in.exchange.First(offered)
		if err != nil {
			return errKeysUseless(err.Error())
		}
		answer = pgwire.AppendSASLInitial(nil, mechanism, first)
	case pgwire.AuthSASLContinue:
		final, err := in.exchange.Final(pgwire.AuthData(message))
		if errors.Is(err, scram.ErrAnotherVerifier) {
			return errKeysUseless("its verifier is not the one that proxy.auth_query reads")
		} else if err != nil {
			return fmt.Errorf("log in to Postgres: %w", err)
		}
		answer = pgwire.AppendSASLResponse(nil, final)
	case pgwire.AuthSASLFinal:
		if err := in.exchange.Check(pgwire.AuthData(message)); err != nil {
			return fmt.Errorf("log in to Postgres: %w", err)
		}
		in.proved = true
		return nil
	case pgwire.AuthCleartext:
		return errKeysUseless("it asks for the password itself")
	case pgwire.AuthMD5:
		return errKeysUseless("it asks for an md5 password")
	default:
		return errKeysUseless(fmt.Sprintf("it asks for authentication method %d", code))
	}
	if _, err := in.conn.Write(answer); err != nil {
		return fmt.Errorf("log in to Postgres: %w", err)
	}
	return nil
}
