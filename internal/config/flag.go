package config

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// FlagProblem says in plain words what is wrong with the flags of a command line, of which the parser speaks in the
// words of Go's functions.
func FlagProblem(err error) string {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err.Error()
	}
	return fmt.Sprintf("--%s cannot be %q: it is %s", e.GetFlag().Name, e.GetValue(), kindOf(e.GetFlag()))
}

// kindOf is what a flag takes.
func kindOf(flag *pflag.Flag) string {
	switch kind := flag.Value.Type(); kind {
	case "int", "int64":
		return "a whole number, " + flag.DefValue + " by default"
	case "duration":
		return "a length of time, such as 200ms or 5s"
	case "bool":
		return "a switch, true or false"
	default:
		return "a " + kind
	}
}
