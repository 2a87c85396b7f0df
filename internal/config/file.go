package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds what is read of a configuration or token file.
const maxFile = 1 << 20

// readFile lays the file's settings over c.
func (c *Config) readFile(path string) error {
	text, err := readBounded(path)
	if err != nil {
		return &Error{Setting: path, Problem: reason(err), hint: "give the path of a YAML file with --config or " + FileVariable}
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return yamlError(path, err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return yamlError(path, err)
	}
	for _, document := range tree.Docs {
		c.noteLines(path, "", document.Body)
	}
	return nil
}

// noteLines remembers on which line each setting of the file is.
func (c *Config) noteLines(path, prefix string, node ast.Node) {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return
	}
	for values := mapping.MapRange(); values.Next(); {
		key := prefix + values.Key().GetToken().Value
		c.noteLines(path, key+".", values.Value())
		c.origins[key] = fmt.Sprintf("%s:%d", path, values.Key().GetToken().Position.Line)
	}
}

// yamlError turns what the YAML library says into file, line and one sentence, without quoting the file, which may
// hold secrets.
func yamlError(path string, err error) error {
	where, problem := path, err.Error()
	if e, ok := errors.AsType[yaml.Error](err); ok {
		problem = e.GetMessage()
		if token := e.GetToken(); token != nil && token.Position != nil {
			where = fmt.Sprintf("%s:%d", path, token.Position.Line)
		}
	}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		problem = fmt.Sprintf("expected a %s", e.DstType)
	}
	problem, _, _ = strings.Cut(problem, "\n")
	return &Error{Setting: where, Problem: problem, hint: "run hubpg config to see every key with its value"}
}

// readToken reads the token's file.
func (c *Config) readToken() error {
	text, err := readBounded(c.HubSpot.TokenFile)
	if err != nil {
		return c.bad("hubspot.token_file", reason(err), "give the path of a file that holds nothing but the token")
	}
	c.HubSpot.Token = Secret(strings.TrimSpace(string(text)))
	return nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return text, err
}

// reason is what a file error says without the path, which the caller names.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
