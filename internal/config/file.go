package config

import (
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

// readFile lays the file's settings over c. What the file leaves empty keeps its default.
func (c *Config) readFile(path string) error {
	text, err := readBounded(path)
	if err != nil {
		return &Error{Setting: path, Problem: reason(err), hint: "give the path of a YAML file with --config or " + FileVariable}
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return yamlError(path, err)
	}
	f := yamlFile{path: path, settings: map[string]setting{}, sections: map[string]bool{}}
	for _, s := range settings() {
		f.settings[s.key] = s
		if section, _, nested := strings.Cut(s.key, "."); nested {
			f.sections[section] = true
		}
	}
	for i, document := range tree.Docs {
		if i > 0 && document.Body != nil {
			return f.bad(document.Body, "a second document begins here", "keep all settings in one document, without ---")
		}
		if err := f.read(c, "", document.Body); err != nil {
			return err
		}
	}
	return nil
}

// yamlFile is the configuration file while it is read.
type yamlFile struct {
	path     string
	settings map[string]setting
	sections map[string]bool
}

// read takes the settings of the mapping at node, whose keys stand behind prefix.
func (f *yamlFile) read(c *Config, prefix string, node ast.Node) error {
	if empty(node) {
		return nil
	}
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return f.bad(node, "a list of settings is expected here", "write one setting a line, as in listen: 127.0.0.1:6543")
	}
	for entries := mapping.MapRange(); entries.Next(); {
		key, value := entries.Key().GetToken(), entries.Value()
		s, known := f.settings[prefix+key.Value]
		switch {
		case prefix == "" && f.sections[key.Value]:
			if err := f.read(c, key.Value+".", value); err != nil {
				return err
			}
		case !known:
			return f.bad(entries.Key(), fmt.Sprintf("unknown field %q", key.Value), "run hubpg config to see every key with its value")
		case empty(value):
		default:
			text, ok := scalar(value)
			if !ok {
				return f.bad(value, s.key+" takes one plain value", "run hubpg config to see every key with its value")
			}
			if err := c.assign(s, text, fmt.Sprintf("%s:%d", f.path, key.Position.Line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// bad makes an error about the line on which node begins.
func (f *yamlFile) bad(node ast.Node, problem, hint string) error {
	return &Error{Setting: fmt.Sprintf("%s:%d", f.path, node.GetToken().Position.Line), Problem: problem, hint: hint}
}

// empty says that nothing stands where a value may.
func empty(node ast.Node) bool {
	switch node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

// scalar is the text of a plain value, as a variable or flag would give it.
func scalar(node ast.Node) (text string, ok bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NanNode, *ast.InfinityNode:
		return n.GetToken().Value, true
	}
	return "", false
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
	if c.HubSpot.Token == "" {
		return c.bad("hubspot.token_file", "is empty", "write the token into the file, and nothing else")
	}
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
