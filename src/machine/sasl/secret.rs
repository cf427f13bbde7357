//! Bytes that nobody may read but their recipient.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

/// A password, a token, or what is derived from one: overwritten when it is dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// For the wire; wiped when the last reference is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.0)
    }

    /// `text` without this secret in it: a peer that knows it may quote it.
    pub fn redact(&self, text: &str) -> String {
        match std::str::from_utf8(&self.0) {
            Ok(secret) if !secret.is_empty() => text.replace(secret, "[redacted]"),
            _ => text.to_owned(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
        assert_eq!(secret.redact("wrong password hunter2, hunter22"), "wrong password [redacted], [redacted]2");
        assert_eq!(Secret::new("").redact("text"), "text");
        assert_eq!(secret.into_bytes(), "hunter2");
    }
}
