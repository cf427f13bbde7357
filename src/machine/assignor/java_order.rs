//! The orders of Java that show in assignments: of its strings, and of its hash maps.
//!
//! Java's assignors walk hash maps keyed by member id, topic or partition, and give what is left over to whoever comes
//! first. That order follows from the keys alone, and is documented nowhere but is the same in every JVM:
//!
//! ```text
//!   hash      of a string: s[0]·31ⁿ⁻¹ + … + s[n-1] over UTF-16 units
//!   bucket    (hash ^ hash >>> 16) & (buckets - 1)
//!   walk      bucket by bucket; within one as they were put in, or the other way round (`put`, `computeIfAbsent`)
//!   growth    from 16 buckets, doubled when more than ¾ are taken; never back
//! ```

use std::cmp::Ordering;

/// As `String.compareTo`: by UTF-16 units, which for characters beyond U+FFFF is not the order of code points.
pub fn compare(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// As `String.hashCode`.
pub fn hash(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

/// As `TopicPartition.hashCode`, from the hash of the topic.
pub fn partition_hash(topic: u32, partition: u32) -> u32 {
    (31u32.wrapping_add(partition)).wrapping_mul(31).wrapping_add(topic)
}

/// A set that is walked as a `HashSet`, or the keys of a `HashMap`.
#[derive(Clone, Debug)]
pub struct JavaSet<K> {
    buckets: Vec<Vec<(u32, K)>>,
    len: usize,
}

/// The buckets of a map that was given no capacity.
const BUCKETS: usize = 16;
/// A bucket that grows beyond this doubles a small map, and becomes a tree in a large one, which is walked nearly the same.
const LONG: usize = 8;
const LARGE: usize = 64;

impl<K> Default for JavaSet<K> {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), len: 0 }
    }
}

impl<K: PartialEq> JavaSet<K> {
    /// False if it is there already.
    pub fn insert(&mut self, hash: u32, key: K) -> bool {
        let hash = hash ^ hash >> 16;
        let at = self.bucket(hash);
        let bucket = &mut self.buckets[at];
        if bucket.iter().any(|(_, other)| *other == key) {
            return false;
        }
        bucket.push((hash, key));
        if bucket.len() > LONG && self.buckets.len() < LARGE {
            self.double();
        }
        self.len += 1;
        if self.len > self.buckets.len() / 4 * 3 {
            self.double();
        }
        true
    }

    /// As `computeIfAbsent` does it: in front of its bucket, and growing one key later.
    fn insert_first(&mut self, hash: u32, key: K) {
        let hash = hash ^ hash >> 16;
        if self.buckets[self.bucket(hash)].iter().any(|(_, other)| *other == key) {
            return;
        }
        if self.len > self.buckets.len() / 4 * 3 {
            self.double();
        }
        let at = self.bucket(hash);
        self.buckets[at].insert(0, (hash, key));
        if self.buckets[at].len() >= LONG && self.buckets.len() < LARGE {
            self.double();
        }
        self.len += 1;
    }

    pub fn remove(&mut self, hash: u32, key: &K) {
        let at = self.bucket(hash ^ hash >> 16);
        let before = self.buckets[at].len();
        self.buckets[at].retain(|(_, other)| other != key);
        self.len -= before - self.buckets[at].len();
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.buckets.iter().flatten().map(|(_, key)| key)
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    fn double(&mut self) {
        let buckets = (0..2 * self.buckets.len()).map(|_| Vec::new()).collect();
        for (hash, key) in std::mem::replace(&mut self.buckets, buckets).into_iter().flatten() {
            let at = self.bucket(hash);
            self.buckets[at].push((hash, key));
        }
    }
}

/// The indices of `keys`, each key once, in the order in which a map walks that they were put into one after the other.
pub fn walk<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    let mut set = JavaSet::default();
    for (index, key) in keys.into_iter().enumerate() {
        set.insert(hash(key), Keyed { key, index });
    }
    set.iter().map(|keyed| keyed.index).collect()
}

/// The same for a map that was filled by `computeIfAbsent`.
pub fn walk_computed<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    let mut set = JavaSet::default();
    for (index, key) in keys.into_iter().enumerate() {
        set.insert_first(hash(key), Keyed { key, index });
    }
    set.iter().map(|keyed| keyed.index).collect()
}

struct Keyed<'a> {
    key: &'a str,
    index: usize,
}

impl PartialEq for Keyed<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `String.hashCode` and `HashMap.keySet` say in Java 17.
    #[test]
    fn is_javas() {
        assert_eq!((hash(""), hash("orders"), hash("é😀")), (0, 3_286_196_965, 1_996_812));
        assert_eq!(partition_hash(hash("orders"), 3), (31 * (31 + 3)) + 3_286_196_965);
        let keys: Vec<String> = (0..14).map(|n| format!("consumer-{n}")).collect();
        let walked = |n: usize| walk(keys[..n].iter().map(String::as_str));
        assert_eq!(walked(12), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(walked(14), [11, 10, 6, 5, 4, 3, 2, 13, 1, 12, 0, 9, 8, 7]);
        // Of one bucket.
        let topics = ["t8", "orders12"];
        assert_eq!((walk(topics), walk_computed(topics)), (vec![0, 1], vec![1, 0]));
    }

    #[test]
    fn strings_compare_by_their_units() {
        assert_eq!(compare("\u{ffff}", "\u{10000}"), Ordering::Greater);
        assert_eq!("\u{ffff}".cmp("\u{10000}"), Ordering::Less);
    }

    #[test]
    fn a_key_is_there_once_and_can_go() {
        let mut set = JavaSet::default();
        assert!(set.insert(7, "a") && set.insert(7 + 16, "b") && !set.insert(7, "a"));
        assert_eq!(set.iter().collect::<Vec<_>>(), [&"a", &"b"]);
        set.remove(7, &"a");
        set.remove(7, &"a");
        assert!(!set.is_empty() && set.iter().eq([&"b"]));
    }
}
