package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Counts time and CPU from its start.
type clock struct {
	start, first time.Time
	cpu          float64
}

func cpuSeconds() float64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(r.Utime) + seconds(r.Stime)
}

// A number of a file like /proc/self/status.
func field(path, name string) uint64 {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			number, _ := strconv.ParseUint(words[1], 10, 64)
			return number
		}
	}
	return 0
}

func peakMb() float64 { return float64(field("/proc/self/status", "VmHWM:")) / 1024 }

func startClock() clock { return clock{start: time.Now(), cpu: cpuSeconds()} }

// Told with every batch of records: the steady rate counts from the first.
func (c *clock) came() {
	if c.first.IsZero() {
		c.first = time.Now()
	}
}

func print(line map[string]any) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func (c clock) report(mode string, n uint64, bytes uint64) {
	seconds := time.Since(c.start).Seconds()
	steady := seconds
	if !c.first.IsZero() {
		steady = time.Since(c.first).Seconds()
	}
	print(map[string]any{"peer": "franz-go", "mode": mode, "records": n, "secs": seconds,
		"krec_s": float64(n) / seconds / 1e3, "steady_krec_s": float64(n) / steady / 1e3,
		"mb_s": float64(bytes) / seconds / 1e6, "cpu_ns_rec": (cpuSeconds() - c.cpu) * 1e9 / float64(n), "peak_mb": peakMb()})
}

func (c clock) reportLatency(mode string, us []float64) {
	cpu := cpuSeconds() - c.cpu
	sort.Float64s(us)
	at := func(part float64) float64 { return us[int(float64(len(us)-1)*part)] }
	print(map[string]any{"peer": "franz-go", "mode": mode, "records": len(us), "rate": *rate, "p50_us": at(.5),
		"p95_us": at(.95), "p99_us": at(.99), "p999_us": at(.999), "max_us": at(1),
		"cpu_ns_rec": cpu * 1e9 / float64(len(us)), "peak_mb": peakMb()})
}

// A wake-up is a voluntary context switch of any thread of the process.
func wakes() (sum uint64) {
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, path := range tasks {
		sum += field(path, "voluntary_ctxt_switches:")
	}
	return sum
}

// The TCP connections that are established: those of this process among the machine's.
func connections() (count int) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	ours := map[string]bool{}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "socket:[") {
			ours[strings.Trim(to, "socket:[]")] = true
		}
	}
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, _ := os.ReadFile(path)
		for line := range strings.Lines(string(table)) {
			// Columns: sl, addresses, state (01 is established), queues, timer, retransmits, uid, timeout, inode.
			if columns := strings.Fields(line); len(columns) > 9 && columns[3] == "01" && ours[columns[9]] {
				count++
			}
		}
	}
	return count
}

func watchIdle(mode string, wait func(context.Context)) {
	doNothing := func(seconds int) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
		defer cancel()
		wait(ctx)
		// It may have had something else to tell.
		<-ctx.Done()
	}
	doNothing(2)
	before, cpu := wakes(), cpuSeconds()
	doNothing(*idleFor)
	seconds, count := float64(*idleFor), connections()
	rate := float64(wakes()-before) / seconds
	print(map[string]any{"peer": "franz-go", "mode": mode, "secs": seconds, "wakes_s": rate, "connections": count,
		"wakes_s_connection": rate / float64(max(count, 1)), "cpu_us_s": (cpuSeconds() - cpu) * 1e6 / seconds, "peak_mb": peakMb()})
}
