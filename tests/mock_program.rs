//! The mock cluster as a program: `cargo run --example mock-cluster`.

#![allow(clippy::disallowed_methods, reason = "tests have clocks")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use milena::{Client, OffsetReset, Record, TopicPartition};

/// Cargo builds the examples before it runs tests, beside them.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/mock-cluster");
    assert!(path.exists(), "{} is not built: cargo build --example mock-cluster", path.display());
    path
}

struct Running {
    child: Child,
    bootstrap: Vec<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let addresses = line.trim_end().strip_prefix("KAFKA_BOOTSTRAP=").expect("one line that says where it serves");
        let bootstrap = addresses.split(',').map(str::to_owned).collect();
        Self { child, bootstrap }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, and what it said in the end.
    fn wait(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        for address in &self.bootstrap {
            assert!(TcpStream::connect(address).is_err(), "{address} is still open");
        }
        (status, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended, unless the test failed
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test]
async fn serves_until_it_is_told_to_stop() {
    for signal in ["-INT", "-TERM"] {
        let cluster = Running::start(&["--brokers", "3", "--topic", "orders:6", "--release", "3.9"]);
        assert_eq!(cluster.bootstrap.len(), 3);
        let client = Client::builder(&cluster.bootstrap).connect().await.unwrap();
        let topics = client.admin().describe_topics(["orders"]).await.unwrap();
        assert_eq!(topics[0].partitions.len(), 6);
        let producer = client.producer().build().unwrap();
        let sent = producer.send(Record::to("orders").value("x")).await.unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign([TopicPartition::new("orders", sent.partition)]).unwrap();
        assert_eq!(consumer.recv().await.unwrap().value(), Some(&b"x"[..]));
        // Connections are open, and a fetch waits: neither holds it up.
        cluster.signal(signal);
        let (status, said) = cluster.wait();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{signal}");
    }
}

#[test]
fn standard_input_may_own_it() {
    let mut cluster = Running::start(&["--until-stdin-closes"]);
    cluster.child.stdin.as_mut().unwrap().write_all(b"not yet\n").unwrap();
    TcpStream::connect(&cluster.bootstrap[0]).unwrap();
    drop(cluster.child.stdin.take());
    assert_eq!(cluster.wait().0.code(), Some(0));
    // Without the option, its end means nothing; and a signal stops it with the option, too.
    for (arguments, ends) in [(&["--brokers", "1"][..], true), (&["--until-stdin-closes"], false)] {
        let mut cluster = Running::start(arguments);
        if ends {
            drop(cluster.child.stdin.take());
            std::thread::sleep(Duration::from_millis(50));
        }
        TcpStream::connect(&cluster.bootstrap[0]).unwrap();
        cluster.signal("-TERM");
        assert_eq!(cluster.wait().0.code(), Some(0));
    }
}

#[test]
fn ports_and_hosts_are_chosen() {
    // A port that is free now, with the next one.
    let first = loop {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < u16::MAX && std::net::TcpListener::bind(("0.0.0.0", port + 1)).is_ok() {
            break port;
        }
    };
    let port = first.to_string();
    let cluster = Running::start(&["--brokers", "2", "--port", &port, "--host", "0.0.0.0", "--advertise", "localhost"]);
    assert_eq!(cluster.bootstrap, [format!("localhost:{first}"), format!("localhost:{}", first + 1)]);
    TcpStream::connect(("127.0.0.1", first + 1)).unwrap();
    let (code, said) = run(&["--port", &port]);
    assert_eq!(code, Some(101));
    assert!(
        said.starts_with(&format!("mock-cluster: the mock cluster cannot listen on 127.0.0.1:{first}: ")),
        "{said}"
    );
    cluster.signal("-TERM");
    assert_eq!(cluster.wait().0.code(), Some(0));
}

#[test]
fn arguments_are_checked() {
    let (code, said) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for option in ["--brokers", "--port", "--host", "--advertise", "--topic", "--auto-create", "--release"] {
        assert!(said.contains(option), "{option} is not explained");
    }
    for (arguments, message) in [
        (&["--brokers", "0"][..], "--brokers takes a number from 1 to 1000, not '0'"),
        (&["--port"], "--port lacks its value"),
        (&["--port", "70000"], "--port takes a number from 0 to 65535, not '70000'"),
        (&["--topic", "orders:x"], "--topic NAME:N takes a number from 1 to 10000, not 'x'"),
        (&["--release", "1.0"], "--release takes one of 2.1, 2.8, 3.9, 4.0, 4.1, not '1.0'"),
        (&["orders"], "there is no option orders"),
    ] {
        assert_eq!(run(arguments), (Some(2), format!("mock-cluster: {message} (see --help)\n")));
    }
    let (code, said) = run(&["--topic", "a b"]);
    assert_eq!(code, Some(101));
    assert!(said.starts_with("mock-cluster: the topic a b cannot be created: "), "{said}");
}

/// The first client that others wrote: librdkafka's tool, if it is there. `MILENA_REQUIRE_KCAT=1` makes its absence a
/// failure.
#[test]
fn kcat_lists_produces_and_consumes() {
    if let Err(error) = Command::new("kcat").arg("-V").output() {
        let required = std::env::var_os("MILENA_REQUIRE_KCAT").is_some_and(|value| value == "1");
        assert!(!required, "kcat is missing (Debian: apt-get install kcat): {error}");
        return;
    }
    let cluster = Running::start(&["--topic", "orders:2"]);
    let kcat = |arguments: &[&str], input: &str| {
        let mut child = Command::new("kcat")
            .args(["-b", &cluster.bootstrap[0]])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = kcat(&["-L"], "");
    assert!(listed.contains("topic \"orders\" with 2 partitions"), "{listed}");
    kcat(&["-P", "-t", "orders", "-p", "1", "-K:", "-X", "enable.idempotence=true"], "a:1\nb:2\n");
    assert_eq!(kcat(&["-C", "-t", "orders", "-p", "1", "-o", "beginning", "-e", "-q", "-K:"], ""), "a:1\nb:2\n");
    cluster.signal("-TERM");
    assert_eq!(cluster.wait().0.code(), Some(0));
}
