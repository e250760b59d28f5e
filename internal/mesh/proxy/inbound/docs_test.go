package inbound

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dataPath is the document that this file holds against the code.
func dataPath(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../../docs/data-path.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is what stands beneath a heading.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no section %q", heading)
	}
	part, _, _ := strings.Cut(rest, "\n## ")
	return part
}

// rows are the cells of a section's tables, heads and rules aside.
func rows(section string) (all [][]string) {
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) < 2 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		all = append(all, cells)
	}
	return all
}

// constants are those of a package's files by name, as far as they are numbers, and
// limited tells which of them stand in its limits.go.
func constants(t *testing.T, folder string, known map[string]*types.Package) (values map[string]int64, limited []string) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	paths, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	// What is not known is left out: only constants are asked for.
	config := types.Config{IgnoreFuncBodies: true, Error: func(error) {}, Importer: packages(known)}
	pkg, _ := config.Check(folder, fset, files, nil)
	known["github.com/meshproof/meshproof/internal/mesh/proxy/"+folder] = pkg
	values = map[string]int64{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || strings.EqualFold(c.Type().String(), folder+".limit") {
			continue // the names of limits are no limits
		}
		n, exact := constant.Int64Val(constant.ToInt(c.Val()))
		if c.Val().Kind() != constant.Int || !exact {
			continue
		}
		values[name] = n
		if filepath.Base(fset.Position(c.Pos()).Filename) == "limits.go" && name != "limits" && name != "limitCount" {
			limited = append(limited, name)
		}
	}
	return values, limited
}

type packages map[string]*types.Package

func (p packages) Import(path string) (*types.Package, error) {
	if pkg := p[path]; pkg != nil {
		return pkg, nil
	}
	return nil, errors.New("not known")
}

// clock is as much of package time as constants need.
func clock() *types.Package {
	pkg := types.NewPackage("time", "time")
	duration := types.NewNamed(types.NewTypeName(token.NoPos, pkg, "Duration", nil), types.Typ[types.Int64], nil)
	pkg.Scope().Insert(duration.Obj())
	for name, d := range map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour} {
		pkg.Scope().Insert(types.NewConst(token.NoPos, pkg, name, duration, constant.MakeInt64(int64(d))))
	}
	pkg.MarkComplete()
	return pkg
}

// units are those that the document writes values with.
var units = map[string]int64{
	"": 1, "KiB": 1 << 10, "MiB": 1 << 20,
	"ms": int64(time.Millisecond), "s": int64(time.Second), "min": int64(time.Minute), "h": int64(time.Hour),
}

func TestTheDocumentSaysEveryLimitAndItsValue(t *testing.T) {
	known := map[string]*types.Package{"time": clock()}
	values, limited := map[string]int64{}, []string{}
	for _, folder := range []string{"http1", "http2", "inbound"} {
		of, those := constants(t, folder, known)
		for name, value := range of {
			values[folder+"."+name] = value
		}
		for _, name := range those {
			limited = append(limited, folder+"."+name)
		}
	}
	told, counted := map[string]bool{}, map[string]bool{}
	for _, row := range rows(section(t, dataPath(t), "Limits"))[1:] {
		if len(row) != 4 {
			t.Errorf("%d columns: %q", len(row), row)
			continue
		}
		counted[row[3]] = true
		name, isName := strings.CutPrefix(row[0], "`")
		if !isName {
			continue
		}
		name = strings.TrimSuffix(name, "`")
		number, unit, _ := strings.Cut(row[1], " ")
		n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
		if err != nil {
			t.Errorf("%s: %q is no value", name, row[1])
			continue
		}
		if value, ok := values[name]; !ok || value != n*units[unit] {
			t.Errorf("%s: the document says %s, the code %d (there: %v)", name, row[1], value, ok)
		}
		told[name] = true
	}
	for _, name := range limited {
		if !told[name] {
			t.Errorf("no row for %s, which is in a limits.go", name)
		}
	}
	if len(limited) < 40 {
		t.Errorf("only %d constants were found", len(limited))
	}
	for part, limit := range everyLimit {
		if !counted[part+", "+limit] {
			t.Errorf("no row says when %s, %s bites", part, limit)
		}
		delete(counted, part+", "+limit)
	}
	delete(counted, "")
	for what := range counted {
		t.Errorf("nothing is counted as %q", what)
	}
}

func TestTheDocumentNamesTestsThatThereAre(t *testing.T) {
	there := ""
	for _, folder := range []string{"http1", "http2", "inbound"} {
		paths, _ := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			there += string(text)
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(dataPath(t), -1)
	if len(named) == 0 {
		t.Fatal("no test is named")
	}
	for _, name := range named {
		if !strings.Contains(there, "\nfunc "+name[1]+"(t *testing.T)") {
			t.Errorf("there is no test %s", name[1])
		}
	}
}

// The document's invariants are those of the package's own documentation, each with a
// test.
func TestTheDocumentHasTheInvariantsOfTheFrameRelay(t *testing.T) {
	source, err := os.ReadFile("../http2/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(strings.ReplaceAll(string(source), "\n//", "\n"), "# Invariants")
	list, _, _ = strings.Cut(list, "\npackage ")
	want := regexp.MustCompile(`(?m)^  \d+\. `).Split(list, -1)[1:]
	got := rows(section(t, dataPath(t), "Invariants of the frame relay"))[1:]
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%d invariants in the document, %d in the package", len(got), len(want))
	}
	for i, row := range got {
		if text := strings.Join(strings.Fields(want[i]), " "); row[0] != strconv.Itoa(i+1) || row[1] != text {
			t.Errorf("%s: the document says\n%s\nthe package\n%s", row[0], row[1], text)
		}
		if !strings.Contains(row[2], "`Test") {
			t.Errorf("no test shows invariant %s", row[0])
		}
	}
}

// Every reason for which HTTP/1 is refused for what it is stands in the document, in
// the words of the log.
func TestTheDocumentHasEveryReasonToRefuseHTTP1(t *testing.T) {
	source, err := os.ReadFile("../http1/refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	text := section(t, dataPath(t), "Requests of HTTP/1 that are refused")
	var told []string
	for _, row := range rows(text)[1:] {
		told = append(told, row[0])
	}
	reasons := regexp.MustCompile(`(?:= bad\(|why: )"([^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(reasons) < len(told) {
		t.Errorf("%d reasons in the document, %d in the code", len(told), len(reasons))
	}
	for _, r := range reasons {
		if !strings.Contains(text, r[1]) {
			t.Errorf("%q is not in the document", r[1])
		}
	}
	for _, reason := range told {
		if !strings.Contains(string(source), `"`+reason+`"`) {
			t.Errorf("nothing is refused as %q", reason)
		}
	}
}
