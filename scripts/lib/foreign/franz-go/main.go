// What franz-go sees of a cluster; `scripts/foreign-clients` compares it between clusters.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "franz-go"

func say(what string, answer any) { fmt.Printf("%s: %v\n", what, answer) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func name(err error) string {
	var known *kerr.Error
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &known):
		return known.Message
	default:
		return err.Error()
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	seeds := kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BOOTSTRAP"), ",")...)
	opened, err := kgo.NewClient(append(options, seeds)...)
	check(err)
	return opened
}

func topics(ctx context.Context) {
	connection := client()
	defer connection.Close()
	admin := kadm.NewClient(connection)
	created, err := admin.CreateTopic(ctx, 3, 1, nil, topic)
	check(err)
	say("create", name(created.Err))
	_, err = admin.CreateTopic(ctx, 3, 1, nil, topic)
	say("create again", name(err))
	_, err = admin.CreateTopic(ctx, 1, 100, nil, "replicas")
	say("create with too many replicas", name(err))
	_, err = admin.CreateTopic(ctx, 1, 1, nil, "a b")
	say("create with a wrong name", name(err))
	check(func() error { _, err := admin.CreateTopic(ctx, 1, 1, nil, topic+"-gone"); return err }())
	grown, err := admin.UpdatePartitions(ctx, 3, topic+"-gone")
	check(err)
	say("add partitions", name(grown[topic+"-gone"].Err))
	time.Sleep(time.Second) // a real broker hears of its leaderships later than the client of its topics
	listed, err := admin.ListTopics(ctx, topic, topic+"-gone", "franz-missing")
	check(err)
	for _, detail := range listed.Sorted() {
		say("listed", fmt.Sprint(detail.Topic, " ", name(detail.Err), " ", detail.IsInternal, " ", len(detail.Partitions)))
		for _, partition := range detail.Partitions.Sorted() {
			say("partition", fmt.Sprint(partition.Partition, partition.Leader, partition.LeaderEpoch, partition.Replicas, partition.ISR))
		}
	}
	deleted, err := admin.DeleteTopics(ctx, topic+"-gone")
	check(err)
	say("delete", name(deleted[topic+"-gone"].Err))
	deleted, err = admin.DeleteTopics(ctx, topic+"-gone")
	check(err)
	say("delete again", name(deleted[topic+"-gone"].Err))
}

func produce(ctx context.Context) {
	codecs := []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
	}
	for _, codec := range codecs {
		for _, idempotent := range []bool{false, true} {
			options := []kgo.Opt{
				kgo.ProducerBatchCompression(codec.codec), kgo.RecordPartitioner(kgo.ManualPartitioner()),
				kgo.ProducerLinger(20 * time.Millisecond),
			}
			if !idempotent {
				options = append(options, kgo.DisableIdempotentWrite())
			}
			producer := client(options...)
			var records []*kgo.Record
			for n := range 20 {
				records = append(records, &kgo.Record{
					Topic: topic, Partition: 0, Key: []byte(fmt.Sprint("key-", n)),
					Value:     []byte(strings.Repeat(fmt.Sprint(codec.name, " ", n), 20)),
					Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n)),
					Headers:   []kgo.RecordHeader{{Key: "first", Value: []byte("1")}, {Key: "second"}, {Key: "first"}},
				})
			}
			records = append(records, &kgo.Record{Topic: topic, Partition: 1, Key: []byte("tombstone")})
			records = append(records, &kgo.Record{Topic: topic, Partition: 1, Value: []byte{}})
			var placed []string
			for _, result := range producer.ProduceSync(ctx, records...) {
				check(result.Err)
				placed = append(placed, fmt.Sprint(result.Record.Partition, "@", result.Record.Offset))
			}
			sort.Strings(placed)
			say(fmt.Sprint("produced ", codec.name, ", idempotent ", idempotent), placed)
			producer.Close()
		}
	}
	producer := client(kgo.ProducerBatchMaxBytes(3_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	large := &kgo.Record{Topic: topic, Value: []byte(strings.Repeat("x", 2_000_000))}
	say("produce too much", name(producer.ProduceSync(ctx, large).FirstErr()))
	producer.Close()
}

func consume(ctx context.Context) {
	start := kgo.NewOffset().AtStart()
	consumer := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: start, 1: start, 2: start}}))
	defer consumer.Close()
	var lines []string
	for len(lines) < 220 {
		fetches := consumer.PollFetches(ctx)
		check(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			at := "now"
			if r.Partition == 0 {
				at = fmt.Sprint(r.Timestamp.UnixMilli())
			}
			lines = append(lines, fmt.Sprintf("%d@%03d epoch %d: %s %q %v %s", r.Partition, r.Offset, r.LeaderEpoch, r.Key,
				r.Value[:min(30, len(r.Value))], r.Headers, at))
		})
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	admin := kadm.NewClient(consumer)
	ends, err := admin.ListEndOffsets(ctx, topic)
	check(err)
	for partition := range int32(3) {
		end, _ := ends.Lookup(topic, partition)
		say("end", fmt.Sprint(partition, "@", end.Offset, " ", end.LeaderEpoch))
	}
	times, err := admin.ListOffsetsAfterMilli(ctx, 1_700_000_000_005, topic)
	check(err)
	say("by time", func() int64 { found, _ := times.Lookup(topic, 0); return found.Offset }())
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 7, -1)
	offsets.AddOffset(topic, 1, 20, -1)
	offsets.AddOffset(topic, 9, 1, -1)
	committed, err := admin.CommitOffsets(ctx, topic, offsets)
	check(err)
	for _, partition := range committed.Sorted() {
		say("commit", fmt.Sprint(partition.Partition, "@", partition.At, " ", name(partition.Err)))
	}
	fetched, err := admin.FetchOffsets(ctx, topic)
	check(err)
	for _, partition := range fetched.Sorted() {
		say("committed", fmt.Sprint(partition.Partition, "@", partition.At, " ", partition.Metadata, " ", name(partition.Err)))
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topics(ctx)
	produce(ctx)
	consume(ctx)
}
