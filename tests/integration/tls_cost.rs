//! What TLS costs a producer.

use cpu_time::ProcessTime;
use milena::{Client, Record, Tls};

use crate::cluster::Cluster;

const SIZE: usize = 1024;
const ROUNDS: usize = 5;

/// The same records over plaintext and over TLS in turn, each acknowledged by the broker: the ratio of the medians of client
/// CPU per record. Bounded in release alone: unoptimised cryptography says nothing.
pub async fn produce_over_tls_costs_at_most_half_more(cluster: Cluster) {
    let records = if cfg!(debug_assertions) { 5_000 } else { 200_000 };
    let listener = |name: &str| std::env::var(name).unwrap();
    let tls = Tls::new().ca_file(format!("{}/ca.pem", listener("KAFKA_SECRETS")));
    let plain = Client::builder([listener("KAFKA_BOOTSTRAP")]).connect().await.unwrap();
    let secure = Client::builder([listener("KAFKA_SSL")]).tls(tls).connect().await.unwrap();
    let topic = cluster.topic(&plain, 3).await;
    let value: Vec<u8> = (0..SIZE).map(|n| (n * 7919 % 251) as u8).collect();
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (client, costs) in [&plain, &secure].into_iter().zip(&mut costs) {
            let producer = client.producer().build().unwrap();
            producer.send(Record::to(&topic).value("connects")).await.unwrap();
            let start = ProcessTime::now();
            let mut receipts = Vec::with_capacity(records);
            for _ in 0..records {
                receipts.push(producer.enqueue(Record::to(&topic).value(&value)).await.unwrap());
            }
            for receipt in receipts {
                receipt.await.unwrap();
            }
            // The first round warms up.
            if round > 0 {
                costs.push(start.elapsed().as_secs_f64() * 1e6 / records as f64);
            }
        }
    }
    let [plain, secure] = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[ROUNDS / 2]
    });
    let ratio = secure / plain;
    let build = if cfg!(debug_assertions) { "a debug build, for figures use --release" } else { "release" };
    println!("{SIZE} B: {plain:.3} µs of client CPU per record, over TLS {secure:.3} µs: {ratio:.2} times ({build})");
    assert!(cfg!(debug_assertions) || ratio <= 1.5, "{ratio:.2}");
}
