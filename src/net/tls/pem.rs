//! Certificates and keys from PEM; and what a file is that is not PEM.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::SecretDocument;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::machine::sasl::Secret;

/// All certificates of `pem`. `what` names it in errors.
pub fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{what} holds no certificate: {}", expected(pem))),
        Err(error) => Err(format!("{what} is not valid PEM: {error}")),
    }
}

/// The private key of `pem`, which may be encrypted.
pub fn private_key(what: &str, pem: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, String> {
    if contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        let password = password.ok_or_else(|| {
            format!("{what} is encrypted: give its pass phrase (Tls::key_password, ssl.key.password)")
        })?;
        return decrypt(what, pem, password);
    }
    if contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "{what} is encrypted in the old way of OpenSSL: convert it by `openssl pkcs8 -topk8 -in OLD.pem -out NEW.pem`"
        ));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| format!("{what} holds no private key: {}", expected(pem)))
}

fn decrypt(what: &str, pem: &[u8], password: &Secret) -> Result<PrivateKeyDer<'static>, String> {
    let invalid = |error: &dyn std::fmt::Display| format!("{what} is not a valid encrypted key: {error}");
    let begin = pem.windows(5).position(|window| window == b"-----").unwrap_or(0);
    // A chain may stand before or behind it.
    let begin = find(&pem[begin..], b"-----BEGIN ENCRYPTED PRIVATE KEY-----").map_or(begin, |at| begin + at);
    const END: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";
    let end = find(&pem[begin..], END).map(|at| begin + at + END.len()).ok_or_else(|| invalid(&"it has no end"))?;
    let text = std::str::from_utf8(&pem[begin..end]).map_err(|error| invalid(&error))?;
    let (_, document) = SecretDocument::from_pem(text).map_err(|error| invalid(&error))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| invalid(&error))?;
    let key = encrypted.decrypt(password.expose()).map_err(|error| {
        format!(
            "{what} cannot be decrypted ({error}): the pass phrase is wrong, or the cipher is an old one; convert it by \
             `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem`"
        )
    })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))
}

/// What to do about bytes that are not what they should be.
fn expected(bytes: &[u8]) -> &'static str {
    match bytes {
        // JKS and JCEKS
        [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..] => {
            "it is a Java key store; convert it by `keytool -importkeystore -srckeystore OLD.jks -destkeystore NEW.p12 \
             -deststoretype PKCS12` and then `openssl pkcs12 -in NEW.p12 -out NEW.pem`"
        }
        // DER: a sequence
        [0x30, ..] => {
            "it is DER or PKCS#12; convert it by `openssl x509 -inform der -in OLD -out NEW.pem` or \
             `openssl pkcs12 -in OLD.p12 -out NEW.pem`"
        }
        _ => "PEM is expected, as in -----BEGIN CERTIFICATE-----",
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    find(text, what).is_some()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `openssl genpkey`, `openssl pkcs8 -topk8 -passout pass:secret`.
    const KEY: &str = include_str!("testdata/key.pem");
    const ENCRYPTED: &str = include_str!("testdata/key-encrypted.pem");
    const CERTIFICATE: &str = include_str!("testdata/certificate.pem");

    #[test]
    fn an_encrypted_key_is_the_plain_one() {
        let plain = private_key("key", KEY.as_bytes(), None).unwrap();
        let secret = Secret::new("secret");
        for pem in [ENCRYPTED.to_owned(), format!("{CERTIFICATE}{ENCRYPTED}{CERTIFICATE}")] {
            let decrypted = private_key("key", pem.as_bytes(), Some(&secret)).unwrap();
            assert_eq!(decrypted.secret_der(), plain.secret_der());
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        let wrong = Secret::new("wrong");
        for (pem, password, part) in [
            (ENCRYPTED, None, "Tls::key_password"),
            (ENCRYPTED, Some(&wrong), "the pass phrase is wrong"),
            (CERTIFICATE, None, "holds no private key"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", None, "openssl pkcs8 -topk8"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA", Some(&wrong), "it has no end"),
        ] {
            let error = private_key("key.pem", pem.as_bytes(), password).unwrap_err();
            assert!(error.contains(part) && error.starts_with("key.pem "), "{error}");
        }
    }

    #[test]
    fn what_is_not_pem_names_its_conversion() {
        for (bytes, part) in [
            (&[0xfe, 0xed, 0xfe, 0xed, 0, 0][..], "keytool -importkeystore"),
            (&[0x30, 0x82, 1, 0], "openssl pkcs12"),
            (b"hello", "PEM is expected"),
            (b"", "PEM is expected"),
        ] {
            let error = certificates("ca", bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(certificates("ca", format!("{CERTIFICATE}{CERTIFICATE}").as_bytes()).unwrap().len(), 2);
    }
}
