package scenarios

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	"github.com/invopop/jsonschema"
)

var update = flag.Bool("update", false, "write schema.json anew")

// generate makes the schema from the Go types and their comments.
func generate(t *testing.T) []byte {
	t.Helper()
	reflector := &jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t != durationType {
				return nil
			}
			return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, Examples: []any{"5s"}}
		}}
	if err := reflector.AddGoComments("github.com/meshproof/meshproof/scenarios", "./"); err != nil {
		t.Fatalf("read the comments of the types: %v", err)
	}
	s := reflector.Reflect(&Scenario{})
	s.ID = "https://meshproof.dev/schema/v1alpha1/scenario.json"
	s.Title = "meshproof scenario"
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatalf("encode the schema: %v", err)
	}
	return append(out, '\n')
}

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, Schema()) {
		t.Fatal("schema.json is not what the types say: run go test ./scenarios -run Schema -update")
	}
}
