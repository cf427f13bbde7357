//! One suite, two kinds of cluster: the mock, and a real Kafka.
//!
//! `cargo test --test integration` runs it on the mock. With `KAFKA_BOOTSTRAP` (and what else `scripts/kafka run` sets)
//! it runs on that cluster; `scripts/test` does so for every supported version. What needs a real broker is listed as
//! ignored on the mock, and what needs one before Kafka 3.0 (`KAFKA_VERSION`), the last that wrote message sets, on
//! later ones. `MILENA_REQUIRE_KAFKA=1` makes a missing broker a failure.
#![allow(clippy::print_stdout, reason = "a test program reports")]
#![allow(clippy::disallowed_methods, reason = "tests read clocks and spawn")]

mod admin;
mod chain;
mod cluster;
mod console;
mod consume;
mod failover;
mod foreign;
mod groups;
mod million;
mod nearby;
mod never_stuck;
mod old_formats;
mod produce;
#[cfg(feature = "tls")]
mod security;
#[path = "../wires/tap.rs"]
mod tap;
#[cfg(feature = "tls")]
mod tls_cost;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use cluster::Cluster;
use libtest_mimic::{Arguments, Trial};

/// A busy machine may be slow. Nothing here waits for so long unless something is broken; but the long chain, which finds out
/// itself whether it is stuck.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let is_real = std::env::var_os("KAFKA_BOOTSTRAP").is_some();
    if !is_real && std::env::var_os("MILENA_REQUIRE_KAFKA").is_some_and(|value| value == "1") {
        println!(
            "MILENA_REQUIRE_KAFKA=1, and KAFKA_BOOTSTRAP is not set: run this by scripts/test or scripts/kafka run"
        );
        return ExitCode::FAILURE;
    }
    // Without a version they are tried, and fail, rather than be left out where they belong.
    let version = std::env::var("KAFKA_VERSION").unwrap_or_default();
    let is_3_or_later =
        version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 3);
    let mut arguments = Arguments::from_args();
    // The million's figures, and the kills, want the broker for themselves; the mock has none to share.
    if is_real {
        arguments.test_threads = Some(1);
    } else {
        println!("integration suite on the mock cluster; what is ignored needs a real Kafka: scripts/test");
    }
    let mut trials = Vec::new();
    macro_rules! both {
        ($($module:ident::$test:ident)*) => {
            $(trials.push(trial(concat!(stringify!($module), "::", stringify!($test)), $module::$test));)*
        };
    }
    macro_rules! real {
        ($($module:ident::$test:ident)*) => {
            $(trials.push(
                trial(concat!(stringify!($module), "::", stringify!($test)), $module::$test).with_ignored_flag(!is_real),
            );)*
        };
    }
    both! {
        admin::topics_are_created_described_listed_and_deleted
        admin::refusals_are_typed_and_name_the_topic
        admin::partitions_are_added
        admin::the_cluster_is_described
        produce::every_shape_of_record_comes_back
        produce::receipts_tell_where_records_are
        produce::every_kind_of_acks
        produce::keyed_records_keep_their_order
        produce::records_of_many_sizes
        produce::sixteen_tasks_share_a_producer
        produce::log_append_time
        produce::bad_input
        produce::a_topic_deleted_under_way
        produce::partitions_added_under_way
        produce::every_codec_of_ours
        produce::batches_too_large_for_the_topic_are_split
        consume::seek_and_position
        consume::batches_are_lent_up_to_the_end
        consume::partitions_are_added_paused_and_sought_by_time
        consume::a_topic_made_again_is_reported
        consume::reset_policies
        consume::offsets_are_committed_and_found_again
        consume::a_stream_waits_for_what_comes
        consume::bad_input
        groups::members_share_and_nothing_is_read_twice
        groups::partitions_that_stay_flow_on
        groups::a_member_that_dies_is_replaced
        groups::a_listener_commits_and_seeks
        groups::what_is_dealt_with_is_committed
        groups::a_static_member_comes_back
        groups::a_pattern_finds_topics_that_come_later
        groups::a_member_that_does_not_poll_is_out_and_comes_back
        groups::the_best_protocol_is_found
        chain::records_flow_through_three_groups
        foreign::a_rolling_upgrade_from_eager_to_cooperative
        never_stuck::a_rejected_record
        never_stuck::a_deleted_topic
        never_stuck::an_idle_consumer
        nearby::the_replica_in_the_same_rack_is_read_from
        million::a_million_records
    }
    macro_rules! before_3 {
        ($($module:ident::$test:ident)*) => {
            $(trials.push(
                trial(concat!(stringify!($module), "::", stringify!($test)), $module::$test)
                    .with_ignored_flag(!is_real || is_3_or_later),
            );)*
        };
    }
    real! {
        console::console_producer_to_ours
        console::ours_to_console_consumer
        console::every_codec_of_the_console_producer
        console::every_codec_to_the_console_consumer
        console::a_batch_beyond_the_limit_is_skipped
        foreign::members_of_other_clients_share_a_group
        failover::a_killed_broker_loses_and_doubles_nothing
        failover::a_stopped_broker_delays_nobody_else
        nearby::a_killed_replica_nearby_is_left_for_the_leader
        never_stuck::a_partition_without_isr
        never_stuck::a_throttled_broker
        never_stuck::a_stopped_follower
    }
    // On clusters of `scripts/kafka run --secure`.
    #[cfg(feature = "tls")]
    {
        let is_secure = std::env::var_os("KAFKA_SECRETS").is_some();
        macro_rules! secure {
            ($($module:ident::$test:ident)*) => {
                $(trials.push(
                    trial(concat!("secure::", stringify!($test)), $module::$test).with_ignored_flag(!is_secure),
                );)*
            };
        }
        secure! {
            security::the_matrix_of_tls_and_sasl
            security::sasl_without_tls
            security::wrong_passwords
            security::certificates_that_are_refused
            security::protocols_that_do_not_match
            security::a_missing_acl
            security::sessions_are_renewed_under_load
            security::certificates_are_reloaded
            tls_cost::produce_over_tls_costs_at_most_half_more
        }
    }
    before_3! {
        old_formats::every_format_and_codec
        old_formats::one_log_of_three_formats
        old_formats::a_set_beyond_the_limit_is_skipped
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F>(name: &str, test: fn(Cluster) -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let cluster = Cluster::from_environment().await;
            let test = test(cluster);
            let limit = if std::env::var_os("MILENA_CHAIN_RECORDS").is_some() { 20 * LIMIT } else { LIMIT };
            tokio::time::timeout(limit, test).await.map_err(|_| format!("not done within {limit:?}").into())
        })
    })
}
