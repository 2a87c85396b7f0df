package proxy_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"testing"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgxpool"
)

// BenchmarkConnect compares how often a second one may connect, ask once and leave (pgbench -C -S), where Postgres asks for nothing and
// where it asks for a password by SCRAM-SHA-256. keeping is a proxy that keeps backends from one client to the next, as pgbouncer
// does; pgbouncer-once uses each connection to the server for one client, as the proxy does by default. Both pgbouncers read passwords
// in a file; pgbouncer-query, which keeps connections, asks Postgres for them at each login, as the proxy does. The ratios are medians
// of the rounds', with their bounds: of keeping to pgbouncer, of proxy to pgbouncer-once, and, as keeping-queried, of keeping to
// pgbouncer-query.
//
//	go test -run '^$' -bench Connect -benchtime 9x ./proxy
func BenchmarkConnect(b *testing.B) {
	path := pgbench(b)
	b.Run("trust", func(b *testing.B) {
		db := pgtest.New(b)
		fillPgbench(b, path, db.URL)
		compareConnects(b, path, connectLegs(b, db, func(*proxy.Config) {}, map[string][]string{"pgbouncer": nil}))
	})
	b.Run("scram", func(b *testing.B) {
		db, poolers, change := withPasswords(b)
		fillPgbench(b, path, db.Cluster.SocketURL(db.Name))
		exec(b, open(b, db.Cluster.SocketURL(db.Name), nil), "grant select on all tables in schema public to public")
		compareConnects(b, path, connectLegs(b, db, change, poolers))
	})
}

func fillPgbench(b *testing.B, path, address string) {
	b.Helper()
	if out, err := osexec.Command(path, "-i", "-q", "-s", "1", address).CombinedOutput(); err != nil {
		b.Fatalf("initialize pgbench: %v\n%s", err, out)
	}
}

// withPasswords is a database whose server asks for a password, what pgbouncer has to be told to ask for it too, in two ways, and
// what the proxy has to be.
func withPasswords(b *testing.B) (db *pgtest.DB, poolers map[string][]string, change func(*proxy.Config)) {
	b.Helper()
	cluster, _ := guarded(b, false)
	pool, err := pgxpool.New(b.Context(), cluster.SocketURL("postgres"))
	if err != nil {
		b.Fatalf("open pool: %v", err)
	}
	b.Cleanup(pool.Close)
	admin := open(b, cluster.SocketURL("postgres"), nil)
	if err := migrations.Up(deadline(b), admin); err != nil {
		b.Fatalf("migrate: %v", err)
	}
	verifier := value[string](b, admin, "select rolpassword from pg_authid where rolname = 'scram'")
	exec(b, admin, "create function verifier(role name, out name, out text) language sql security definer set search_path = pg_catalog as "+
		"'select rolname, rolpassword from pg_authid where rolname = role'")
	db = &pgtest.DB{
		Name: "postgres", Cluster: cluster,
		URL: fmt.Sprintf("postgres://scram:s3cret@127.0.0.1:%d/postgres?sslmode=disable", cluster.Port()),
	}
	poolers = map[string][]string{
		"pgbouncer": {"auth_type = scram-sha-256", usersFile(b, "scram", verifier)},
		"pgbouncer-query": {
			"auth_type = scram-sha-256", usersFile(b, "plain", "s3cret"), "auth_user = plain", "auth_query = select * from verifier($1)",
		},
	}
	return db, poolers, func(c *proxy.Config) { c.Auth, c.AuthPool, c.Changes = proxy.AuthSCRAM, pool, pool }
}

// usersFile is the setting that tells pgbouncer a user's password, or its verifier.
func usersFile(b *testing.B, user, password string) string {
	b.Helper()
	list := filepath.Join(pgtest.Dir(b), "userlist.txt")
	if err := os.WriteFile(list, fmt.Appendf(nil, "%q %q\n", user, password), 0o644); err != nil {
		b.Fatalf("write list of users: %v", err)
	}
	return "auth_file = " + list
}

// connectLegs are the ways to connect, those of pgbouncer where that is installed.
func connectLegs(b *testing.B, db *pgtest.DB, change func(*proxy.Config), poolers map[string][]string) []*leg {
	b.Helper()
	poolers["pgbouncer-once"] = append(slices.Clone(poolers["pgbouncer"]), "server_lifetime = 0")
	keeping := newRig(b, db, func(c *proxy.Config) {
		change(c)
		c.Limits.KeptBackends = 20
	})
	legs := []*leg{{name: "direct", url: db.URL}, {name: "proxy", url: newRig(b, db, change).url()}, {name: "keeping", url: keeping.url()}}
	for name, settings := range poolers {
		if p := newPooler(b, db, settings...); p != nil {
			legs = append(legs, &leg{name: name, url: p.url})
		}
	}
	return legs
}

// compareConnects measures the legs in rounds that turn about.
func compareConnects(b *testing.B, path string, legs []*leg) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			named := map[string]*leg{}
			for _, l := range legs {
				l.tps, named[l.name] = nil, l
			}
			order := slices.Clone(legs)
			for b.Loop() {
				for _, l := range order {
					l.tps = append(l.tps, tps(b, path, l.url, "simple", clients, "-C"))
				}
				slices.Reverse(order)
			}
			for _, l := range legs {
				b.ReportMetric(median(l.tps), l.name+"-conn/s")
			}
			for other, name := range map[string]string{"pgbouncer": "keeping", "pgbouncer-once": "proxy", "pgbouncer-query": "keeping"} {
				o := named[other]
				if o == nil {
					continue
				}
				ours := *named[name]
				if other == "pgbouncer-query" {
					ours.name += "-queried"
				}
				ours.compare(b, o)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
