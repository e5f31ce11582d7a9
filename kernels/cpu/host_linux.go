package cpu

import (
	"bufio"
	"bytes"
	"fmt"
	"iter"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What Linux says about the processor and the memory. A file that cannot be read counts as not saying.

// processor returns the processor's model name.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(info)) {
		if key, name, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(name)
		}
	}
	return "unknown processor"
}

// cores counts the cores that this process's affinity and the quotas of its control groups allow.
func cores() int {
	n := math.MaxInt
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err == nil {
		n = countCores("/sys/devices/system/cpu", set.IsSet, set.Count())
	}
	group, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return n
	}
	return limitCores("/sys/fs/cgroup", string(group), n)
}

// countCores counts the distinct cores among the n logical processors for which allowed holds. The threads of a core
// list the same siblings. Where the topology cannot be read, every logical processor counts.
func countCores(root string, allowed func(int) bool, n int) int {
	distinct := map[string]bool{}
	for id, found := 0, 0; found < n && id < 1<<16; id++ {
		if !allowed(id) {
			continue
		}
		found++
		siblings, err := os.ReadFile(fmt.Sprintf("%s/cpu%d/topology/thread_siblings_list", root, id))
		if err != nil {
			return n
		}
		distinct[string(bytes.TrimSpace(siblings))] = true
	}
	return len(distinct)
}

// lastLevelCache returns the bytes of the last-level caches of the processors that this process's affinity allows.
func lastLevelCache() int64 {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0
	}
	return sumCaches("/sys/devices/system/cpu", set.IsSet, set.Count())
}

// sumCaches adds up the distinct caches of the highest level that the n logical processors for which allowed holds have.
// 0 stands for unknown.
func sumCaches(root string, allowed func(int) bool, n int) int64 {
	highest, sizes := int64(0), map[string]int64{} // of the caches of that level, by the processors that share one
	for id, found := 0, 0; found < n && id < 1<<16; id++ {
		if !allowed(id) {
			continue
		}
		found++
		for i := 0; ; i++ {
			dir := fmt.Sprintf("%s/cpu%d/cache/index%d/", root, id, i)
			level, ok := readCount(dir + "level")
			if !ok {
				break
			}
			text, err := os.ReadFile(dir + "size")
			if err != nil || level < highest {
				continue
			}
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(text)), "K"), 10, 64)
			sharers, err2 := os.ReadFile(dir + "shared_cpu_list")
			if err != nil || err2 != nil {
				continue
			}
			if level > highest {
				highest = level
				clear(sizes)
			}
			sizes[string(bytes.TrimSpace(sharers))] = kib << 10
		}
	}
	var sum int64
	for _, s := range sizes {
		sum += s
	}
	return sum
}

// limitCores applies the quotas of processor time of the control group that group (the text of /proc/self/cgroup) names,
// and of those around it, rounded up to whole cores. GOMAXPROCS knows them too but never falls below 2 for a quota, and a
// thread beyond the quota has all of them stopped until the period is over.
func limitCores(root, group string, n int) int {
	for line := range strings.Lines(group) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		read := func(dir string) string { return readText(root + dir + "/cpu.max") }
		switch {
		case parts[0] == "0" && parts[1] == "":
		case slices.Contains(strings.Split(parts[1], ","), "cpu"):
			read = func(dir string) string {
				return readText(root+"/cpu"+dir+"/cpu.cfs_quota_us") + " " + readText(root+"/cpu"+dir+"/cpu.cfs_period_us")
			}
		default:
			continue
		}
		for dir := range outwards(parts[2]) {
			var quota, period int
			if _, err := fmt.Sscan(read(dir), &quota, &period); err == nil && quota > 0 && period > 0 {
				n = min(n, (quota+period-1)/period)
			}
		}
	}
	return n
}

// memory returns the smaller of what the machine and the process's control groups have, and have left.
func memory() (free, total int64) {
	free, total = machineMemory("/proc/meminfo")
	group, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return free, total
	}
	return limitMemory("/sys/fs/cgroup", string(group), free, total)
}

// machineMemory reads MemAvailable and MemTotal.
func machineMemory(file string) (free, total int64) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemAvailable:":
			free = n << 10
		case "MemTotal:":
			total = n << 10
		}
	}
	return free, total
}

// limitMemory applies the limits of the control group that group (the text of /proc/self/cgroup) names, and of those
// around it. It reads version 2 and the memory controller of version 1.
func limitMemory(root, group string, free, total int64) (int64, int64) {
	for line := range strings.Lines(group) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base, max, now, cached := root, "memory.max", "memory.current", "inactive_file"
		switch {
		case parts[0] == "0" && parts[1] == "":
		case parts[1] == "memory":
			base, max, now = root+"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
			cached = "total_inactive_file"
		default:
			continue
		}
		for dir := range outwards(parts[2]) {
			limit, ok := readCount(base + dir + "/" + max)
			if ok && limit < total {
				used, _ := readCount(base + dir + "/" + now)
				// Cached file pages are given up when memory is short.
				left := limit - used + readStat(base+dir+"/memory.stat", cached)
				total, free = limit, min(free, clamp(left, 0, limit))
			}
		}
	}
	return free, total
}

// outwards yields the folder of a control group and those around it. Inside a container it may be one that only the host
// sees; the root, which comes last, is the container's own.
func outwards(group string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for dir := path.Clean("/" + group); yield(dir) && dir != "/"; dir = path.Dir(dir) {
		}
	}
}

func clamp(v, low, high int64) int64 { return max(low, min(v, high)) }

// readCount reads a file that holds one number; "max" and what is absent are not ok.
func readCount(file string) (int64, bool) {
	n, err := strconv.ParseInt(readText(file), 10, 64)
	return n, err == nil
}

// readText returns what a file holds, without the space around it, or nothing.
func readText(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// readStat returns the number after key in a file of such lines, or 0.
func readStat(file, key string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == key {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}
