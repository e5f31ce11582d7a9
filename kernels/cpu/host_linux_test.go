package cpu

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// write makes files under a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCountCores(t *testing.T) {
	// Four cores of two threads each, numbered as usual: 0 and 4 are one core.
	files := map[string]string{}
	for id := range 8 {
		files[fmt.Sprintf("cpu%d/topology/thread_siblings_list", id)] = fmt.Sprintf("%d,%d\n", id%4, id%4+4)
	}
	root := write(t, files)
	for _, c := range []struct {
		name    string
		root    string
		allowed []int
		want    int
	}{
		{"all", root, []int{0, 1, 2, 3, 4, 5, 6, 7}, 4},
		{"both threads of a core", root, []int{1, 5}, 1},
		{"one thread of each core", root, []int{0, 1, 6, 7}, 4},
		{"no topology", t.TempDir(), []int{0, 1, 6}, 3},
	} {
		allowed := map[int]bool{}
		for _, id := range c.allowed {
			allowed[id] = true
		}
		if got := countCores(c.root, func(id int) bool { return allowed[id] }, len(allowed)); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestLimitCores(t *testing.T) {
	for _, c := range []struct {
		name  string
		group string
		files map[string]string
		want  int
	}{
		{"no quota", "0::/a", map[string]string{"a/cpu.max": "max 100000\n"}, 8},
		{"no files", "0::/a", nil, 8},
		{"one core", "0::/a", map[string]string{"a/cpu.max": "100000 100000\n"}, 1},
		{"part of a core", "0::/a", map[string]string{"a/cpu.max": "5000 100000\n"}, 1},
		{"two and a half", "0::/a", map[string]string{"a/cpu.max": "125000 50000\n"}, 3},
		{"more than there are", "0::/a", map[string]string{"a/cpu.max": "1600000 100000\n"}, 8},
		{"quota of an outer group", "0::/a/b", map[string]string{"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 2},
		{"the path is the host's", "0::/host/only", map[string]string{"cpu.max": "200000 100000\n"}, 2},
		{
			"version 1", "5:memory:/a\n4:cpu,cpuacct:/a\n0::/",
			map[string]string{"cpu/a/cpu.cfs_quota_us": "150000\n", "cpu/a/cpu.cfs_period_us": "100000\n", "memory/a/x": ""},
			2,
		},
		{
			"version 1 without a quota", "4:cpu:/a",
			map[string]string{"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
			8,
		},
	} {
		if got := limitCores(write(t, c.files), c.group, 8); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestMachineMemory(t *testing.T) {
	root := write(t, map[string]string{"meminfo": "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    400 kB\nHugePages_Total: 0\n"})
	if free, total := machineMemory(root + "/meminfo"); free != 400<<10 || total != 1000<<10 {
		t.Errorf("got %d of %d", free, total)
	}
	if free, total := machineMemory(root + "/absent"); free != 0 || total != 0 {
		t.Errorf("without meminfo: got %d of %d", free, total)
	}
}

func TestLimitMemory(t *testing.T) {
	const machineFree, machineTotal = 600, 1000
	for _, c := range []struct {
		name        string
		group       string
		files       map[string]string
		free, total int64
	}{
		{"no limit", "0::/a", map[string]string{"a/memory.max": "max\n"}, 600, 1000},
		{"no files", "0::/a", nil, 600, 1000},
		{"limit above the machine's", "0::/a", map[string]string{"a/memory.max": "5000\n", "a/memory.current": "4999\n"}, 600, 1000},
		{"limit", "0::/a", map[string]string{"a/memory.max": "500\n", "a/memory.current": "100\n"}, 400, 500},
		{
			"cached files count as free", "0::/a",
			map[string]string{
				"a/memory.max": "500\n", "a/memory.current": "300\n",
				"a/memory.stat": "anon 50\ninactive_file 120\nactive_file 9\n",
			},
			320, 500,
		},
		{"the machine has less", "0::/a", map[string]string{"a/memory.max": "900\n", "a/memory.current": "1\n"}, 600, 900},
		{
			"limit of an outer group", "0::/a/b/c",
			map[string]string{"a/memory.max": "300\n", "a/memory.current": "250\n", "a/b/c/memory.max": "400\n"},
			50, 300,
		},
		{"the path is the host's", "0::/host/only", map[string]string{"memory.max": "200\n", "memory.current": "0\n"}, 200, 200},
		{"used up", "0::/", map[string]string{"memory.max": "200\n", "memory.current": "250\n"}, 0, 200},
		{
			"version 1", "3:cpu:/x\n5:memory:/a\n0::/",
			map[string]string{"memory/a/memory.limit_in_bytes": "500\n", "memory/a/memory.usage_in_bytes": "450\n"},
			50, 500,
		},
	} {
		root := write(t, c.files)
		if free, total := limitMemory(root, c.group, machineFree, machineTotal); free != c.free || total != c.total {
			t.Errorf("%s: got %d of %d, want %d of %d", c.name, free, total, c.free, c.total)
		}
	}
}

func TestSumCaches(t *testing.T) {
	// Two groups of two processors with a third level each, as in an EPYC.
	files := map[string]string{}
	for id := range 4 {
		for i, c := range []struct{ level, size, shared string }{
			{"1", "32K", fmt.Sprint(id)},
			{"1", "32K", fmt.Sprint(id)},
			{"2", "512K", fmt.Sprint(id)},
			{"3", "32768K", fmt.Sprintf("%d-%d", id/2*2, id/2*2+1)},
		} {
			dir := fmt.Sprintf("cpu%d/cache/index%d/", id, i)
			files[dir+"level"], files[dir+"size"], files[dir+"shared_cpu_list"] = c.level+"\n", c.size+"\n", c.shared+"\n"
		}
	}
	root := write(t, files)
	for _, c := range []struct {
		root    string
		allowed []int
		want    int64
	}{
		{root, []int{0, 1, 2, 3}, 64 << 20},
		{root, []int{0, 1}, 32 << 20},
		{root, []int{1, 2}, 64 << 20},
		{t.TempDir(), []int{0, 1}, 0},
	} {
		allowed := map[int]bool{}
		for _, id := range c.allowed {
			allowed[id] = true
		}
		if got := sumCaches(c.root, func(id int) bool { return allowed[id] }, len(allowed)); got != c.want {
			t.Errorf("processors %v: %d bytes, want %d", c.allowed, got, c.want)
		}
	}
}
