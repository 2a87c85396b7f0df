package proxy

import "testing"

func TestUpstreamVerifiesUnlessLocalOrTold(t *testing.T) {
	for conn, want := range map[string]bool{
		"postgres://db.example.com/x":                       true,
		"postgres://db.example.com,localhost/x":             true,
		"host=db.example.com dbname=x":                      true,
		"postgres://localhost/x":                            false,
		"postgres://127.0.0.1:5433/x":                       false,
		"host=/run/postgresql dbname=x":                     false,
		"postgres://db.example.com/x?sslmode=disable":       false,
		"host=db.example.com dbname=x sslmode=require":      false,
		"postgres://db.example.com/x?sslmode=verify-full":   true,
		"postgres://db.example.com/x?application_name=shop": true,
	} {
		config, err := parseUpstream(conn)
		if err != nil {
			t.Errorf("%s: %v", conn, err)
			continue
		}
		got := config.TLSConfig != nil && !config.TLSConfig.InsecureSkipVerify
		if got != want {
			t.Errorf("%s: verifies %v, want %v", conn, got, want)
		}
		for _, f := range config.Fallbacks {
			if want && f.TLSConfig == nil && f.Host != "localhost" {
				t.Errorf("%s: falls back to plain text on %s", conn, f.Host)
			}
		}
	}
}
