//! Brokers die while records go in: is what callers were told true? `scripts/chaos --help` runs it on real brokers.
//!
//! `cargo test --test chaos` tries the judge itself, and a short run on the mock cluster.
#![allow(clippy::print_stdout, reason = "a test program reports")]
#![allow(clippy::disallowed_methods, reason = "it reads clocks and spawns")]

mod cluster;
mod group;
#[path = "../judge/records.rs"]
mod judge;
mod judge_tests;
mod proxy;
mod reader;
mod run;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cluster::Cluster;
use group::Program;
use group::member::Way;
use libtest_mimic::{Arguments, Trial};
use milena::mock::MockCluster;
use proxy::Proxy;
use run::{Fault, Plan};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "run" => chaos(rest),
        Some((command, rest)) if command == "members" => members(rest),
        // What a run of members starts.
        Some((command, rest)) if command == "member" => group::member::main(rest),
        _ => tests(),
    }
}

fn tests() -> ExitCode {
    macro_rules! trials {
        ($($test:ident)*) => {
            vec![$(Trial::test(concat!("judge::", stringify!($test)), || { judge_tests::$test(); Ok(()) }),)*]
        };
    }
    let mut trials = trials! {
        a_history_without_faults_is_clean
        every_fault_of_a_history_is_found
        every_fault_of_a_reader_is_found
        what_the_terms_allow_is_no_fault_and_no_more
    };
    macro_rules! group_trials {
        ($($test:ident)*) => {
            [$(Trial::test(concat!("groups::", stringify!($test)), || { group::judge_tests::$test(); Ok(()) }),)*]
        };
    }
    trials.extend(group_trials! {
        a_group_that_keeps_its_promises_is_clean
        every_fault_of_a_group_is_found
        times_are_of_partitions_that_move_and_of_those_that_stay
    });
    for (way, fault) in [(Way::Cooperative, group::Fault::Churn), (Way::Broker, group::Fault::Stop)] {
        let name = format!("mock::members_{}_{}", way.name(), fault.name());
        trials.push(Trial::test(name, move || members_on_the_mock(way, fault)));
    }
    for (name, faults) in [("kills", Fault::Kill), ("freezes", Fault::Freeze)] {
        trials.push(Trial::test(format!("mock::{name}"), move || on_the_mock(faults)));
    }
    if cfg!(target_os = "linux") {
        // Elsewhere the one loopback address has to be given others first.
        trials.push(Trial::test("mock::cuts", cuts_on_the_mock));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn on_the_mock(faults: Fault) -> Result<(), libtest_mimic::Failed> {
    let plan = Plan {
        faults,
        records: 20_000,
        rate: 4_000,
        away: (SECOND / 5, SECOND),
        frozen: (SECOND / 5, SECOND),
        rest: SECOND,
        with_kcat: false,
        ..plan_of("etl").expect("it is one")
    };
    let report = runtime().block_on(async {
        let cluster = Cluster::Mock(MockCluster::builder().brokers(3).start().await);
        run::run(Arc::new(cluster), None, plan).await
    });
    println!("{}", report.text);
    if report.verdict.is_clean() && report.faults > 0 { Ok(()) } else { Err("see above".into()) }
}

/// Brokers say that they are at another loopback address, where the proxy is, on the same ports.
fn cuts_on_the_mock() -> Result<(), libtest_mimic::Failed> {
    let plan =
        Plan { duration: 5 * SECOND, request_timeout: SECOND, with_kcat: false, ..plan_of("cut").expect("it is one") };
    let report = runtime().block_on(async {
        let cluster = MockCluster::builder().brokers(3).advertised_host("127.0.0.2").start().await;
        let places = cluster.bootstrap().into_iter().map(|told| (told.clone(), told.replace("127.0.0.2", "127.0.0.1")));
        let proxy = Proxy::start(places.collect(), plan.seed).await;
        run::run(Arc::new(Cluster::Mock(cluster)), Some(proxy), plan).await
    });
    println!("{}", report.text);
    if report.verdict.is_clean() && report.faults >= 10 { Ok(()) } else { Err("see above".into()) }
}

/// What `scripts/chaos` prepares: ports that brokers advertise, and where they are.
async fn proxy_from_environment(seed: u64) -> Result<Arc<Proxy>, String> {
    let variable =
        |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: run this by scripts/chaos"));
    let (ports, brokers) = (variable("CHAOS_PORTS")?, variable("KAFKA_CUT")?);
    let places = ports.split(',').zip(brokers.split(','));
    let places = places.map(|(port, broker)| (format!("127.0.0.1:{port}"), broker.to_owned()));
    Ok(Proxy::start(places.collect(), seed).await)
}

fn members_on_the_mock(way: Way, fault: group::Fault) -> Result<(), libtest_mimic::Failed> {
    // Of the classic protocol brokers take no session below six seconds. Under KIP-848 a member does not know how long its
    // session is: one that gets no processor for as long is taken for dead, and has not heard of it.
    let session = if way == Way::Broker { 4 * SECOND } else { 6 * SECOND };
    let heartbeat = SECOND / 5;
    let plan = group::Plan { session, heartbeat, comers: 2, ..group::Plan::new(fault, way) };
    let report = runtime().block_on(async {
        let builder = MockCluster::builder().brokers(3).consumer_session_timeout(session);
        let cluster = Cluster::Mock(builder.consumer_heartbeat_interval(heartbeat).start().await);
        group::run(Arc::new(cluster), &plan).await
    });
    println!("{}", report.text);
    if report.verdict.is_clean() && report.verdict.commits > 0 { Ok(()) } else { Err("see above".into()) }
}

/// `scripts/chaos members`: every fault in every way, or those that are named; the last argument may be a program of
/// franz-go's to stand beside.
fn members(arguments: &[String]) -> ExitCode {
    let (mut ways, mut faults, mut peers, mut history) = (Vec::new(), Vec::new(), None, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--history" {
            history = arguments.next().cloned();
            continue;
        }
        match (Way::named(argument), group::Fault::named(argument), argument.strip_prefix("--peers=")) {
            (Some(way), ..) => ways.push(way),
            (_, Some(fault), _) => faults.push(fault),
            (.., Some(franz)) => peers = Some(vec![Program::Ours, Program::Kcat, Program::FranzGo(franz.into())]),
            _ => {
                println!("there is no way or fault '{argument}': see scripts/chaos --help");
                return ExitCode::from(2);
            }
        }
    }
    if ways.is_empty() {
        // What all of them know.
        ways = if peers.is_some() { vec![Way::Cooperative] } else { Way::ALL.to_vec() };
    }
    if faults.is_empty() {
        use group::Fault::{Coordinator, Kill};
        faults = if peers.is_some() { vec![Kill, Coordinator] } else { group::Fault::ALL.to_vec() };
    }
    let cluster = match Cluster::from_environment() {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            println!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut is_clean = true;
    for (fault, way) in faults.iter().flat_map(|fault| ways.iter().map(move |way| (*fault, *way))) {
        for program in peers.clone().unwrap_or_else(|| vec![Program::Ours]) {
            let plan = group::Plan { program, history: history.clone(), ..group::Plan::new(fault, way) };
            let report = runtime().block_on(group::run(Arc::clone(&cluster), &plan));
            println!("{}", report.text);
            is_clean &= plan.program != Program::Ours || report.verdict.is_clean();
        }
    }
    println!("members: {}", if is_clean { "clean" } else { "NOT CLEAN" });
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn plan_of(mode: &str) -> Option<Plan> {
    let plan = Plan {
        faults: Fault::Kill,
        records: usize::MAX,
        duration: 3_600 * SECOND,
        rate: 4_000,
        delivery_timeout: 120 * SECOND,
        request_timeout: 30 * SECOND,
        away: (7 * SECOND, 10 * SECOND),
        frozen: (2 * SECOND, 12 * SECOND),
        rest: 2 * SECOND,
        seed: 1,
        must_arrive: true,
        with_kcat: true,
        history: None,
    };
    Some(match mode {
        "etl" => Plan { records: 500_000, ..plan },
        "short" => {
            let (duration, delivery_timeout, request_timeout) = (120 * SECOND, 4 * SECOND, 3 * SECOND);
            Plan { faults: Fault::Both, duration, delivery_timeout, request_timeout, must_arrive: false, ..plan }
        }
        "kill-loop" => Plan { duration: 600 * SECOND, rate: 2_000, away: (Duration::ZERO, 8 * SECOND), ..plan },
        "cut" => Plan { faults: Fault::Cut, duration: 120 * SECOND, request_timeout: 3 * SECOND, ..plan },
        "freeze" => Plan { faults: Fault::Freeze, duration: 120 * SECOND, ..plan },
        _ => return None,
    })
}

fn chaos(arguments: &[String]) -> ExitCode {
    let mut arguments = arguments.iter().map(String::as_str);
    let mode = arguments.next().unwrap_or_default();
    let Some(mut plan) = plan_of(mode) else {
        println!("there is no mode '{mode}': see scripts/chaos --help");
        return ExitCode::from(2);
    };
    while let Some(option) = arguments.next() {
        if option == "--history" {
            plan.history = arguments.next().map(str::to_owned);
            continue;
        }
        let Some(number) = arguments.next().and_then(|text| text.parse::<u64>().ok()) else {
            println!("{option} wants a number: see scripts/chaos --help");
            return ExitCode::from(2);
        };
        match option {
            "--records" => plan.records = number as usize,
            "--seconds" => plan.duration = SECOND * number as u32,
            "--minutes" => plan.duration = 60 * SECOND * number as u32,
            "--rate" => plan.rate = number,
            "--seed" => plan.seed = number,
            "--away" => plan.away = (SECOND * number as u32, SECOND * (number as u32 + 2)),
            _ => {
                println!("there is no option {option}: see scripts/chaos --help");
                return ExitCode::from(2);
            }
        }
    }
    let cluster = match Cluster::from_environment() {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            println!("{error}");
            return ExitCode::from(2);
        }
    };
    println!("{mode}: {plan:?}");
    let report = runtime().block_on(async {
        let proxy = match plan.faults {
            Fault::Cut => Some(proxy_from_environment(plan.seed).await?),
            _ => None,
        };
        Ok::<_, String>(run::run(cluster, proxy, plan).await)
    });
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(2);
        }
    };
    println!("{mode}:\n{}", report.text);
    let middle = report.recoveries.get(report.recoveries.len() / 2);
    println!("{mode}: {}, median recovery {middle:?}", if report.verdict.is_clean() { "clean" } else { "NOT CLEAN" });
    if report.verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
