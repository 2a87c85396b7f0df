package mirror_test

import (
	"fmt"
	"testing"
	"time"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// A transaction that began before midnight may get a larger number than one that began after.
func TestTheLogThatIsKeptHasNoGaps(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	if err := mirror.MaintainChangeLog(t.Context(), m.pool, 0); err != nil {
		t.Fatal(err)
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for _, back := range []int{2, 3} {
		day := today.AddDate(0, 0, -back)
		m.exec(fmt.Sprintf("create table hubpg.changes_%s partition of hubpg.changes for values from ('%s') to ('%s')",
			day.Format("20060102"), day.Format(time.RFC3339), day.AddDate(0, 0, 1).Format(time.RFC3339)))
	}
	midnight := today.AddDate(0, 0, -2)
	for seq, after := range map[int]time.Duration{1: -time.Hour, 2: 2 * time.Second, 3: -time.Second, 4: 3 * time.Second} {
		m.exec("insert into hubpg.changes (seq, at, schema_name, table_name, op, source) values ($1, $2, 'hubspot', 'contacts', 'insert', 'follow')",
			seq, midnight.Add(after))
	}
	m.exec("update hubpg.change_counter set last = 4")
	if err := mirror.MaintainChangeLog(t.Context(), m.pool, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	oldest, newest, err := changes.Bounds(t.Context(), m.pool)
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(m.log(0))); n == 0 || newest-oldest+1 != n {
		t.Errorf("the log is said to reach from %d to %d, and has %d changes", oldest, newest, n)
	}
}
