//! Names and passwords as SCRAM wants them.

use std::borrow::Cow;

use super::failure::Problem;
use super::secret::Secret;

/// A name in a SCRAM message (RFC 5802, 5.1): `,` and `=` are escaped.
pub fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// SASLprep (RFC 4013): one spelling for what looks the same, an error for what cannot be seen.
pub fn prepare(text: &str) -> Result<Cow<'_, str>, Problem> {
    stringprep::saslprep(text).map_err(|_| {
        Problem::Credentials(
            "SASLprep (RFC 4013) forbids a character of the user name or password; Kafka's own tools do not apply it: \
             Sasl::without_saslprep sends them as they are",
        )
    })
}

/// [`prepare`] for a password. What is not UTF-8 has no characters, and stays as it is.
pub fn prepare_password(password: &Secret) -> Result<Secret, Problem> {
    match std::str::from_utf8(password.expose()) {
        Ok(text) => Ok(match prepare(text)? {
            Cow::Borrowed(_) => password.clone(),
            Cow::Owned(prepared) => Secret::new(prepared),
        }),
        Err(_) => Ok(password.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("a,b=c=2C"), "a=2Cb=3Dc=3D2C");
    }

    #[test]
    fn the_examples_of_rfc_4013() {
        for (text, prepared) in
            [("I\u{ad}X", "IX"), ("user", "user"), ("USER", "USER"), ("\u{aa}", "a"), ("\u{2168}", "IX")]
        {
            assert_eq!(prepare(text).unwrap(), prepared, "{text}");
            assert_eq!(prepare_password(&Secret::new(text)).unwrap(), Secret::new(prepared));
        }
        assert!(prepare("\u{7}").is_err(), "prohibited");
        assert!(prepare("\u{627}\u{31}").is_err(), "bidirectional");
        assert_eq!(prepare_password(&Secret::new([0xff, 0xfe])).unwrap(), Secret::new([0xff, 0xfe]));
    }
}
