package cri

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// tick is the unit of processor time in /proc, the same on every platform that
// Go runs on.
const tick = 10 * time.Millisecond

// usage is what the processes of one PID namespace use.
type usage struct {
	cpu time.Duration
	// resident and anonymous memory in bytes; the difference is mostly the
	// program's file, which containers share.
	resident, anonymous uint64
	processes           uint64
}

// usages reads the use of every PID namespace from /proc, by the namespace's
// inode number. Processes that end meanwhile are left out.
func usages() (map[uint64]usage, error) {
	directories, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := map[uint64]usage{}
	for _, directory := range directories {
		var namespace unix.Stat_t
		if unix.Stat(directory+"/ns/pid", &namespace) != nil {
			continue
		}
		cpu, err := processorTime(directory)
		if err != nil {
			continue
		}
		resident, shared, err := memory(directory)
		if err != nil {
			continue
		}
		sum := all[namespace.Ino]
		sum.cpu += cpu
		sum.resident += resident
		sum.anonymous += resident - shared
		sum.processes++
		all[namespace.Ino] = sum
	}
	return all, nil
}

// processorTime is a process's own and that of the children it has waited for.
func processorTime(directory string) (time.Duration, error) {
	text, err := os.ReadFile(directory + "/stat")
	if err != nil {
		return 0, err
	}
	// The program's name, in parentheses, may hold anything. utime, stime,
	// cutime and cstime are the fields 14 to 17, the name is the second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const first, last = 14 - 3, 17 - 3
	if len(fields) <= last {
		return 0, fmt.Errorf("%s/stat has %d fields", directory, len(fields))
	}
	var ticks int64
	for _, field := range fields[first : last+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

func memory(directory string) (resident, shared uint64, err error) {
	text, err := os.ReadFile(directory + "/statm")
	if err != nil {
		return 0, 0, err
	}
	var size uint64
	if _, err := fmt.Sscan(string(text), &size, &resident, &shared); err != nil {
		return 0, 0, err
	}
	page := uint64(os.Getpagesize())
	return resident * page, min(shared, resident) * page, nil
}

// usage finds the container's share of all; a container that does not run
// uses nothing any more.
func (c *container) usage(all map[uint64]usage) usage {
	p := c.running()
	if p == nil {
		return usage{}
	}
	var namespace unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", p.pid), &namespace) != nil {
		return usage{}
	}
	found := all[namespace.Ino]
	found.cpu += time.Duration(c.joinedCPU.Load())
	return found
}

func number(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

func cpuStats(at int64, u usage) *runtimeapi.CpuUsage {
	return &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: number(uint64(u.cpu))}
}

func memoryStats(at int64, u usage) *runtimeapi.MemoryUsage {
	return &runtimeapi.MemoryUsage{Timestamp: at, WorkingSetBytes: number(u.resident), UsageBytes: number(u.resident), RssBytes: number(u.anonymous)}
}

func (s *Server) containerStats(c *container, at int64, u usage) *runtimeapi.ContainerStats {
	return &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{Id: c.id, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations()},
		Cpu:        cpuStats(at, u), Memory: memoryStats(at, u),
		WritableLayer: filesystem(s.config.BinDir, 0, 0),
	}
}

// ContainerStats tells what a container's processes use now.
func (s *Server) ContainerStats(_ context.Context, request *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	c, err := s.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	all, err := usages()
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: s.containerStats(c, time.Now().UnixNano(), c.usage(all))}, nil
}

// ListContainerStats tells the same of all running containers.
func (s *Server) ListContainerStats(_ context.Context, request *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	filter := request.GetFilter()
	all, err := usages()
	if err != nil {
		return nil, err
	}
	at := time.Now().UnixNano()
	response := &runtimeapi.ListContainerStatsResponse{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.containers {
		if filter.GetId() != "" && filter.GetId() != c.id || filter.GetPodSandboxId() != "" && filter.GetPodSandboxId() != c.pod.id ||
			!selects(filter.GetLabelSelector(), c.config.GetLabels()) || c.running() == nil {
			continue
		}
		response.Stats = append(response.Stats, s.containerStats(c, at, c.usage(all)))
	}
	return response, nil
}

// podStats adds up a pod's containers.
func (s *Server) podStats(pod *sandbox, all map[uint64]usage) *runtimeapi.PodSandboxStats {
	at := time.Now().UnixNano()
	var sum usage
	linux := &runtimeapi.LinuxPodSandboxStats{}
	for _, c := range s.containersOf(pod.id) {
		p := c.running()
		if p == nil {
			continue
		}
		u := c.usage(all)
		sum.cpu += u.cpu
		sum.resident += u.resident
		sum.anonymous += u.anonymous
		sum.processes += u.processes
		linux.Containers = append(linux.Containers, s.containerStats(c, at, u))
		if linux.Network == nil && !pod.hostNetwork() {
			linux.Network = networkStats(at, p.pid)
		}
	}
	linux.Cpu, linux.Memory = cpuStats(at, sum), memoryStats(at, sum)
	linux.Process = &runtimeapi.ProcessUsage{Timestamp: at, ProcessCount: number(sum.processes)}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: pod.id, Metadata: pod.config.GetMetadata(), Labels: pod.config.GetLabels(), Annotations: pod.config.GetAnnotations()},
		Linux:      linux,
	}
}

