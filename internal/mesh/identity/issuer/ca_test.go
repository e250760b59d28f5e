package issuer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mkMaterial(t *testing.T) Material {
	t.Helper()
	m, err := NewMaterial("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMaterialThatPeersWouldNotBelieveIsRefused(t *testing.T) {
	good, other := mkMaterial(t), mkMaterial(t)
	for name, row := range map[string]struct {
		material Material
		at       time.Time
		want     string
	}{
		"nothing":              {Material{}, time.Now(), "issuer's certificate"},
		"no key":               {Material{Certificate: good.Certificate, Anchors: good.Anchors}, time.Now(), "issuer's key"},
		"another key":          {Material{good.Certificate, other.Key, good.Anchors}, time.Now(), "does not belong"},
		"another anchor":       {Material{good.Certificate, good.Key, other.Anchors}, time.Now(), "against the trust anchors"},
		"no anchor":            {Material{good.Certificate, good.Key, nil}, time.Now(), "trust anchors"},
		"ended":                {good, time.Now().Add(2 * anchorLife), "against the trust anchors"},
		"good":                 {good, time.Now(), ""},
		"two anchors, one fit": {Material{good.Certificate, good.Key, append(other.Anchors, good.Anchors...)}, time.Now(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewCA(row.material, row.at)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want …%s…", err, row.want)
			}
		})
	}
}

func TestPublishedAnchorsOnlyGrow(t *testing.T) {
	a, b := string(mkMaterial(t).Anchors), string(mkMaterial(t).Anchors)
	for name, row := range map[string]struct {
		bundle, anchors, want string
		missing               bool
	}{
		"into nothing":           {"", a, a, true},
		"already there":          {b + a, a, strings.TrimSpace(b+a) + "\n", false},
		"beside another":         {b, a, b + a, true},
		"over noise":             {"noise", a, a, true},
		"two, one of them known": {a, b + a, a + b, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, missing := join([]byte(row.bundle), []byte(row.anchors))
			if diff := cmp.Diff(row.want, string(got)); diff != "" || missing != row.missing {
				t.Errorf("missing %v, want %v; -want +got\n%s", missing, row.missing, diff)
			}
		})
	}
}
