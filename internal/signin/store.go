package signin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Sealer hides texts that are stored. Purpose says what a text is and whose; a text opens for no other.
type Sealer interface {
	Seal(text []byte, purpose string) []byte
	Open(sealed []byte, purpose string) ([]byte, error)
}

// Store is where the tokens of accounts are kept.
type Store struct {
	Pool   *pgxpool.Pool
	Sealer Sealer
}

const (
	refreshPurpose = "refresh token"
	accessPurpose  = "access token"
)

func purpose(of string, portal int64) string {
	return of + " of account " + strconv.FormatInt(portal, 10)
}

// Save keeps what a new connection was granted, in place of what was there.
func (s *Store) Save(ctx context.Context, clientID string, g *Grant) error {
	_, err := s.Pool.Exec(ctx, `
insert into hubpg.sign_ins as s (portal_id, client_id, refresh_token, access_token, expires_at, life, scopes)
values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5), $5, $6)
on conflict (portal_id) do update set
    client_id = excluded.client_id, refresh_token = excluded.refresh_token, access_token = excluded.access_token,
    expires_at = excluded.expires_at, life = excluded.life, scopes = excluded.scopes, generation = s.generation + 1,
    connected_at = now(), refreshed_at = now(), refused_at = null, refused_reason = null`,
		g.PortalID, clientID,
		s.Sealer.Seal([]byte(g.RefreshToken), purpose(refreshPurpose, g.PortalID)),
		s.Sealer.Seal([]byte(g.AccessToken), purpose(accessPurpose, g.PortalID)),
		g.Life.Seconds(), append([]string{}, g.Scopes...))
	if err != nil {
		return fmt.Errorf("save sign-in: %w", err)
	}
	return nil
}

// Portals returns the accounts that were connected through an app, in order.
func (s *Store) Portals(ctx context.Context, clientID string) ([]int64, error) {
	rows, err := s.Pool.Query(ctx, "select portal_id from hubpg.sign_ins where client_id = $1 order by portal_id", clientID)
	if err != nil {
		return nil, fmt.Errorf("list sign-ins: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list sign-ins: %w", err)
	}
	return list, nil
}

// stored is a row, opened.
type stored struct {
	refresh, access string
	left            time.Duration // of the access token's life
	life            time.Duration
	generation      int64
	refused         *string
}

var errNoRow = errors.New("not connected through this app, or another process has the row")

// lock reads the row and keeps it from other processes until tx ends. Without wait a row that another process has is
// errNoRow. So is one of another app, whose refresh token HubSpot would not take from this one.
func (s *Store) lock(ctx context.Context, tx pgx.Tx, portal int64, clientID string, wait bool) (*stored, error) {
	query := `
select refresh_token, access_token, extract(epoch from expires_at - clock_timestamp())::float8, life, generation, refused_reason
from hubpg.sign_ins
where portal_id = $1 and client_id = $2
for update`
	if !wait {
		query += " skip locked"
	}
	var row stored
	var refresh, access []byte
	var left, life float64
	err := tx.QueryRow(ctx, query, portal, clientID).Scan(&refresh, &access, &left, &life, &row.generation, &row.refused)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoRow
	}
	if err != nil {
		return nil, err
	}
	row.left, row.life = time.Duration(left*float64(time.Second)), time.Duration(life*float64(time.Second))
	if refresh, err = s.Sealer.Open(refresh, purpose(refreshPurpose, portal)); err != nil {
		return nil, &SealError{Err: err}
	}
	if access, err = s.Sealer.Open(access, purpose(accessPurpose, portal)); err != nil {
		return nil, &SealError{Err: err}
	}
	row.refresh, row.access = string(refresh), string(access)
	return &row, nil
}

// renewed stores what a refresh gave, unless something newer is there. Whatever another process was told meanwhile of the
// refresh token that was replaced, the account is connected.
func (s *Store) renewed(ctx context.Context, db execer, portal, generation int64, g *Grant) error {
	_, err := db.Exec(ctx, `
update hubpg.sign_ins
set refresh_token = $3, access_token = $4, expires_at = clock_timestamp() + make_interval(secs => $5), life = $5,
    generation = generation + 1, refreshed_at = now(), refused_at = null, refused_reason = null
where portal_id = $1 and generation = $2`,
		portal, generation,
		s.Sealer.Seal([]byte(g.RefreshToken), purpose(refreshPurpose, portal)),
		s.Sealer.Seal([]byte(g.AccessToken), purpose(accessPurpose, portal)), g.Life.Seconds())
	return err
}

func (s *Store) refused(ctx context.Context, tx pgx.Tx, portal int64, reason string) error {
	_, err := tx.Exec(ctx, "update hubpg.sign_ins set refused_at = now(), refused_reason = $2 where portal_id = $1", portal, reason)
	return err
}

// SealError says that stored tokens cannot be opened.
type SealError struct{ Err error }

// Error returns the cause's text.
func (e *SealError) Error() string { return "open stored tokens: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SealError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *SealError) Hint() string {
	return "give the secret key that the account was connected with (HUBPG_SECRET_KEY), or run hubpg connect again"
}
