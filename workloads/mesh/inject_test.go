package mesh

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// injected has one row per kind of document that is treated differently; in and
// out are whole streams.
var injected = []struct{ name, in, out string }{
	{"a pod template gets the annotation",
		"kind: Deployment\nspec:\n  template:\n    metadata:\n      labels:\n        app: web\n    spec: {}\n",
		"kind: Deployment\nspec:\n  template:\n    metadata:\n      labels:\n        app: web\n      annotations:\n        linkerd.io/inject: enabled\n    spec: {}\n"},
	{"beside those that are there",
		"kind: StatefulSet\nspec:\n  template:\n    metadata:\n      annotations:\n        a: b # why\n",
		"kind: StatefulSet\nspec:\n  template:\n    metadata:\n      annotations:\n        a: b # why\n        linkerd.io/inject: enabled\n"},
	{"where annotations stand without any",
		"kind: DaemonSet\nspec:\n  template:\n    metadata:\n      annotations:\n",
		"kind: DaemonSet\nspec:\n  template:\n    metadata:\n      annotations:\n        linkerd.io/inject: enabled\n"},
	{"where there is no metadata",
		"kind: Job\nspec:\n  template:\n    spec: {}\n",
		"kind: Job\nspec:\n  template:\n    spec: {}\n    metadata:\n      annotations:\n        linkerd.io/inject: enabled\n"},
	{"a pod is its own template",
		"kind: Pod\nmetadata:\n  name: a\n",
		"kind: Pod\nmetadata:\n  name: a\n  annotations:\n    linkerd.io/inject: enabled\n"},
	{"a cron job's template is two deep",
		"kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        metadata: {}\n",
		"kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        metadata: {\"annotations\": {\"linkerd.io/inject\": \"enabled\"}}\n"},
	{"a choice that was made stays",
		"kind: Pod\nmetadata:\n    annotations: {linkerd.io/inject: disabled}\n",
		"kind: Pod\nmetadata:\n    annotations: {linkerd.io/inject: disabled}\n"},
	{"everything else passes byte for byte",
		"# comment\napiVersion:   v1\nkind: Service\nmetadata: {name:  a}\n---\n\n---\nkind: Server\nspec:\n      port: 1\n--- # end\n",
		"# comment\napiVersion:   v1\nkind: Service\nmetadata: {name:  a}\n---\n\n---\nkind: Server\nspec:\n      port: 1\n--- # end\n"},
	{"a Namespace is no template",
		"kind: Namespace\nmetadata:\n  name: emojivoto\n",
		"kind: Namespace\nmetadata:\n  name: emojivoto\n"},
	{"documents stay apart",
		"---\nkind: Pod\nmetadata:\n  name: a\n---\nkind: Service\n---\nkind: Pod\nmetadata:\n  name: b",
		"---\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    linkerd.io/inject: enabled\n---\nkind: Service\n---\nkind: Pod\nmetadata:\n  name: b\n  annotations:\n    linkerd.io/inject: enabled\n"},
	{"items of a list are objects",
		"kind: List\nitems:\n- kind: Service\n- kind: Pod\n  metadata:\n    name: a\n",
		"kind: List\nitems:\n  - kind: Service\n  - kind: Pod\n    metadata:\n      name: a\n      annotations:\n        linkerd.io/inject: enabled\n"},
	{"JSON stays JSON",
		"{\"kind\": \"Pod\", \"metadata\": {\"name\": \"a\"}}\n",
		"{\"kind\": \"Pod\", \"metadata\": {\"name\": \"a\", \"annotations\": {\"linkerd.io/inject\": \"enabled\"}}}\n"},
	{"nothing in, nothing out", "", ""},
}

func TestInjectManifests(t *testing.T) {
	for _, row := range injected {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := InjectManifests(strings.NewReader(row.in), &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.out, out.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			var again bytes.Buffer
			if err := InjectManifests(bytes.NewReader(out.Bytes()), &again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(out.String(), again.String()); diff != "" {
				t.Errorf("injecting twice is not injecting once: -once +twice\n%s", diff)
			}
		})
	}
}

func TestInjectNamesTheDocumentThatCannotBeRead(t *testing.T) {
	err := InjectManifests(strings.NewReader("kind: Service\n---\n\tkind: Pod\n"), &bytes.Buffer{})
	if err == nil || !strings.HasPrefix(err.Error(), "document 2: ") {
		t.Errorf("got %v", err)
	}
}
