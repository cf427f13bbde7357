//! A mock cluster as a program of its own, for clients in other languages: `--help` tells how.
//!
//! ```text
//! cargo run --example mock-cluster -- --port 9092 --topic orders:6 --auto-create
//! KAFKA_BOOTSTRAP=127.0.0.1:9092
//! ```
#![allow(clippy::print_stdout, reason = "a program says where it serves")]
#![allow(clippy::print_stderr, reason = "and what is wrong with its arguments")]

use std::io::Read;
use std::process::ExitCode;

use milena::mock::{KafkaRelease, MockCluster, MockClusterBuilder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

const HELP: &str = "\
A Kafka cluster that lives in memory and in one process, for tests of clients in any language.

  cargo run --example mock-cluster -- [OPTIONS]

Once its brokers accept connections it prints one line, KAFKA_BOOTSTRAP=HOST:PORT,..., and serves until SIGINT or
SIGTERM, or until the end of its standard input with --until-stdin-closes. Then it closes every connection and port and
exits with 0; with 2 for arguments that it does not know, and 101 if it cannot serve or a broker has panicked. Nothing
is kept.

  --brokers N            how many brokers, with ids from 1 (default 1)
  --port P               port of the first broker, the others have the next ones (default 0: any free ports)
  --host H               address to listen on (default 127.0.0.1; 0.0.0.0 is every interface)
  --advertise H          host that clients are told to connect to (default: as --host; 127.0.0.1 for a wildcard)
  --topic NAME[:N]       create a topic with N partitions (default: as --partitions); may be repeated
  --partitions N         partitions of topics that are created without saying how many (default 1)
  --auto-create          create a topic when a client asks for it
  --release R            offer the API versions of this Kafka: 2.1, 2.8, 3.9, 4.0 or 4.1 (default: the newest)
  --until-stdin-closes   stop at the end of standard input too: a test that holds the other end of the pipe owns the
                         cluster, however the test ends
";

struct Arguments {
    builder: MockClusterBuilder,
    /// Names, with partitions if they are said.
    topics: Vec<(String, Option<usize>)>,
    partitions: usize,
    owned_by_stdin: bool,
}

/// What the arguments say; `None` if they ask for help.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let builder = MockCluster::builder();
    let mut parsed = Arguments { builder, topics: Vec::new(), partitions: 1, owned_by_stdin: false };
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{option} lacks its value"));
        let builder = parsed.builder.clone();
        match option.as_str() {
            "-h" | "--help" => return Ok(None),
            "--brokers" => parsed.builder = builder.brokers(number(&option, &value()?, 1..=1000)?),
            "--port" => parsed.builder = builder.port(number(&option, &value()?, 0..=u16::MAX)?),
            "--host" => parsed.builder = builder.host(value()?),
            "--advertise" => parsed.builder = builder.advertised_host(value()?),
            "--topic" => parsed.topics.push(topic(&value()?)?),
            "--partitions" => parsed.partitions = number(&option, &value()?, 1..=10_000)?,
            "--auto-create" => parsed.builder = builder.auto_create_topics(true),
            "--release" => parsed.builder = builder.release(release(&value()?)?),
            "--until-stdin-closes" => parsed.owned_by_stdin = true,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    parsed.builder = parsed.builder.default_partitions(parsed.partitions);
    Ok(Some(parsed))
}

fn number<N>(option: &str, text: &str, range: std::ops::RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let parsed = text.parse().ok().filter(|number| range.contains(number));
    parsed.ok_or_else(|| format!("{option} takes a number from {} to {}, not '{text}'", range.start(), range.end()))
}

fn topic(text: &str) -> Result<(String, Option<usize>), String> {
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((name, partitions)) => Ok((name.to_owned(), Some(number("--topic NAME:N", partitions, 1..=10_000)?))),
    }
}

fn release(text: &str) -> Result<KafkaRelease, String> {
    let known = KafkaRelease::ALL.iter().find(|release| release.to_string() == text);
    known.copied().ok_or_else(|| {
        let all: Vec<_> = KafkaRelease::ALL.iter().map(ToString::to_string).collect();
        format!("--release takes one of {}, not '{text}'", all.join(", "))
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("mock-cluster: {message} (see --help)");
            return ExitCode::from(2);
        }
    };
    // From here on, a signal that comes early is not lost.
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        eprintln!("mock-cluster: this system has no signals to stop by");
        return ExitCode::FAILURE;
    };
    // What the cluster cannot do, it says by a panic: a port that is taken, a topic that Kafka does not allow.
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        eprintln!("mock-cluster: {}", text.unwrap_or("a panic without a message"));
    }));
    let cluster = arguments.builder.start().await;
    for (name, partitions) in &arguments.topics {
        cluster.create_topic(name, partitions.unwrap_or(arguments.partitions));
    }
    println!("KAFKA_BOOTSTRAP={}", cluster.bootstrap().join(","));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = stdin_closes(), if arguments.owned_by_stdin => {}
    }
    cluster.close().await; // panics, so exits with 101, if a broker has
    ExitCode::SUCCESS
}

/// Resolves at the end of standard input. A thread of its own reads it: the runtime would wait for one of its own.
fn stdin_closes() -> oneshot::Receiver<()> {
    let (closed, closes) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        closed.send(())
    });
    closes
}
