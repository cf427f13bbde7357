//! OAUTHBEARER (RFC 7628) with Kafka's extensions (KIP-342).
//!
//! ```text
//!   C: n,, ^A auth=Bearer TOKEN ^A key=value ^A key=value ^A ^A
//!   S: (nothing)                      accepted
//!   S: {"status":"invalid_token"}     refused; C: ^A; S: the refusal
//! ```

use std::sync::Arc;

use super::exchange::Step;
use super::failure::{Problem, tame};
use super::secret::Secret;
use crate::wire::error_code::ErrorCode;

#[derive(Debug)]
pub struct OAuthBearer {
    token: Secret,
    principal: Option<Arc<str>>,
    extensions: Vec<(String, String)>,
    /// What the broker said against the token, as JSON.
    refused: Option<Arc<str>>,
}

impl OAuthBearer {
    pub fn new(token: Secret, principal: Option<Arc<str>>, extensions: Vec<(String, String)>) -> Result<Self, Problem> {
        // b64token of RFC 6750, 2.1
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
        if token.expose().is_empty() || !token.expose().iter().all(is_token) {
            return Err(Problem::Credentials("a token has letters, digits and -._~+/= only"));
        }
        for (key, value) in &extensions {
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphabetic()) || key == "auth" {
                return Err(Problem::Credentials("an extension's name has letters only, and is not `auth`"));
            }
            let is_value = |b: u8| matches!(b, 0x21..=0x7e | b' ' | b'\t' | b'\r' | b'\n');
            if value.is_empty() || !value.bytes().all(is_value) {
                return Err(Problem::Credentials("an extension's value has visible ASCII and white space only"));
            }
        }
        Ok(Self { token, principal, extensions, refused: None })
    }

    pub fn principal(&self) -> Option<Arc<str>> {
        self.principal.clone()
    }

    pub fn message(&self) -> Secret {
        let extensions: String = self.extensions.iter().map(|(key, value)| format!("{key}={value}\x01")).collect();
        let pieces = [b"n,,\x01auth=Bearer ", self.token.expose(), b"\x01", extensions.as_bytes(), b"\x01"];
        // One allocation: what a growing buffer leaves behind is not wiped.
        let mut message = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| message.extend_from_slice(piece));
        Secret::new(message)
    }

    pub fn handle(&mut self, answer: &[u8]) -> Result<Step, Problem> {
        match &self.refused {
            None if answer.is_empty() => Ok(Step::Over),
            None => {
                self.refused = Some(tame(&self.redact(&String::from_utf8_lossy(answer))).into());
                Ok(Step::Say(Secret::new(*b"\x01")))
            }
            // The code should have said so already.
            Some(message) => Err(self.refusal(ErrorCode::SASL_AUTHENTICATION_FAILED, message)),
        }
    }

    /// What was wrong with the token, if the broker has said.
    pub fn said(&self) -> Option<&Arc<str>> {
        self.refused.as_ref()
    }

    pub fn redact(&self, text: &str) -> String {
        self.token.redact(text)
    }

    fn refusal(&self, code: ErrorCode, message: &Arc<str>) -> Problem {
        Problem::Refused { code, message: Arc::clone(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(token: &str, extensions: &[(&str, &str)]) -> Result<OAuthBearer, Problem> {
        let extensions = extensions.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        OAuthBearer::new(Secret::new(token), Some("bob".into()), extensions)
    }

    /// RFC 7628, 4.1, less the authorization id, and with Kafka's use of the pairs (KIP-342) for its host and port.
    #[test]
    fn the_example_of_rfc_7628() {
        let token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
        let bearer = bearer(token, &[("host", "server.example.com"), ("port", "143")]).unwrap();
        let expected = format!("n,,\x01auth=Bearer {token}\x01host=server.example.com\x01port=143\x01\x01");
        assert_eq!(bearer.message().expose(), expected.as_bytes());
    }

    #[test]
    fn a_refusal_is_read_and_acknowledged() {
        let mut bearer = bearer("abc", &[]).unwrap();
        // RFC 7628, 4.3
        let said = br#"{"status":"invalid_token","scope":"example_scope","token":"abc"}"#;
        assert_eq!(bearer.handle(said), Ok(Step::Say(Secret::new(*b"\x01"))));
        let Err(Problem::Refused { message, .. }) = bearer.handle(b"") else { panic!() };
        assert_eq!(&*message, r#"{"status":"invalid_token","scope":"example_scope","token":"[redacted]"}"#);
    }

    #[test]
    fn an_empty_answer_accepts() {
        assert_eq!(bearer("abc", &[]).unwrap().handle(b""), Ok(Step::Over));
    }

    #[test]
    fn nothing_is_smuggled_into_the_message() {
        for (token, extensions) in [
            ("", &[][..]),
            ("a\x01auth=Bearer b", &[]),
            ("a b", &[]),
            ("a", &[("auth", "x")]),
            ("a", &[("", "x")]),
            ("a", &[("a1", "x")]),
            ("a", &[("k", "x\x01y")]),
            ("a", &[("k", "ü")]),
            ("a", &[("k", "")]),
        ] {
            assert!(matches!(bearer(token, extensions), Err(Problem::Credentials(_))), "{token:?} {extensions:?}");
        }
        assert!(bearer("a", &[("logicalCluster", "lkc-1 \t2")]).is_ok());
    }
}
