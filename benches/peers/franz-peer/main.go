// franz-go beside the Rust peers: same flags, same payloads, same JSON line.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

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
	spread     = flags.String("spread", "runs", "")
	defaults   = flags.String("defaults", "false", "")
	idempotent = flags.String("idempotent", "true", "")
	tasks      = flags.Uint64("tasks", 1, "")
	threads    = flags.Int("threads", 2, "")
	inFlight   = flags.Int("in-flight", 0, "")
	buffer     = flags.Int("buffer", 256<<20, "")
	pollMax    = flags.Int("poll-max", 0, "")
	stall      = flags.Int("stall-secs", 0, "")
	idleFor    = flags.Int("idle-secs", 10, "")
	group      = flags.String("group", "bench", "")
	session    = flags.Int("session-ms", 6000, "")
	heartbeat  = flags.Int("heartbeat-ms", 1000, "")
	strategy   = flags.String("strategy", "cooperative-sticky", "")
	// It counts acknowledgements by callbacks in any case, and hands out fetches only.
	_ = flags.String("receipts", "true", "")
	_ = flags.String("one-by-one", "false", "")
)

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
	if mode != "produce" || (*keyed != "true" && *spread != "sticky") {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if *inFlight > 0 {
		options = append(options, kgo.MaxProduceRequestsInflightPerBroker(*inFlight))
	}
	if *defaults != "true" {
		codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(),
			"zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression()}
		wait := time.Duration(*linger) * time.Millisecond
		if mode == "latency" || mode == "end-to-end" {
			wait = 0
		}
		options = append(options, kgo.ProducerBatchCompression(codecs[*codec]), kgo.ProducerLinger(wait),
			kgo.ProducerBatchMaxBytes(int32(*batch)), kgo.MaxBufferedRecords(500000), kgo.MaxBufferedBytes(*buffer))
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
				if *spread == "random" {
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
	clock.report("produce", *records, *records*uint64(*size))
}

func consumer(from kgo.Offset) *kgo.Client {
	offsets := map[int32]kgo.Offset{}
	for p := int32(0); p < int32(*partitions); p++ {
		offsets[p] = from
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(*bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{*topic: offsets}))
	if err != nil {
		panic(err)
	}
	return client
}

// What came, all that is buffered or --poll-max records of it; panics after ten seconds without any.
func poll(client *kgo.Client) kgo.Fetches {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fetches := client.PollRecords(ctx, *pollMax)
	if err := fetches.Err0(); err != nil {
		panic(err)
	}
	return fetches
}

func consume() {
	clock := startClock()
	client := consumer(kgo.NewOffset().AtStart())
	var n, bytes, sum uint64
	wanted := *records
	if *stall > 0 {
		wanted = min(wanted, 1000)
	}
	for n < wanted {
		fetches := poll(client)
		clock.came()
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			bytes += uint64(len(r.Value))
			sum += uint64(r.Value[len(r.Value)/2])
		})
	}
	runtime.KeepAlive(sum)
	time.Sleep(time.Duration(*stall) * time.Second)
	clock.report("consume", n, bytes)
}

func pace(start time.Time, i uint64) {
	time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(*rate))))
}

func latency() {
	warmUp := uint64(*rate)
	client, values := producer("latency"), payloads()
	var lock sync.Mutex
	us := make([]float64, 0, *records)
	var waiting sync.WaitGroup
	start := time.Now()
	clock := startClock()
	for i := uint64(0); i < *records+warmUp; i++ {
		pace(start, i)
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
	clock.reportLatency("latency", us)
}

// From the call that enqueues a record until the consumer has handed it out. Two clients, as two programs would have.
func endToEnd() {
	warmUp := uint64(2 * *rate)
	values, origin := payloads(), time.Now()
	done := make(chan []float64)
	go func() {
		client := consumer(kgo.NewOffset().AtEnd())
		var us []float64
		for uint64(len(us)) < *records {
			poll(client).EachRecord(func(r *kgo.Record) {
				sent := time.Duration(binary.LittleEndian.Uint64(r.Value[8:]))
				if binary.LittleEndian.Uint64(r.Value) >= warmUp {
					us = append(us, float64((time.Since(origin) - sent).Microseconds()))
				}
			})
		}
		done <- us
	}()
	client := producer("end-to-end")
	start := time.Now()
	clock := startClock()
	for i := uint64(0); i < *records+warmUp; i++ {
		pace(start, i)
		if i == warmUp {
			clock = startClock()
		}
		value := append([]byte(nil), values[i%uint64(len(values))]...)
		binary.LittleEndian.PutUint64(value, i)
		binary.LittleEndian.PutUint64(value[8:], uint64(time.Since(origin)))
		client.Produce(context.Background(), &kgo.Record{Value: value, Partition: int32(i % *partitions)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					panic(err)
				}
			})
	}
	us := <-done
	clock.reportLatency("end-to-end", us)
}

func idleProduce() {
	client, values := producer("idle-produce"), payloads()
	for p := uint64(0); p < *partitions; p++ {
		if err := client.ProduceSync(context.Background(), &kgo.Record{Value: values[0], Partition: int32(p)}).FirstErr(); err != nil {
			panic(err)
		}
	}
	watchIdle("idle-produce", func(ctx context.Context) { <-ctx.Done() })
}

func idleConsume() {
	client := consumer(kgo.NewOffset().AtStart())
	watchIdle("idle-consume", func(ctx context.Context) {
		if n := client.PollFetches(ctx).NumRecords(); n > 0 {
			panic(fmt.Sprintf("%d records came", n))
		}
	})
}

// A member of a group, for scripts/chaos: says what it has read, a line each, and commits every 100 ms. SIGTERM makes it leave.
func member() {
	balancer := map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer()}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(*bootstrap, ",")...), kgo.ConsumerGroup(*group), kgo.ConsumeTopics(*topic),
		kgo.SessionTimeout(time.Duration(*session)*time.Millisecond),
		kgo.HeartbeatInterval(time.Duration(*heartbeat)*time.Millisecond),
		kgo.Balancers(balancer[*strategy]), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitInterval(100*time.Millisecond))
	if err != nil {
		panic(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		// Whoever started it is gone.
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { fmt.Printf("record %d %d\n", r.Partition, r.Offset) })
	}
	client.CommitUncommittedOffsets(context.Background())
	client.Close()
}

func main() {
	modes := map[string]func(){"member": member, "produce": produce, "latency": latency, "idle-produce": idleProduce, "consume": consume,
		"end-to-end": endToEnd, "idle-consume": idleConsume}
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		panic("a mode: produce, latency, consume, end-to-end, idle-produce or idle-consume")
	}
	flags.Parse(os.Args[2:])
	runtime.GOMAXPROCS(*threads)
	modes[os.Args[1]]()
}
