package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/scram"
)

// keyLogin is a login to Postgres with the keys of a client whose proof was accepted; pgconn knows passwords only. It can begin before
// there are any.
type keyLogin struct {
	*loginResult
	reader    *pgwire.Reader
	exchange  *scram.Client
	challenge []byte      // of Postgres, while there are no keys to answer it with
	keys      *scram.Keys // nil before
	proved    bool        // Postgres has shown that it knows the verifier, or has asked for nothing
}

// loginWithKeys connects as the client with its parameters. A *pgwire.Error is for the client to see.
func (s *Server) loginWithKeys(ctx context.Context, startup *pgwire.Startup, keys *scram.Keys) (*loginResult, error) {
	in, err := s.approach(ctx, startup)
	if err != nil {
		return nil, err
	}
	return in.finish(ctx, keys)
}

// approach connects and says who is to be logged in. It reads nothing.
func (s *Server) approach(ctx context.Context, startup *pgwire.Startup) (*keyLogin, error) {
	u, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	in := &keyLogin{
		loginResult: &loginResult{upstream: u}, reader: pgwire.NewReader(u.conn, maxServerLogin),
		exchange: scram.NewClient(peerEndPoint(u.conn)), proved: true,
	}
	err = in.within(ctx, func() error { return in.say(pgwire.AppendStartup(nil, pgwire.Protocol30, startup.Parameters)) })
	if err != nil {
		u.conn.Close()
		return nil, err
	}
	return in, nil
}

// within has the end of ctx end what f waits for, and fails if it has.
func (in *keyLogin) within(ctx context.Context, f func() error) error {
	unwatch := context.AfterFunc(ctx, func() { _ = in.conn.SetDeadline(time.Now()) })
	err := f()
	if !unwatch() && err == nil {
		err = fmt.Errorf("log in to Postgres: %w", ctx.Err())
	}
	return err
}

// finish takes the login to the first ReadyForQuery, or ends the connection.
func (in *keyLogin) finish(ctx context.Context, keys *scram.Keys) (*loginResult, error) {
	in.keys = keys
	if err := in.within(ctx, in.run); err != nil {
		in.conn.Close()
		return nil, err
	}
	return in.loginResult, nil
}

func (in *keyLogin) run() error {
	if in.challenge != nil {
		if err := in.prove(in.challenge); err != nil {
			return err
		}
	}
	for {
		h, message, err := in.reader.Read()
		if err != nil {
			return fmt.Errorf("log in to Postgres: %w", err)
		}
		if h.Type == 'Z' {
			in.rest = in.reader.Rest()
			return nil
		}
		if err := in.take(h.Type, message); err != nil {
			return err
		}
	}
}

func (in *keyLogin) say(message []byte) error {
	if _, err := in.conn.Write(message); err != nil {
		return fmt.Errorf("log in to Postgres: %w", err)
	}
	return nil
}

// take handles one message of Postgres.
func (in *keyLogin) take(typ byte, message []byte) error {
	switch typ {
	case 'R':
		return in.authentication(message)
	case 'E':
		refused := pgwire.ParseError(message)
		if refused.Code == noRoom {
			return errors.Join(errNoRoom, refused)
		}
		return refused
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
	switch code {
	case pgwire.AuthOK:
		if !in.proved {
			return fmt.Errorf("log in to Postgres: %w", scram.ErrImpostor)
		}
		return nil
	case pgwire.AuthSASL:
		in.proved, in.asked = false, true
		mechanism, first, err := in.exchange.First(offered)
		if err != nil {
			return errKeysUseless(err.Error())
		}
		return in.say(pgwire.AppendSASLInitial(nil, mechanism, first))
	case pgwire.AuthSASLContinue:
		return in.prove(pgwire.AuthData(message))
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
}

// prove answers Postgres's challenge, once there are keys.
func (in *keyLogin) prove(challenge []byte) error {
	if in.keys == nil {
		in.challenge = slices.Clone(challenge)
		return nil
	}
	final, err := in.exchange.Final(challenge, in.keys)
	switch {
	case errors.Is(err, scram.ErrAnotherVerifier):
		return errKeysUseless("its verifier is not the one that proxy.auth_query reads")
	case err != nil:
		return fmt.Errorf("log in to Postgres: %w", err)
	}
	return in.say(pgwire.AppendSASLResponse(nil, final))
}
