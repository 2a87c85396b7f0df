package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (p *Program) verifyCommand() *cobra.Command {
	return &cobra.Command{Use: "verify", RunE: func(*cobra.Command, []string) error { return errors.New("under construction") }}
}
