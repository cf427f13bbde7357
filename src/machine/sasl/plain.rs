//! PLAIN (RFC 4616): user and password as they are. Only for connections that nobody listens to.
//!
//! ```text
//!   C: | authorization id, empty | NUL | user | NUL | password |
//! ```

use std::sync::Arc;

use super::failure::Problem;
use super::secret::Secret;

#[derive(Debug)]
pub struct Plain {
    user: Arc<str>,
    password: Secret,
}

impl Plain {
    pub fn new(user: Arc<str>, password: Secret) -> Result<Self, Problem> {
        if user.is_empty() || password.expose().is_empty() {
            return Err(Problem::Credentials("user and password must not be empty"));
        }
        if user.contains('\0') || password.expose().contains(&0) {
            return Err(Problem::Credentials("PLAIN has no way to say a NUL"));
        }
        Ok(Self { user, password })
    }

    pub fn principal(&self) -> Arc<str> {
        Arc::clone(&self.user)
    }

    pub fn message(&self) -> Secret {
        // One allocation: what a growing buffer leaves behind is not wiped.
        let mut message = Vec::with_capacity(2 + self.user.len() + self.password.expose().len());
        message.push(0);
        message.extend_from_slice(self.user.as_bytes());
        message.push(0);
        message.extend_from_slice(self.password.expose());
        Secret::new(message)
    }

    pub fn redact(&self, text: &str) -> String {
        self.password.redact(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_4616() {
        let plain = Plain::new("tim".into(), Secret::new("tanstaaftanstaaf")).unwrap();
        assert_eq!(plain.message().expose(), b"\0tim\0tanstaaftanstaaf");
        assert_eq!(format!("{plain:?}"), r#"Plain { user: "tim", password: [secret] }"#);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for (user, password) in [("", "x"), ("x", ""), ("a\0b", "x"), ("a", "x\0y")] {
            let refused = Plain::new(user.into(), Secret::new(password));
            assert!(matches!(refused, Err(Problem::Credentials(_))), "{user:?} {password:?}");
        }
    }
}
