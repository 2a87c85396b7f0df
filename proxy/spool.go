package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"hubpg/internal/pgwire"
)

// spoolMemory is how much COPY data is kept in memory; what is more goes to a file.
const spoolMemory = 1 << 20

// spool keeps the COPY data of a rehearsal for the performance.
type spool struct {
	limit  int64
	hold   holding // memory
	memory []byte
	file   *os.File // once memory is full: everything else
	disk   holding  // what is in it
	filed  int64    // bytes in it
	size   int64
	broken *pgwire.Error // why it does not hold all the data; then it holds none
}

func newSpool(s *Server) *spool {
	return &spool{limit: s.config.Limits.CopyBytes, hold: holding{memory: &s.memory}, disk: holding{memory: &s.disk}}
}

// admits reports whether a message of that size may be added, in pieces or whole.
func (s *spool) admits(size int) bool {
	if s.broken == nil && s.size+int64(size) > s.limit {
		s.fail(failure("54000", fmt.Sprintf("more than %d bytes of data in one COPY into a table of HubSpot", s.limit), "",
			"Split the data, or use INSERT."))
	}
	return s.broken == nil
}

// add keeps a message, or a piece of one, and reports whether it could.
func (s *spool) add(message []byte) bool {
	if !s.admits(len(message)) {
		return false
	}
	s.size += int64(len(message))
	if s.file == nil && len(s.memory)+len(message) <= spoolMemory && s.hold.grow(int64(len(s.memory)+len(message))) {
		s.memory = append(s.memory, message...)
		return true
	}
	if err := s.spill(message); err != nil {
		s.fail(errSpool(err))
		return false
	}
	return true
}

// fail gives up, and the space back: the client may go on sending for long.
func (s *spool) fail(e *pgwire.Error) {
	s.close()
	s.broken = e
}

var (
	errDiskFull   = errors.New("as much as there may be")
	errDiskBeyond = errors.New("more than there may ever be")
)

// errSpool words why COPY data cannot be kept in a file.
func errSpool(err error) *pgwire.Error {
	const again = "Repeat the statement in a moment. "
	switch {
	case errors.Is(err, errDiskBeyond):
		return failure("54000", "the data of the COPY is more than hubpg may keep", "", "Split the data, or raise proxy.copy_disk.")
	case errors.Is(err, errDiskFull):
		return failure("53100", "hubpg keeps as much data of COPYs as it may", "",
			again+"If this lasts, raise proxy.copy_disk, or copy less at once.")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return failure("53100", "no space left for the data of the COPY where hubpg keeps it", err.Error(),
			again+"If this lasts, free some, or set TMPDIR for hubpg to a directory that has more.")
	}
	return failure("58030", "hubpg cannot keep the data of the COPY in a file", err.Error(),
		"Set TMPDIR for hubpg to a directory in which it may write.")
}

func (s *spool) spill(message []byte) error {
	s.filed += int64(len(message))
	switch counted := s.filed + unmetered; { // a file counts from its first byte on
	case counted > s.disk.memory.size:
		return errDiskBeyond
	case !s.disk.grow(counted):
		return errDiskFull
	}
	if s.file == nil {
		file, err := os.CreateTemp("", "hubpg-copy-*")
		if err != nil {
			return err
		}
		s.file = file
		// The name goes at once, so that the space is given back whatever happens to the process.
		if err := os.Remove(file.Name()); err != nil {
			return err
		}
	}
	_, err := s.file.Write(message)
	return err
}

// each calls yield with pieces that together are all messages kept, in order.
func (s *spool) each(yield func(piece []byte) error) error {
	if len(s.memory) > 0 {
		if err := yield(s.memory); err != nil {
			return err
		}
	}
	if s.file == nil {
		return nil
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read copy data again: %w", err)
	}
	r := bufio.NewReaderSize(s.file, pgwire.LargeBuffer)
	piece := make([]byte, pgwire.LargeBuffer)
	for {
		n, err := r.Read(piece)
		if n > 0 {
			if err := yield(piece[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read copy data again: %w", err)
		}
	}
}

// close gives the space back.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name any more
	}
	s.memory, s.file = nil, nil
	s.hold.release()
	s.disk.release()
}
