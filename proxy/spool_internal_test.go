package proxy

import (
	"os"
	"path/filepath"
	"testing"
)

// A spool says why it cannot keep data, and keeps none from then on.
func TestSpoolSaysWhyItCannotKeepData(t *testing.T) {
	piece := make([]byte, spoolMemory)
	for name, c := range map[string]struct {
		disk, used int64
		temporary  string
		full       bool // the device
		want       string
	}{
		"room":           {4 << 20, 0, t.TempDir(), false, ""},
		"others have it": {4 << 20, 3 << 20, t.TempDir(), false, "53100"},
		"more than all":  {1 << 20, 0, t.TempDir(), false, "54000"},
		"a full device":  {4 << 20, 0, t.TempDir(), true, "53100"},
		"no such place":  {4 << 20, 0, filepath.Join(t.TempDir(), "none"), false, "58030"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", c.temporary)
			s := &Server{}
			s.config.Limits.CopyBytes, s.memory.size, s.disk.size, s.disk.used = 8<<20, 8<<20, c.disk, c.used
			p := newSpool(s)
			if c.full {
				full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
				if err != nil {
					t.Skip(err)
				}
				p.file = full
			}
			got := ""
			for range 2 { // the second does not fit into memory
				if !p.add(piece) {
					got = p.broken.Code
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got == "" && s.disk.used < spoolMemory {
				t.Errorf("%d bytes counted", s.disk.used)
			}
			if got == "" {
				p.close()
			}
			if s.disk.used != c.used || s.memory.used != 0 {
				t.Errorf("%d bytes of disk and %d of memory are left", s.disk.used-c.used, s.memory.used)
			}
		})
	}
}
