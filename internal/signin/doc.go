// Package signin keeps an account signed in by OAuth 2.
//
// Guarantee: of any number of processes one at a time exchanges the account's refresh token, the newest refresh token is
// stored before the access token that came with it is used (unless Postgres is away for a minute: then it is stored as
// soon as it is back), and no token is stored or logged in clear.
//
//	Connect ─▶ browser ─▶ HubSpot ─▶ loopback callback (state, PKCE) ─▶ Store.Save
//	                                                                       │ sealed
//	Tokens ◀── at 80 % of a token's life, and when HubSpot says it expired ─┘ row lock ─▶ exchange ─▶ row
//
// A refresh token that HubSpot refuses (invalid_grant) ends it: the row says so, every process fails with [RefusedError]
// and asks no more, until the account is connected again. Any other failure passes: while the old access token lives it
// stays in use, and the exchange is tried again half a minute later.
//
// Tokens may be used by any number of goroutines. It starts none.
package signin
