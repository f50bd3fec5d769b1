//! JSON Web Tokens as the simulated servers sign them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::Serialize;

/// Signs tokens with one secret; the key schedule is computed once.
pub(crate) struct Signer {
    key: hmac::Key,
    header: &'static str,
}

impl Signer {
    /// `{"alg":"HS256","typ":"JWT"}`, as the X2 page's sample token has it.
    pub(crate) fn hs256(secret: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            header: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        }
    }

    /// `{"alg":"HS512"}`, as the servers of the ThingsBoard family sign.
    pub(crate) fn hs512(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA512, secret), header: "eyJhbGciOiJIUzUxMiJ9" }
    }

    /// A signed token with these claims, in the order the type declares them.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> String {
        let payload = serde_json::to_vec(claims).expect("claims are plain data");
        let mut token = String::with_capacity(512);
        token.push_str(self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = hmac::sign(&self.key, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        token
    }
}

/// A secret that differs from run to run, so that no test can come to depend on a token's text.
pub(crate) fn random_secret() -> [u8; 32] {
    let random = ring::rand::generate(&ring::rand::SystemRandom::new());
    random.expect("the system has a source of randomness").expose()
}
