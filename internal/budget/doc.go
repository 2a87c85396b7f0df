// Package budget shares one account's HubSpot quota between any number of processes.
//
// Guarantee: all reads of all processes together never exceed their share of any limit, rounded up to a whole call in any
// one window, and all calls together never exceed the limit, as long as calls travel evenly to within the guard. A process
// that dies gives its part back within a second, a busy writer within three, since nobody reserves further ahead.
//
//	Wait ─▶ queue (Writes > Fresh > Backfill > Sweeps) ─▶ slots ─▶ go
//	                                                       ▲
//	          the caller that leads ──reserve──▶ one row in Postgres per limit
//	Observe ──limits learned, refusals──────────▶ the same row, for every process to see
//
// A limit is kept by the generic cell rate algorithm: the row holds the instant up to which calls are given away, and
// a reservation moves it by one step per call. Calls thus go out evenly, one step apart, which is what rolling windows
// ask for: a window of length W and a guard J for the time a call needs to arrive see at most (W+J)/step calls, so the
// step is (W+J)/limit. Reads have a second such instant, whose step is (W+J)/⌈limit·share⌉ or W/(limit·share), whichever is
// longer: a third of five searches a second is two in a window at most, and 1.6 a second.
//
// Priority between processes needs no messages: a reservation succeeds only while what is already given away reaches
// less far into the future than the class may (Writes 2 s, Fresh 500 ms, Backfill 250 ms, Sweeps 125 ms). While fresh
// reads are busy, the instant stays beyond Backfill's reach. Within a process the more urgent class takes the next slot.
// A class that was passed over for sixteen steps is served once before the others, so none starves.
//
// There is no goroutine: of the callers that wait for one limit, one leads. It reserves, sleeps until the slot and gives
// it to the most urgent; once served it hands the lead on.
//
// Each refusal has its own reaction. SECONDLY (search): half the pace for 10 s. TEN_SECONDLY_ROLLING: the limit pauses
// for half its window, then runs at half pace for 20 s, unless the refusal's own headers say that the window has room. DAILY: every call fails with [ExhaustedError] until midnight in
// the account's time zone, or for an hour, whichever comes first, so that a wrong time zone heals.
//
// What a load will cost is told beforehand by [Config.Forecast]. HubSpot's usage endpoint, which knows what other apps
// have used and when the day ends, is taken in by [Budget.Learn].
//
// The day's share of the reads is spread too: Backfill may bring the count to 85 % of it and Sweeps to 70 %, and fresh
// reads that would use up the rest before midnight slow down rather than stop: each waits, or is told when to come again. Of
// those that belong together ([Piece]) only the first does, or the pace would keep all of them from being of use. All reads
// stop when HubSpot says that little is left to all apps of the account.
//
// When Postgres does not answer, Wait tries for about ten seconds and then fails: no call goes out uncounted.
//
// A Budget may be used by any number of goroutines.
package budget
