package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the directory of the module, seen from this package.
const root = "../.."

// inRoot is what the root may hold besides files whose names begin with a dot.
var inRoot = []string{"cmd", "proxy", "materialize", "hubapi", "internal", "migrations", "docs", "go.mod", "go.sum", "README.md"}

func TestRootHoldsOnlyWhatTheDesignNames(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(inRoot, e.Name()) && e.Name() != "hubpg" { // the built binary
			t.Errorf("%s lies in the root", e.Name())
		}
	}
}

// source is a parsed package directory, tests left out.
type source struct {
	dir   string
	files map[string]*ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	byDir := map[string]source{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && path != root) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), root+string(filepath.Separator)))
		if _, known := byDir[dir]; !known {
			byDir[dir] = source{dir, map[string]*ast.File{}}
		}
		byDir[dir].files[name] = file
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]source, 0, len(byDir))
	for _, s := range byDir {
		list = append(list, s)
	}
	return list
}

func TestEveryPackageHasOneDocWithItsGuarantee(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		var docs []string
		for name, file := range s.files {
			if file.Doc == nil {
				continue
			}
			docs = append(docs, name)
			text := file.Doc.Text()
			if len(strings.Fields(text)) < 20 {
				t.Errorf("%s: the package doc in %s says hardly anything", s.dir, name)
			}
			if file.Name.Name != "main" && !strings.Contains(strings.ToLower(text), "guarantee") {
				t.Errorf("%s: the package doc in %s does not state a guarantee", s.dir, name)
			}
		}
		if len(docs) != 1 {
			t.Errorf("%s has %d package docs %v, want one", s.dir, len(docs), docs)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for name, file := range s.files {
			if file.Name.Name == "main" {
				continue
			}
			for _, d := range file.Decls {
				for _, missing := range undocumented(d) {
					t.Errorf("%s/%s: %s is exported and has no doc", s.dir, name, missing)
				}
			}
		}
	}
}

// undocumented lists the exported names that a declaration introduces without a doc.
func undocumented(d ast.Decl) []string {
	var names []string
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && receiverIsExported(d) {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec: // a group may share one doc
				for _, n := range spec.Names {
					if n.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

func receiverIsExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	name, ok := of.(*ast.Ident)
	return ok && name.IsExported()
}

func TestNoPackageIsADrawer(t *testing.T) {
	t.Parallel()
	drawers := []string{"util", "utils", "common", "helpers", "types", "models", "misc"}
	for _, s := range sources(t) {
		for name, file := range s.files {
			if base := strings.TrimSuffix(name, ".go"); slices.Contains(drawers, base) || slices.Contains(drawers, file.Name.Name) {
				t.Errorf("%s/%s: name it for what it holds", s.dir, name)
			}
		}
	}
}
