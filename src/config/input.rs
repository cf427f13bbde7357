//! One property's value, as what it should be.

use std::sync::Arc;
use std::time::Duration;

use crate::assignor::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use crate::{Acks, Compression, GroupProtocol, IsolationLevel, OffsetReset};

/// A property as it was given.
pub(super) struct Input<'a>(pub &'a str);

impl Input<'_> {
    pub(super) fn text(&self) -> Result<Arc<str>, String> {
        Ok(self.0.into())
    }

    /// Milliseconds; librdkafka allows fractions.
    pub(super) fn ms(&self) -> Result<Duration, String> {
        let ms: f64 = self.0.parse().map_err(|_| "is no number of milliseconds".to_owned())?;
        Duration::try_from_secs_f64(ms / 1000.0)
            .map_err(|_| "is no time in milliseconds that can be waited for".to_owned())
    }

    pub(super) fn bytes(&self) -> Result<usize, String> {
        self.0.parse().map_err(|_| "is no number of bytes".to_owned())
    }

    /// librdkafka counts some sizes in kilobytes.
    pub(super) fn kilobytes(&self) -> Result<usize, String> {
        let kilobytes: usize = self.0.parse().map_err(|_| "is no number of kilobytes".to_owned())?;
        kilobytes.checked_mul(1024).ok_or_else(|| "is too large".to_owned())
    }

    pub(super) fn flag(&self) -> Result<bool, String> {
        match self.0.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        }
    }

    pub(super) fn level(&self) -> Result<i32, String> {
        self.0.parse().map_err(|_| "is no level of compression".to_owned())
    }

    pub(super) fn codec(&self) -> Result<Compression, String> {
        match self.0 {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "snappy" => Ok(Compression::Snappy),
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            _ => Err("is none of none, gzip, snappy, lz4 and zstd".to_owned()),
        }
    }

    pub(super) fn protocol(&self) -> Result<GroupProtocol, String> {
        match self.0.to_ascii_lowercase().as_str() {
            "classic" => Ok(GroupProtocol::Classic),
            "consumer" => Ok(GroupProtocol::Consumer),
            "auto" => Ok(GroupProtocol::Auto),
            _ => Err("is none of classic, consumer and auto".to_owned()),
        }
    }

    /// Java names classes, librdkafka and kafka-python what the group calls them.
    pub(super) fn assignors(&self) -> Result<Vec<Arc<dyn Assignor>>, String> {
        let names = self.0.split(',').map(str::trim);
        let assignors = names.map(|name| -> Result<Arc<dyn Assignor>, String> {
            Ok(match name.rsplit('.').next().unwrap_or_default() {
                "RangeAssignor" | "range" => Arc::new(Range),
                "RoundRobinAssignor" | "roundrobin" => Arc::new(RoundRobin),
                "StickyAssignor" | "sticky" => Arc::new(Sticky),
                "CooperativeStickyAssignor" | "cooperative-sticky" => Arc::new(CooperativeSticky),
                _ => {
                    return Err("names none of range, roundrobin, sticky and cooperative-sticky: give your own to \
                                ConsumerBuilder::partition_assignment_strategy"
                        .to_owned());
                }
            })
        });
        assignors.collect()
    }

    pub(super) fn isolation(&self) -> Result<IsolationLevel, String> {
        match self.0 {
            "read_uncommitted" => Ok(IsolationLevel::ReadUncommitted),
            "read_committed" => Ok(IsolationLevel::ReadCommitted),
            _ => Err("is neither read_uncommitted nor read_committed".to_owned()),
        }
    }

    pub(super) fn acks(&self) -> Result<Acks, String> {
        match self.0 {
            "all" | "-1" => Ok(Acks::All),
            "1" => Ok(Acks::Leader),
            "0" => Ok(Acks::None),
            _ => Err("is none of all, -1, 1 and 0".to_owned()),
        }
    }

    pub(super) fn reset(&self) -> Result<OffsetReset, String> {
        match self.0 {
            "earliest" | "smallest" | "beginning" => Ok(OffsetReset::Earliest),
            "latest" | "largest" | "end" => Ok(OffsetReset::Latest),
            "none" | "error" => Ok(OffsetReset::None),
            _ => {
                Err("is none of earliest, latest and none (by_duration is OffsetReset::ByDuration, in code)".to_owned())
            }
        }
    }
}

/// The name of `names` that `name` is most likely to be, if any is near.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|known| (distance(name, known), known)).min()?;
    (near.0 <= 2.max(name.len() / 4)).then_some(near.1)
}

/// How many insertions, deletions, replacements and swaps of neighbours make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = || ["linger.ms", "batch.size", "acks", "sasl.mechanism"].into_iter();
        for (name, found) in [
            ("liner.ms", Some("linger.ms")),
            ("linger_ms", Some("linger.ms")),
            ("akcs", Some("acks")),
            ("sasl.mechanim", Some("sasl.mechanism")),
            ("completely.else", None),
        ] {
            assert_eq!(nearest(name, names()), found, "{name}");
        }
        assert_eq!([distance("", "abc"), distance("abc", "abc"), distance("abcd", "acbd")], [3, 0, 1]);
    }
}
