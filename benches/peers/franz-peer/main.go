// franz-go beside the Rust peers: same flags, same payloads, same JSON line.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const warmUp = 200

var (
	flags      = flag.NewFlagSet("peer", flag.ExitOnError)
	bootstrap  = flags.String("bootstrap", "127.0.0.1:9092", "")
	topic      = flags.String("topic", "bench", "")
	partitions = flags.Uint64("partitions", 6, "")
	records    = flags.Uint64("records", 1000000, "")
	size       = flags.Int("size", 100, "")
	codec      = flags.String("codec", "none", "")
	linger     = flags.Int("linger-ms", 5, "")
	batch      = flags.Int("batch", 128*1024, "")
	rate       = flags.Int("rate", 1000, "")
	acks       = flags.String("acks", "all", "")
	keyed      = flags.String("keyed", "false", "")
	random     = flags.String("random", "false", "")
	defaults   = flags.String("defaults", "false", "")
	idempotent = flags.String("idempotent", "true", "")
	tasks      = flags.Uint64("tasks", 1, "")
	threads    = flags.Int("threads", 2, "")
)

func usage() (cpu float64, maxRssMb float64) {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(r.Utime) + seconds(r.Stime), float64(r.Maxrss) / 1024
}

type clock struct {
	start time.Time
	cpu   float64
}

func startClock() clock {
	cpu, _ := usage()
	return clock{time.Now(), cpu}
}

func (c clock) report(mode string, n uint64, bytes uint64, more map[string]any) {
	seconds := time.Since(c.start).Seconds()
	cpu, rss := usage()
	line := map[string]any{"peer": "franz-go", "mode": mode, "records": n, "secs": seconds,
		"krec_s": float64(n) / seconds / 1e3, "mb_s": float64(bytes) / seconds / 1e6,
		"cpu_ns_rec": (cpu - c.cpu) * 1e9 / float64(n), "maxrss_mb": rss}
	for k, v := range more {
		line[k] = v
	}
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

// splitmix64, as in common/src/lib.rs.
func scramble(i uint64) uint64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// The same generator and the same order of draws as the Rust programs, so the payloads are the same bytes.
func payloads() [][]byte {
	seed := uint64(0x9E3779B97F4A7C15)
	next := func() uint64 { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed }
	out := make([][]byte, 1024)
	for i := range out {
		s := fmt.Sprintf("{\"id\":%d,\"user\":\"user-%d\",\"ts\":%d,\"event\":\"page_view\",\"path\":\"/item/%d\",\"ref\":\"%016x\"",
			i*7919, next()%5000, 1700000000000+next()%1000000, next()%20000, next())
		for len(s)+1 < *size {
			s += fmt.Sprintf(",\"f%d\":%d", next()%30, next()%100000)
		}
		b := []byte(s)
		for len(b) < *size {
			b = append(b, ' ')
		}
		b = b[:*size]
		if len(b) > 0 {
			b[len(b)-1] = '}'
		}
		out[i] = b
	}
	return out
}

func producer(mode string) *kgo.Client {
	options := []kgo.Opt{kgo.SeedBrokers(*bootstrap), kgo.DefaultProduceTopic(*topic)}
	if *keyed != "true" {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if *defaults != "true" {
		codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(),
			"zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression()}
		wait := time.Duration(*linger) * time.Millisecond
		if mode == "latency" {
			wait = 0
		}
		options = append(options, kgo.ProducerBatchCompression(codecs[*codec]), kgo.ProducerLinger(wait),
			kgo.ProducerBatchMaxBytes(int32(*batch)), kgo.MaxBufferedRecords(500000))
		if *acks != "all" {
			wanted := map[string]kgo.Acks{"1": kgo.LeaderAck(), "0": kgo.NoAck()}[*acks]
			options = append(options, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(wanted))
		} else if *idempotent != "true" {
			options = append(options, kgo.DisableIdempotentWrite())
		}
	}
	client, err := kgo.NewClient(options...)
	if err == nil {
		err = client.Ping(context.Background())
	}
	if err != nil {
		panic(err)
	}
	return client
}

func record(value []byte, i uint64, partition int32) *kgo.Record {
	if *keyed == "true" {
		return &kgo.Record{Key: binary.BigEndian.AppendUint64(nil, i), Value: value}
	}
	return &kgo.Record{Value: value, Partition: partition}
}

func produce() {
	client, values := producer("produce"), payloads()
	clock := startClock()
	var failed atomic.Uint64
	var waiting sync.WaitGroup
	var senders sync.WaitGroup
	first := uint64(0)
	for task := uint64(0); task < *tasks; task++ {
		share := *records / *tasks
		if task < *records%*tasks {
			share++
		}
		senders.Add(1)
		waiting.Add(int(share))
		go func(first uint64) {
			defer senders.Done()
			for i := first; i < first+share; i++ {
				n := i / 1000
				if *random == "true" {
					n = scramble(i)
				}
				client.Produce(context.Background(), record(values[i%uint64(len(values))], i, int32(n%*partitions)),
					func(_ *kgo.Record, err error) {
						if err != nil {
							failed.Add(1)
						}
						waiting.Done()
					})
			}
		}(first)
		first += share
	}
	senders.Wait()
	waiting.Wait()
	if failed.Load() > 0 {
		panic(fmt.Sprintf("%d records failed", failed.Load()))
	}
	clock.report("produce", *records, *records*uint64(*size), nil)
}

func consume() {
	offsets := map[int32]kgo.Offset{}
	for p := int32(0); p < int32(*partitions); p++ {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	clock := startClock()
	client, err := kgo.NewClient(kgo.SeedBrokers(*bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{*topic: offsets}))
	if err != nil {
		panic(err)
	}
	var n, bytes, sum uint64
	for n < *records {
		client.PollFetches(context.Background()).EachRecord(func(r *kgo.Record) {
			n++
			bytes += uint64(len(r.Value))
			sum += uint64(r.Value[len(r.Value)/2])
		})
	}
	runtime.KeepAlive(sum)
	clock.report("consume", n, bytes, nil)
}

func latency() {
	client, values := producer("latency"), payloads()
	var lock sync.Mutex
	us := make([]float64, 0, *records)
	var waiting sync.WaitGroup
	start := time.Now()
	clock := startClock()
	for i := uint64(0); i < *records+warmUp; i++ {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(*rate))
		time.Sleep(time.Until(due))
		if i == warmUp {
			clock = startClock()
		}
		waiting.Add(1)
		begun := time.Now()
		client.Produce(context.Background(), record(values[i%uint64(len(values))], i, int32(i%*partitions)),
			func(_ *kgo.Record, err error) {
				if err != nil {
					panic(err)
				}
				if i >= warmUp {
					lock.Lock()
					us = append(us, float64(time.Since(begun).Microseconds()))
					lock.Unlock()
				}
				waiting.Done()
			})
	}
	waiting.Wait()
	sort.Float64s(us)
	at := func(part float64) float64 { return us[int(float64(len(us)-1)*part)] }
	clock.report("latency", *records, *records*uint64(*size), map[string]any{"rate": *rate, "p50_us": at(.5),
		"p95_us": at(.95), "p99_us": at(.99), "p999_us": at(.999), "max_us": at(1)})
}

func main() {
	modes := map[string]func(){"produce": produce, "consume": consume, "latency": latency}
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		panic("a mode: produce, consume or latency")
	}
	flags.Parse(os.Args[2:])
	runtime.GOMAXPROCS(*threads)
	modes[os.Args[1]]()
}
