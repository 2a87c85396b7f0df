// Package handover opens listening sockets that a later process can take over without a client noticing.
//
// Guarantee: while a successor takes over and the predecessor ends by [Drain], every connection is accepted by one of
// them (on Linux; elsewhere a connection in the instant of the predecessor's end may be reset). A process that does
// not ask to take over is told that an address is in use, as ever.
//
//	predecessor:  Listen ───────────────────────────▶ Drain, accepting what is waiting ─▶ Close
//	successor:              Listen(take over) ─ new connections are the successor's ───────────▶
//
// A TCP address is shared by SO_REUSEPORT. The option is set on every socket, but on one that does not take over only
// after it is bound: so its binding fails where anybody is, and its own successor's does not. The kernel would spread
// connections over all sockets of an address, and reset those that wait for one that closes; so the successor attaches
// a program that sends them to the second socket, which it is: before the predecessor has gone, two have the address,
// and after it the program selects none and the kernel the only one. One take-over at a time, then: of three sockets the
// second is favoured, which is not the newest. The kernel lets only processes of one user share an address.
//
// A Unix socket is taken over by giving the new one the old one's name.
//
// What a client says over a connection of its own about an earlier one may reach the wrong process: through [Aside] that
// finds the others of its address.
package handover
