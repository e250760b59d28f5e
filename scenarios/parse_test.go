package scenarios

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const head = "apiVersion: meshproof.dev/v1alpha1\nkind: Scenario\n"

func noManifest(string) ([]byte, error) { return nil, fs.ErrNotExist }

// valid is a small scenario; tests replace one text in it.
const valid = head + `metadata: {name: small}
spec:
  summary: a small one
  namespaces: [{name: other}]
  workloads:
    - {name: app, kind: echo}
  clients:
    - {name: alice, kind: meshed}
    - {name: bob, kind: unmeshed, network: outside}
  steps:
    - name: first
      actions:
        - apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: "x", namespace: "${ns.other}"}}]
        - start: {name: flow, client: alice, target: "app:http", protocol: http1, rate: 5}
      claims:
        - name: alice gets in
          shows: [DOC-07]
          within: 2s
          call: {client: alice, target: "app:http", protocol: http1, expect: allowed}
        - name: everybody
          matrix:
            protocols: [http1, grpc]
            rows:
              - target: "app"
                expect:
                  allowed: [alice]
                  denied: bob
`

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"misspelt field", "network: outside", "netwrok: outside", `s.yaml:11:35: unknown field "netwrok" in a client: did you mean "network"?`},
		{"field of another type", "rate: 5", "rate: fast", `s.yaml:16:89: expected a number, found the string "fast"`},
		{"list where a mapping is due", "metadata: {name: small}", "metadata: [small]", `s.yaml:3:11: expected a metadata, found a list`},
		{"number as text", "name: small", "name: 12", `s.yaml:3:18: expected a string, found the number 12`},
		{"value outside the set", "kind: unmeshed", "kind: unmesht", `s.yaml:11:25: "unmesht" is not a client kind: did you mean "unmeshed"?`},
		{"outcome outside the set", "expect: allowed", "expect: alowed", `s.yaml:21:78: "alowed" is not an outcome: did you mean "allowed"?`},
		{"outcome of a cell", "denied: bob", "denid: bob", `s.yaml:29:19: "denid" is not an outcome: did you mean "denied"?`},
		{"duration without unit", "within: 2s", "within: 2", `s.yaml:20:19: expected a duration such as 5s, found the number 2`},
		{"missing field", "  summary: a small one\n", "", `s.yaml:5:3: a spec needs the field "summary"`},
		{"field given twice", "metadata: {name: small}", "metadata: {name: small, name: big}", `s.yaml:3:25: field "name" is given twice`},
		{"unknown client", "client: alice, target: \"app:http\", protocol: http1, expect", "client: alcie, target: \"app:http\", protocol: http1, expect", `s.yaml:21:17: no client is called "alcie": did you mean "alice"?`},
		{"unknown client in a cell", "denied: bob", "denied: rob", `s.yaml:29:27: no client is called "rob": did you mean "bob"?`},
		{"unknown port", `target: "app"`, `target: "app:htp"`, `s.yaml:26:17: target "app:htp": app has no port "htp": did you mean "http"?`},
		{"client inside nothing", "kind: meshed}", "kind: meshed, inside: ap}", `s.yaml:10:7: no workload is called "ap": did you mean "app"?`},
		{"client inside without the pods' proxy", "kind: unmeshed, network: outside", "kind: unmeshed, inside: app", `s.yaml:11:7: a client inside a workload is meshed, and has nothing of its own`},
		{"loopback of a client elsewhere", "protocol: http1, expect", "protocol: http1, via: loopback, expect", `s.yaml:21:17: client "alice" is inside no workload`},
		{"raw bytes of another protocol", "protocol: http1, expect", "protocol: http2, raw: x, expect", `s.yaml:21:17: raw replaces a request of http1, not one of http2`},
		{"unknown workload", `target: "app"`, `target: "ap"`, `s.yaml:26:17: target "ap": no workload is called "ap": did you mean "app"?`},
		{"unknown named value", "${ns.other}", "${ns.toher}", `s.yaml:15:19: ${ns.toher} is not a named value: did you mean "ns.other"?`},
		{"statement that does not exist", "DOC-07", "DOC-77", `s.yaml:18:11: DOC-77: the documents make statements DOC-01 to DOC-42`},
		{"two forms in a claim", "          within: 2s\n", "          healthy: {}\n", `s.yaml:18:11: the claim has call and healthy: give one only`},
		{"no steps' name", "name: first", `name: ""`, `s.yaml:13:7: a step needs a name of its own; "" is empty or taken`},
		{"manifest that is not there", "apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: \"x\", namespace: \"${ns.other}\"}}]", "manifest: gone.yml", `s.yaml:15:11: manifest "gone.yml" cannot be read: file does not exist`},
		{"serial missing", "start: {name: flow, client: alice, target: \"app:http\", protocol: http1, rate: 5}", "install: {defaultInboundPolicy: deny}", `s.yaml:16:11: this changes what other scenarios rely on: the scenario needs serial: true`},
		{"not YAML", "metadata: {name: small}", "metadata: {name: small", `s.yaml:3:1: not YAML: did not find expected ',' or '}'`},
		{"another kind", "kind: Scenario", "kind: Scene", `s.yaml:2:7: kind is "Scene", expected "Scenario"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(valid, test.old, test.new, 1)
			if text == valid {
				t.Fatalf("%q does not stand in the example", test.old)
			}
			_, err := Parse("s.yaml", []byte(text), noManifest)
			if err == nil || !IsInput(err) {
				t.Fatalf("error %v is not about the input", err)
			}
			first := strings.Split(err.Error(), "\n")
			for _, line := range first {
				if strings.HasPrefix(line, test.want) {
					return
				}
			}
			t.Errorf("got  %s\nwant %s", err, test.want)
		})
	}
}

func TestAMatrixIsOneClaimPerCellWithALineOfItsOwn(t *testing.T) {
	set, err := Parse("s.yaml", []byte(valid), noManifest)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, claim := range NewPlan(set, nil).Claims() {
		got = append(got, claim.Source.String()+" "+claim.ID+" "+claim.Name)
	}
	want := []string{
		"s.yaml:18:11 small.1.1 alice gets in",
		"s.yaml:28:29 small.1.2 everybody: alice → app over http1 is allowed",
		"s.yaml:28:29 small.1.3 everybody: alice → app over grpc is allowed",
		"s.yaml:29:27 small.1.4 everybody: bob → app over http1 is denied",
		"s.yaml:29:27 small.1.5 everybody: bob → app over grpc is denied",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnchorsAndMergesMayBeUsedAndCannotExplode(t *testing.T) {
	merged := strings.Replace(valid, "- {name: bob, kind: unmeshed, network: outside}", "- &bob {name: bob, kind: unmeshed, network: outside}\n    - {<<: *bob, name: carol}", 1)
	set, err := Parse("s.yaml", []byte(merged), noManifest)
	if err != nil {
		t.Fatal(err)
	}
	carol := set.Scenarios[0].Spec.Clients[2]
	if carol.Name != "carol" || carol.Network != Outside || carol.Kind != Unmeshed {
		t.Errorf("merged client is %+v", carol)
	}

	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, next := range []string{"ba", "cb", "dc", "ed", "fe", "gf", "hg"} {
		bomb += string(next[0]) + ": &" + string(next[0]) + " ["
		for range 10 {
			bomb += "*" + string(next[1]) + ","
		}
		bomb += "]\n"
	}
	exploding := strings.Replace(valid, "apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: \"x\", namespace: \"${ns.other}\"}}]",
		"apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {"+strings.ReplaceAll(strings.TrimSuffix(bomb, "\n"), "\n", ",")+"}}]", 1)
	if _, err := Parse("s.yaml", []byte(exploding), noManifest); err == nil {
		t.Error("a file that expands to a hundred million values is taken")
	}
}

func TestEveryScenarioOfTheLibraryFitsTheSchema(t *testing.T) {
	var document any
	if err := json.Unmarshal(Schema(), &document); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("scenario.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("scenario.json")
	if err != nil {
		t.Fatal(err)
	}
	files, err := scenarioFiles(library)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in the library: %v", err)
	}
	check := func(name string, data []byte) error {
		var all []error
		problems := &problems{}
		for _, node := range documents(name, data, problems) {
			var value any
			if err := node.Decode(&value); err != nil {
				return err
			}
			plain, _ := json.Marshal(value)
			_ = json.Unmarshal(plain, &value)
			all = append(all, compiled.Validate(value))
		}
		return errors.Join(append(all, problems.err())...)
	}
	for _, file := range files {
		data, err := library.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(file, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if check("s.yaml", []byte(strings.Replace(valid, "network", "netwrok", 1))) == nil {
		t.Error("the schema takes a field that the parser refuses")
	}
}
