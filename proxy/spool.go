package proxy

import (
	"bufio"
	"fmt"
	"io"
	"os"

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
	size   int64
	broken string // why it does not hold all the data
}

// admits reports whether a message of that size may be added, in pieces or whole.
func (s *spool) admits(size int) bool {
	if s.broken == "" && s.size+int64(size) > s.limit {
		s.broken = fmt.Sprintf("more than %d bytes of data in one COPY into a table of HubSpot", s.limit)
	}
	return s.broken == ""
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
		s.broken = "hubpg cannot keep the data of the COPY in a file"
		return false
	}
	return true
}

func (s *spool) spill(message []byte) error {
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
}
