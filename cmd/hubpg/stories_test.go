package main

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
)

// The stories of the README, as an app would have them. TestTheStoriesOfTheREADMEHappen runs them, and holds that the README
// shows them as they are here.

// firstLogin makes whoever logs in a contact in HubSpot, once, and returns the contact's id.
func firstLogin(ctx context.Context, db *pgx.Conn, email, name string) (id int64, err error) {
	err = db.QueryRow(ctx, `
insert into hubspot.contacts (email, firstname, lifecyclestage)
values ($1, $2, 'lead')
on conflict (email) do update
set firstname = excluded.firstname
returning id`, email, name).Scan(&id)
	return id, err
}

// purchase stores a purchase in the app's own table and flags the customer's open deals, or does neither.
func purchase(ctx context.Context, db *pgx.Conn, email string, cents int64) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into app.purchases (email, cents) values ($1, $2)", email, cents); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
update hubspot.deals d
set hs_priority = 'high'
from hubspot.deals_contacts dc
join hubspot.contacts c on c.id = dc.contact_id
where dc.deal_id = d.id and c.email = $1 and d.hs_is_closed is not true`, email)
		return err
	})
}

// invoiceWonDeals writes an invoice for every deal that is won, until ctx ends.
func invoiceWonDeals(ctx context.Context, db *pgx.Conn) error {
	if _, err := db.Exec(ctx, `listen "hubspot_deals.dealstage"`); err != nil {
		return err
	}
	for {
		n, err := db.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		var deal struct {
			ID    int64
			After struct{ DealStage string }
		}
		if err := json.Unmarshal([]byte(n.Payload), &deal); err != nil {
			return err
		}
		if deal.After.DealStage != "closedwon" {
			continue
		}
		if _, err := db.Exec(ctx, `
insert into app.invoices (deal_id, amount)
select id, amount from hubspot.deals where id = $1
on conflict do nothing`, deal.ID); err != nil {
			return err
		}
	}
}
