package hubapi

import "time"

// Record is one CRM record as HubSpot showed it.
type Record struct {
	ID         int64
	CreatedAt  time.Time
	UpdatedAt  time.Time // of the record's modified property; archiving does not move it
	Archived   bool
	ArchivedAt time.Time // zero unless Archived

	// Values holds one value per slot of the Projection: nil for a property that is unset or was not in the answer,
	// empty and not nil for one that was cleared. The slices share memory with the other records of the page.
	Values [][]byte
}

// Page is one answer of a listing.
type Page struct {
	Records []Record
	After   string    // cursor of the next page; "" on the last
	ReadAt  time.Time // just before the request was sent: everything stored at HubSpot by then is in the page
}
