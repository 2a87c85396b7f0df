// Package writeback makes HubSpot accept what SQL statements mean before Postgres may keep it.
//
// Guarantee: a statement's rows are validated before any call, their intent is in hubpg.writes before the first call and
// their outcome after the last that changes anything; every row ends accepted, refused with its reason, or, when HubSpot's
// answer was lost, found out by reading. Whatever becomes of the client's transaction, the tables end as HubSpot is: what was
// accepted and not committed is read again, by [Writer.Settle] or, after a crash, by [Writer.Run].
//
//	captured rows ─▶ plan (validate, order) ─▶ hubpg.writes ─▶ batches ≤ 100 ─▶ hubpg.writes beside reading back ─▶ answers
//	COMMIT   ─▶ Settle(true)  ─▶ change log, associations that went along
//	ROLLBACK ─▶ Settle(false) ─▶ records read from HubSpot into the tables
//	crash    ─▶ Run           ─▶ either, by what became of the client's transaction
//
// # Progress
//
// A write of more than one batch tells other sessions every quarter of a second how far it is: hubpg.writes.progress, by
// table, with status sent, from which hubpg.status has rows_sending and rows_sent.
//
// # Retries
//
// Updates and archivings may be repeated and are, once, after a lost answer that reading has not settled. A create is
// repeated only when its unique property says that it did not happen; without a unique property its outcome stays unknown
// and the statement fails with SQLSTATE HS004.
//
// # What exists already
//
// HubSpot refuses a row whose unique value another record has, and the table may not know that record yet. It is stored like
// anything that a write may have changed, and the write's outcome names it. Where HubSpot has taken nothing and that was the
// only reason, the error is [Error.Behind]: whoever asked settles the write and may rehearse the statement again, since by then
// ON CONFLICT has a row to find. Otherwise [Writer.Run], or the settlement of what was accepted, brings the record.
//
// Postgres compares byte by byte, HubSpot takes no notice of letter case: the tables' triggers give a contact's address the
// lower case that HubSpot keeps it in; of other unique values the error names the record that has one.
//
// # Answers that do not fit
//
// A row that HubSpot's answer leaves out, gives twice or to a record that cannot be it, is looked up like one whose answer was
// lost. A record that was merged into another one meanwhile is refused with SQLSTATE HS002, and both are read again; deletions are
// preceded by a look for that, since HubSpot would delete the other one.
//
// # What lands late
//
// HubSpot may carry out a request whose connection has ended. So reading that shows no effect proves nothing yet: nobody is
// told that a row was not taken, and a write of which an answer is missing is looked up at once and again after
// [Config.Landing], counted from the end of its last call or from when it was found orphaned. Until then it is open with
// status ambiguous; afterwards its outcome names what has landed. What lands later still is found by the polls alone. The same goes for
// a write of which such a row was skipped as bad: its other rows end with the client's transaction, the write after that time.
//
// # Order
//
// Rows of one statement that concern different records are sent by table and kind, in the order in which the statement
// first touched them, associations after the records that they need; changes of one record keep their order.
//
// A [Writer] serves one account and may be used by any number of sessions at once. It does not parse SQL, hold clients'
// connections, or decide when a transaction ends.
package writeback
