//! Who does the cryptography: graviola, which is pure Rust and assembly, where the CPU can run it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::Error;

/// The way out, in every error about it.
const BRING_YOUR_OWN: &str = "give Tls::from_config a rustls::ClientConfig with another provider, such as ring or aws-lc-rs (both need a C compiler)";

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn provider() -> Result<Arc<CryptoProvider>, Error> {
    // Graviola panics where one is missing.
    check(FEATURES)?;
    Ok(Arc::new(rustls_graviola::default_provider()))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn provider() -> Result<Arc<CryptoProvider>, Error> {
    let arch = std::env::consts::ARCH;
    Err(Error::config(format!("there is no TLS provider without C for {arch}: {BRING_YOUR_OWN}")))
}

/// What graviola needs, and whether this CPU has it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Feature = (&'static str, fn() -> bool);

#[cfg(target_arch = "x86_64")]
const FEATURES: &[Feature] = &[
    ("adx", || std::arch::is_x86_feature_detected!("adx")),
    ("aes", || std::arch::is_x86_feature_detected!("aes")),
    ("avx", || std::arch::is_x86_feature_detected!("avx")),
    ("avx2", || std::arch::is_x86_feature_detected!("avx2")),
    ("bmi1", || std::arch::is_x86_feature_detected!("bmi1")),
    ("bmi2", || std::arch::is_x86_feature_detected!("bmi2")),
    ("pclmulqdq", || std::arch::is_x86_feature_detected!("pclmulqdq")),
    ("ssse3", || std::arch::is_x86_feature_detected!("ssse3")),
];
#[cfg(target_arch = "aarch64")]
const FEATURES: &[Feature] = &[
    ("aes", || std::arch::is_aarch64_feature_detected!("aes")),
    ("neon", || std::arch::is_aarch64_feature_detected!("neon")),
    ("pmull", || std::arch::is_aarch64_feature_detected!("pmull")),
    ("sha2", || std::arch::is_aarch64_feature_detected!("sha2")),
];

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn check(features: &[Feature]) -> Result<(), Error> {
    let missing: Vec<_> = features.iter().filter(|(_, has)| !has()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!("this CPU lacks {}, which TLS without C needs: {BRING_YOUR_OWN}", missing.join(", "))))
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_missing_feature_is_an_error_that_names_the_way_out() {
        let error = check(&[("aes", || true), ("avx2", || false), ("adx", || false)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.starts_with("this CPU lacks avx2, adx,") && text.contains("Tls::from_config"), "{text}");
        check(&[("aes", || true)]).unwrap();
    }
}