// networkStats reads the interfaces that a process has, without loopback, or
// nil when it has ended.
func networkStats(at int64, pid int) *runtimeapi.NetworkUsage {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	network := &runtimeapi.NetworkUsage{Timestamp: at}
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		name, counters, ok := strings.Cut(scanner.Text(), ":")
		name = strings.TrimSpace(name)
		if !ok || name == "lo" {
			continue
		}
		// Eight counters of what was received, then as many of what was sent.
		var n [10]uint64
		values := make([]any, len(n))
		for i := range n {
			values[i] = &n[i]
		}
		if _, err := fmt.Sscan(counters, values[:]...); err != nil {
			continue
		}
		network.Interfaces = append(network.Interfaces, &runtimeapi.NetworkInterfaceUsage{
			Name: name, RxBytes: number(n[0]), RxErrors: number(n[2]), TxBytes: number(n[8]),
		})
	}
	if len(network.Interfaces) > 0 {
		network.DefaultInterface = network.Interfaces[0]
	}
	return network
}

// PodSandboxStats tells what a pod's processes use now.
func (s *Server) PodSandboxStats(_ context.Context, request *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	pod, err := s.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	all, err := usages()
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: s.podStats(pod, all)}, nil
}

// ListPodSandboxStats tells the same of all pods that are ready.
func (s *Server) ListPodSandboxStats(_ context.Context, request *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	filter := request.GetFilter()
	all, err := usages()
	if err != nil {
		return nil, err
	}
	response := &runtimeapi.ListPodSandboxStatsResponse{}
	for _, pod := range s.readySandboxes() {
		if filter.GetId() != "" && filter.GetId() != pod.id || !selects(filter.GetLabelSelector(), pod.config.GetLabels()) {
			continue
		}
		response.Stats = append(response.Stats, s.podStats(pod, all))
	}
	return response, nil
}

func (s *Server) readySandboxes() []*sandbox {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ready []*sandbox
	for _, pod := range s.sandboxes {
		if pod.ready.Load() {
			ready = append(ready, pod)
		}
	}
	return ready
}

// metrics are what ListPodSandboxMetrics offers per container, each a gauge or
// counter without labels.
var metrics = []struct {
	name, help string
	kind       runtimeapi.MetricType
	value      func(usage) uint64
}{
	{"container_memory_working_set_bytes", "Resident memory of the container's processes in bytes.", runtimeapi.MetricType_GAUGE, func(u usage) uint64 { return u.resident }},
	{"container_memory_rss", "Anonymous memory of the container's processes in bytes.", runtimeapi.MetricType_GAUGE, func(u usage) uint64 { return u.anonymous }},
	{"container_cpu_usage_seconds_total", "Processor time of the container's processes in whole seconds.", runtimeapi.MetricType_COUNTER, func(u usage) uint64 { return uint64(u.cpu / time.Second) }},
	{"container_processes", "Number of processes in the container.", runtimeapi.MetricType_GAUGE, func(u usage) uint64 { return u.processes }},
}

// ListMetricDescriptors names the metrics of ListPodSandboxMetrics.
func (s *Server) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	response := &runtimeapi.ListMetricDescriptorsResponse{}
	for _, metric := range metrics {
		response.Descriptors = append(response.Descriptors, &runtimeapi.MetricDescriptor{Name: metric.name, Help: metric.help})
	}
	return response, nil
}

// ListPodSandboxMetrics gives the metrics of every container of every pod that
// is ready.
func (s *Server) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	all, err := usages()
	if err != nil {
		return nil, err
	}
	at := time.Now().UnixNano()
	response := &runtimeapi.ListPodSandboxMetricsResponse{}
	for _, pod := range s.readySandboxes() {
		of := &runtimeapi.PodSandboxMetrics{PodSandboxId: pod.id}
		for _, c := range s.containersOf(pod.id) {
			if c.running() == nil {
				continue
			}
			u := c.usage(all)
			values := &runtimeapi.ContainerMetrics{ContainerId: c.id}
			for _, metric := range metrics {
				values.Metrics = append(values.Metrics, &runtimeapi.Metric{Name: metric.name, Timestamp: at, MetricType: metric.kind, Value: number(metric.value(u))})
			}
			of.ContainerMetrics = append(of.ContainerMetrics, values)
		}
		response.PodMetrics = append(response.PodMetrics, of)
	}
	return response, nil
}

// newOOMKill says whether the kernel has killed a process for want of memory
// since the last time this was asked.
func (s *Server) newOOMKill() bool {
	now := oomKills()
	return now > s.oomKills.Swap(now)
}

// oomKills is how often this machine's kernel has killed a process for want of
// memory since it started. Without cgroups this is all there is to tell an
// out-of-memory kill from another.
func oomKills() uint64 {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		if value, ok := bytes.CutPrefix(scanner.Bytes(), []byte("oom_kill ")); ok {
			count, _ := strconv.ParseUint(string(value), 10, 64)
			return count
		}
	}
	return 0
}
