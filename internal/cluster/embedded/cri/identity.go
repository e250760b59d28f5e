package cri

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
	"github.com/meshproof/meshproof/workloads/images"
)

// nobody is the customary unprivileged uid.
const nobody = 65534

// idMap is what user and group IDs the server's user namespace has.
type idMap struct {
	uids, gids []idRange
	// denied says that supplementary groups cannot be changed.
	denied bool
}

type idRange struct{ first, count int64 }

func readIDMap() (idMap, error) {
	var m idMap
	for file, ranges := range map[string]*[]idRange{"/proc/self/uid_map": &m.uids, "/proc/self/gid_map": &m.gids} {
		text, err := os.ReadFile(file)
		if err != nil {
			return m, fmt.Errorf("read which user IDs there are: %w", err)
		}
		for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
			var r idRange
			var outside int64
			if _, err := fmt.Sscan(scanner.Text(), &r.first, &outside, &r.count); err != nil {
				return m, fmt.Errorf("read %s: line %q: %w", file, scanner.Text(), err)
			}
			*ranges = append(*ranges, r)
		}
		if len(*ranges) == 0 {
			return m, fmt.Errorf("%s is empty: this user namespace has no IDs yet", file)
		}
	}
	policy, err := os.ReadFile("/proc/self/setgroups")
	if err != nil {
		return m, fmt.Errorf("read whether groups can be set: %w", err)
	}
	m.denied = strings.TrimSpace(string(policy)) == "deny"
	return m, nil
}

// single says that uid 0 is the only one.
func (m idMap) single() bool {
	return len(m.uids) == 1 && m.uids[0].count == 1
}

func mapped(ranges []idRange, id int64) bool {
	for _, r := range ranges {
		if id >= r.first && id < r.first+r.count {
			return true
		}
	}
	return false
}

// credentials is who the container's processes are: what the security context
// says, else what the image says, as far as the user namespace can.
func (m idMap) credentials(config *runtimeapi.LinuxContainerSecurityContext, image images.Image) (containerinit.Credentials, error) {
	uid, gid := image.User, int64(0)
	switch name := config.GetRunAsUsername(); {
	case config.GetRunAsUser() != nil:
		uid = config.GetRunAsUser().GetValue()
	case name == "root":
		uid = 0
	case name == "nobody":
		uid, gid = nobody, nobody
	case name != "":
		return containerinit.Credentials{}, fmt.Errorf("user %q: the images here know the names root and nobody only; give a number", name)
	}
	if config.GetRunAsGroup() != nil {
		gid = config.GetRunAsGroup().GetValue()
	}
	c := containerinit.Credentials{KeepGroups: m.denied}
	if m.single() {
		// There is no other uid to be. The capabilities are cut all the same.
		return c, nil
	}
	if !mapped(m.uids, uid) || !mapped(m.gids, gid) {
		return c, fmt.Errorf("user %d and group %d: not both among the %d IDs that this cluster has", uid, gid, m.uids[0].count)
	}
	c.UID, c.GID = int(uid), int(gid)
	for _, group := range config.GetSupplementalGroups() {
		if !mapped(m.gids, group) {
			return c, fmt.Errorf("supplemental group %d: not among the %d IDs that this cluster has", group, m.gids[0].count)
		}
		c.Groups = append(c.Groups, uint32(group))
	}
	return c, nil
}
