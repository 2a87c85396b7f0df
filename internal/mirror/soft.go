package mirror

import (
	"context"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// archivedComment explains the column that soft deletes have.
const archivedComment = "when hubpg learned that the record was deleted in HubSpot; null for live records"

// Live is the condition, in SQL, that a row under the alias t is that of a live record.
func Live(t *catalog.Table) string {
	if t.Soft {
		return "t." + ident(catalog.ArchivedAt) + " is null"
	}
	return "true"
}

// setDeletes makes deletes soft or hard, as configured. From soft to hard, rows of deleted records go.
func (m *Mapper) setDeletes(ctx context.Context, tx pgx.Tx, t *catalog.Table) error {
	table, column := tableIdent(t), ident(catalog.ArchivedAt)
	sql := "alter table " + table + " add column if not exists " + column + " timestamptz;\n" +
		"comment on column " + table + "." + column + " is " + quote(archivedComment) + ";\n"
	deletes := "soft"
	if !m.c.SoftDeletes {
		sql = "delete from " + table + " where " + column + " is not null;\nalter table " + table + " drop column if exists " + column + ";\n"
		deletes = "hard"
	}
	if err := quietly(ctx, tx); err != nil {
		return err
	}
	if m.c.SoftDeletes { // the rows that stay may have the values that other records get
		for _, column := range t.Unique {
			index, err := uniqueIndex(ctx, tx, t, column)
			if err != nil {
				return err
			}
			if index != nil {
				sql += "drop index " + *index + ";\n"
			}
		}
	}
	if err := script(ctx, tx, sql); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "update hubpg.objects set deletes = $3 where portal_id = $1 and table_name = $2", m.c.PortalID, t.Name, deletes)
	return err
}

// quietly lets the rest of the transaction change rows without the tables' triggers seeing it, in UTC.
func quietly(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "select set_config('"+applierSetting+"', 'on', true), set_config('TimeZone', 'UTC', true)")
	return err
}

// clear takes the rows of deleted records out of the way of those that came back.
func (a *Applier) clear(ctx context.Context, tx pgx.Tx, t *catalog.Table, ids []int64) error {
	if !t.Soft || len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "delete from "+tableIdent(t)+" t where t.id = any($1) and not ("+Live(t)+")", ids)
	return err
}
