package state

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/cluster"
)

func TestAFolderIsReplacedWhenItsOwnerIsGone(t *testing.T) {
	registry := Registry(t.TempDir())
	f, lock, err := registry.Reserve("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := registry.Reserve("one", nil); !errors.Is(err, cluster.ErrExists) || !f.Owned() {
		t.Errorf("while it is owned: %v, owned %v", err, f.Owned())
	}
	if err := os.WriteFile(f.Path("old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	refusal := errors.New("it stands")
	if _, _, err := registry.Reserve("one", func(Folder) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("a folder that may not go: %v", err)
	}
	if _, err := os.Stat(f.Path("old")); err != nil {
		t.Errorf("it went all the same: %v", err)
	}
	f, lock, err = registry.Reserve("one", func(Folder) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := os.Stat(f.Path("old")); !errors.Is(err, os.ErrNotExist) || !f.Owned() {
		t.Errorf("the new folder has what was in the old one (%v), owned %v", err, f.Owned())
	}
}

func TestAnOwnerRemovesItsOwnFolderOnly(t *testing.T) {
	registry := Registry(t.TempDir())
	f, first, err := registry.Reserve("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := f.Remove(); err != nil { // as a deletion by another process does
		t.Fatal(err)
	}
	f, second, err := registry.Reserve("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := f.RemoveOwn(first); err != nil || !f.Owned() {
		t.Errorf("the first owner has removed the second one's folder (%v)", err)
	}
	if err := f.RemoveOwn(second); err != nil || f.Owned() {
		t.Errorf("the second owner has not (%v)", err)
	}
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	registry := Registry(t.TempDir())
	f, lock, err := registry.Reserve("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	type kept struct{ Nodes []string }
	want, got := kept{[]string{"a", "b"}}, kept{}
	if err := errors.Join(f.WriteRecord(kept{}), f.WriteRecord(want), f.ReadRecord(&got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got:", diff)
	}
	names, err := registry.Names()
	if diff := cmp.Diff([]string{"one"}, names); err != nil || diff != "" {
		t.Error(err, "-want +got:", diff)
	}
}
