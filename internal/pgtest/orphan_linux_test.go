package pgtest_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubpg/internal/pgtest"
)

// orphanVariable turns this test binary into a program that starts a server and waits to be killed.
const orphanVariable = "PGTEST_ORPHAN_DIR"

func TestServerDoesNotOutliveAKilledParent(t *testing.T) {
	if dir := os.Getenv(orphanVariable); dir != "" {
		c, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("port", c.Port())
		<-c.Done()
		return
	}
	t.Parallel()
	dir := pgtest.Dir(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerDoesNotOutliveAKilledParent$")
	child.Env = append(os.Environ(), orphanVariable+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), "port "); {
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed, as asked
	var pid int
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if os.IsNotExist(err) {
		return // it has ended already
	}
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatalf("server %d is still running", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
